"""The paper in miniature in a real browser: it loads, its filter works, it can be read on a phone and on a desk."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import needs_chromium, read_at, visit
from reproduction_fakes import FakeEditr1, write_recipes

from editr1.evaluation.reproduction.exhibits import reproduction
from editr1.evaluation.reproduction.places import Place, ReproductionSettings
from editr1.evaluation.reproduction.plan import plan
from editr1.evaluation.reproduction.run import read_outcomes, run_plan
from editr1.reports import write_reproduction

pytestmark = needs_chromium


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """All steps made by stand-ins, but for the Kontext base, which failed, and what is trained from it."""
    settings = ReproductionSettings(recipes=write_recipes(tmp_path / "recipes"))
    place = Place(tmp_path / "out", settings, shipped=tmp_path / "shipped", models=tmp_path / "models")
    run_plan(place, plan(), run=FakeEditr1(fail=["editor--base"]))
    found = reproduction(place, read_outcomes(place, plan()))
    return write_reproduction(found, tmp_path / "reproduction.html")


def test_filter(page: Path) -> None:
    """Without the Kontext base no editor is trained from it: of the editors' exhibits only Qwen's row is there."""
    answers, console = visit(
        page,
        """
        const a = { all: shown(), count: find("shown").textContent };
        a.whole = set("f-state", "whole"); await reset();
        a.part = set("f-state", "part"); await reset();
        a.missing = set("f-state", "missing"); await reset();
        a.text = set("f-text", "edit-r1  RRM 7b"); await reset();
        a.none = set("f-text", "zebra");
        a.empty = !find("empty").hidden;
        a.reset = await reset();
        a.title = page.title;
        return a;
        """,
    )
    assert console == ""
    everything = "accuracy benchmark effects editors editor-effects gsb dynamics-gcpo dynamics-editor"
    assert answers == {
        "all": everything,
        "count": "8 of 8 shown",
        "whole": "accuracy benchmark dynamics-gcpo",
        "part": "effects editors editor-effects dynamics-editor",
        "missing": "gsb",
        "text": "benchmark",
        "none": "",
        "empty": True,
        "reset": everything,
        "title": "Edit-R1 in miniature",
    }


@pytest.mark.parametrize("width", [390, 1440])
def test_it_can_be_read(page: Path, width: int) -> None:
    """Every figure has its mark, every curve its line, every step its row; two rows lack a figure for one reason."""
    found = read_at(
        page,
        width,
        """
        const rows = [...page.querySelectorAll("#accuracy tbody tr")].map((row) => row.children[4].textContent);
        return {
          marks: page.querySelectorAll("#accuracy .beside-mark").length,
          lines: page.querySelectorAll(".plot .line").length,
          gcpo: rows[2].replace(/\\s+/g, " ").trim(),
          reasons: page.querySelectorAll("#gsb .lacking li").length,
          steps: page.querySelectorAll(".steps tbody tr").length,
        };
        """,
    )
    assert found == {
        "marks": 5 + 1 + 5 + 1 + 2 + 3,
        "lines": 2 * 2 + 2,
        "gcpo": "85.0 80.0 to 90.0 2 pairs without an answer82.2",
        "reasons": 1,
        "steps": len(plan()),
    }
