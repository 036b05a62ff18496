"""The report in a real browser: headless Chromium opens it in a frame of a page that acts as a reader would."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import needs_chromium, read_at, visit
from PIL import Image

from editr1.reports import write_report
from editr1.types import Category, Check, EditVerdict, Principle, Usage, VerdictStatus

pytestmark = [pytest.mark.slow, needs_chromium]


def judged(score: float, met: tuple[bool, bool, bool], reason: str = "It is.") -> EditVerdict:
    families = (Category.KEEP, Category.FOLLOW, Category.QUALITY)
    checks = tuple(Check(Principle(f"Is {f.short} met?", f), m, reason) for f, m in zip(families, met))
    return EditVerdict(
        VerdictStatus.OK, checks, sum(met) / 3, score, "Looked at both.", "some/judge", "abc", Usage(9, 9)
    )


@pytest.fixture
def report(tmp_path: Path) -> Path:
    tall, wide = Image.new("RGB", (300, 700), "teal"), Image.new("RGB", (900, 200), "crimson")
    long = "averyveryverylongwordwithoutanyspaceinit" * 8
    truth = {"utility": 9.0, "checks": [True, True, True], "faults": ["x" * 90]}
    attack = "<script>document.title = 'owned'; throw new Error('owned')</script><img src=x onerror=alert(1)>"
    rows: list[tuple[str, EditVerdict, dict[str, object]]] = [
        ("e10", judged(8.0, (True, True, True)), {"kind": "color_alter", "editor": "one", "truth": truth}),
        ("e9", judged(2.0, (False, True, True), "A purple cow appeared."), {"kind": "subject-add", "truth": truth}),
        ("e1", judged(5.5, (True, False, False), long), {"kind": "color_alter", "editor": long}),
        ("bad", EditVerdict(VerdictStatus.REFUSED, error="declined " + long), {"edited": "gone.png"}),
        ("evil", judged(0.0, (False, False, False), attack), {"instruction": attack}),
    ]
    items = [
        {"id": n, "source": tall, "edited": wide, "instruction": "Do " + n, "verdict": v, **more} for n, v, more in rows
    ]
    return write_report(items, tmp_path / "report.html", title=long)


def test_filters_sorting_keys_and_viewer(report: Path) -> None:
    answers, console = visit(
        report,
        """
        const a = { all: shown() };
        a.text = set("f-text", "PURPLE  cow");
        a.count = find("shown").textContent;
        a.none = set("f-text", "nothing like it");
        a.empty = !find("empty").hidden;
        a.reset = await reset();
        a.emptyAfter = !find("empty").hidden;
        a.status = set("f-status", "refused"); await reset();
        a.kind = set("f-kind", "color_alter"); await reset();
        a.keep = set("f-failed", "Keep");
        a.any = set("f-failed", "any"); await reset();
        a.low = set("f-low", "5");
        a.high = set("f-high", "6");
        a.range = find("f-range").textContent; await reset();
        a.disagrees = set("f-disagrees", true); await reset();
        a.best = set("f-sort", "score-down");
        a.worst = set("f-sort", "score-up");
        a.id = set("f-sort", "id");
        a.apart = set("f-sort", "disagreement");
        await reset();
        press("/"); a.searching = page.activeElement.id;
        page.activeElement.blur();
        press("j"); press("j"); a.walked = page.activeElement.dataset.id;
        press("k"); a.back = page.activeElement.dataset.id;
        page.querySelector("#edit-2 .edited .zoom").click();
        a.open = find("viewer").open;
        a.caption = find("viewer-caption").textContent;
        press("ArrowLeft");
        a.flipped = find("viewer-caption").textContent;
        a.loaded = find("viewer-picture").src.startsWith("data:image/");
        return a;
        """,
    )
    assert console == ""
    assert answers == {
        "all": "e10 e9 e1 bad evil",
        "text": "e9",
        "count": "1 of 5 shown",
        "none": "",
        "empty": True,
        "reset": "e10 e9 e1 bad evil",
        "emptyAfter": False,
        "status": "bad",
        "kind": "e10 e1",
        "keep": "e9 evil",
        "any": "e9 e1 evil",
        "low": "e10 e1",
        "high": "e1",
        "range": "5 to 6",
        "disagrees": "e9",
        "best": "e10 e1 e9 evil bad",
        "worst": "evil e9 e1 e10 bad",
        "id": "bad e1 e9 e10 evil",
        "apart": "e9 e10 e1 bad evil",
        "searching": "f-text",
        "walked": "e9",
        "back": "e10",
        "open": True,
        "caption": "Edited · Do e9",
        "flipped": "Source · Do e9",
        "loaded": True,
    }


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_it_can_be_read(report: Path, width: int) -> None:
    """All pictures load, and what a model wrote did not run."""
    found = read_at(
        report,
        width,
        """
        const images = [...page.querySelectorAll("article img")];
        const sizes = [...new Set(images.map((i) => `${i.naturalWidth}x${i.naturalHeight}`))].sort();
        return { sizes, title: page.title };
        """,
    )
    assert found["sizes"] == ["300x700", "900x200"]
    assert found["title"] != "owned"
