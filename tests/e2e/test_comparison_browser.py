"""The comparison page in a real browser: it loads, its filter works, and it can be read on a phone and on a desk."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import needs_chromium, read_at, visit
from report_samples import compared

from editr1.reports import write_comparison

pytestmark = needs_chromium


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return write_comparison(compared(tmp_path), tmp_path / "comparison.html")


def test_filter_and_order(page: Path) -> None:
    """Gaps of item k: A and B k, A and C 4 - k, B and C |2 k - 4|; of the last one A and B 9."""
    answers, console = visit(
        page,
        """
        const a = { all: shown(), count: find("shown").textContent };
        a.pair = set("f-pair", "AB");
        a.other = set("f-pair", "BC"); await reset();
        a.category = set("f-category", "color_alter"); await reset();
        a.text = set("f-text", "WORTH  6.0"); await reset();
        a.none = set("f-text", "nothing like it");
        a.empty = !find("empty").hidden;
        a.reset = await reset();
        a.id = set("f-sort", "id"); await reset();
        a.warnings = page.querySelectorAll("#warnings li").length;
        a.first = page.querySelector("#warnings li").textContent;
        a.title = page.title;
        return a;
        """,
    )
    assert console == ""
    assert answers == {
        "all": "task-10 task-0 task-1 task-3 task-2",
        "count": "5 of 5 shown",
        "pair": "task-10 task-3 task-2 task-1",
        "other": "task-0 task-1 task-3",
        "category": "task-1 task-3",
        "text": "task-3",
        "none": "",
        "empty": True,
        "reset": "task-10 task-0 task-1 task-3 task-2",
        "id": "task-0 task-1 task-2 task-3 task-10",
        "warnings": 2,
        "first": "seed differs: 0 in A and B, 5 in C",
        "title": "GEdit-Bench: 3 runs compared",
    }


@pytest.mark.parametrize("width", [390, 1440])
def test_it_can_be_read(page: Path, width: int) -> None:
    """Charts are drawn, pictures load, and those that are gone are said to be."""
    found = read_at(
        page,
        width,
        """
        const images = [...page.querySelectorAll("article img")];
        return {
          bars: page.querySelectorAll(".chart rect").length,
          whiskers: page.querySelectorAll(".whisker").length,
          pictures: [...new Set(images.map((i) => `${i.naturalWidth}x${i.naturalHeight}`))],
          missing: page.querySelectorAll(".missing").length,
        };
        """,
    )
    assert found == {"bars": 3 * (5 + 4 + 5), "whiskers": 6, "pictures": ["320x240"], "missing": 4}
