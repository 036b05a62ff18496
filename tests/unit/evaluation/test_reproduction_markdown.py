"""The tables of the paper in miniature as Markdown."""

from __future__ import annotations

from reproduction_fakes import FakeEditr1

from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.reproduction.exhibits import reproduction
from editr1.evaluation.reproduction.plan import plan
from editr1.evaluation.reproduction.run import read_outcomes, run_plan, select
from editr1.evaluation.reproduction.shapes import Cell, Exhibit, Line, Plot, Reproduction
from editr1.reports import write_reproduction_markdown


def tables(path, *exhibits):
    text = write_reproduction_markdown(Reproduction(exhibits, (), ("2 cores (x86_64)",), True), path).read_text()
    return [line for line in text.splitlines() if line.startswith(("|", "- "))]


def test_figures_stand_beside_the_published_ones(tmp_path):
    """0.6214 in [0.6, 0.65] is 62.1 [60.0, 65.0] percent; the reason is said once, and a bar is escaped."""
    lines = (
        Line("ours", "theirs", (Cell(Estimate(0.6214, 0.6, 0.65, 9), 0.693, "made"), Cell(paper=0.5))),
        Line("a|b", "", (Cell(state="missing", why="no model ships"), Cell())),
        Line("c", "", (Cell(state="missing", why="no model ships"), Cell())),
        Line("", "hosted", (Cell(paper=0.712), Cell())),
    )
    assert tables(tmp_path / "a.md", Exhibit("x", "X", "table 1", "About.", columns=("T", "V"), lines=lines)) == [
        "|  | T | V |",
        "| --- | --- | --- |",
        "| ours / *theirs* | 62.1 [60.0, 65.0] / *69.3* | *50.0* |",
        "| a\\|b | missing |  |",
        "| c | missing |  |",
        "| *hosted* | *71.2* |  |",
        "- missing: a|b; c: no model ships",
    ]


def test_differences_have_signs_and_notes_a_column(tmp_path):
    first = Cell(Estimate(0.148, 0.01, 0.28, 9), 0.25, "made", note="p = 0.03")
    cells = first, Cell(Estimate(-1, -2, 0, 9), 0.5, "made")
    points, percent = (
        Exhibit(scale, scale, "", "", scale=scale, columns=("difference",), lines=(Line("row", "", (cell,)),))
        for scale, cell in zip(("signed points", "signed percent"), cells, strict=True)
    )
    assert tables(tmp_path / "a.md", points, percent) == [
        "|  | difference | note |",
        "| --- | --- | --- |",
        "| row | +0.15 [+0.01, +0.28] / *+0.25* | p = 0.03 |",
        "|  | difference |",
        "| --- | --- |",
        "| row | -100.0 [-200.0, +0.0] / *+50.0* |",
    ]


def test_curves_are_told_by_their_ends(tmp_path):
    plot = Plot("reward", {"small, eval": ((0.0, 0.25), (14.0, 0.4), (42.0, 0.5125))})
    assert tables(tmp_path / "a.md", Exhibit("d", "D", "", "", plots=(plot,), missing=("large: not made yet",))) == [
        "| curve | from step | to step | first | last |",
        "| --- | --- | --- | --- | --- |",
        "| reward: small, eval | 0 | 42 | 0.25 | 0.512 |",
        "- missing: large: not made yet",
    ]


def test_a_whole_reproduction(place, tmp_path):
    """Every exhibit has its heading, every row as many cells as its head; written twice it has the same bytes."""
    here = place()
    run_plan(here, select(plan(), ()), run=FakeEditr1(), jobs=2)
    found = reproduction(here, read_outcomes(here, plan()))
    path = write_reproduction_markdown(found, tmp_path / "new" / "a.md")
    text = path.read_text()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [e.title for e in found.exhibits]
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({row.replace("\\|", "").count("|") for row in block.splitlines()}) == 1, block
    assert "minutes of steps, 2 at a time." in text
    assert text.endswith("\n")
    assert "\n\n\n" not in text
    assert write_reproduction_markdown(found, tmp_path / "b.md").read_bytes() == path.read_bytes()
