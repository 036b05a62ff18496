"""The page of the paper in miniature: escaped, the same each time, with curves where they belong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_samples import ATTACK, LONG

from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.reproduction.run import Outcome, State
from editr1.evaluation.reproduction.shapes import Cell, Exhibit, Line, Making, PictureRow, Plot, Reproduction
from editr1.reports import write_reproduction
from editr1.reports.reproduction import _draw


def found(folder: Path) -> Reproduction:
    """Every kind of exhibit, with hostile texts."""
    half = Estimate(0.5, 0.4, 0.6, 10)
    cells = (Cell(half, 0.7, "made", note=ATTACK), Cell(None, 0.2, "missing", why=f"{ATTACK} {LONG}"), Cell())
    table = Exhibit("one", ATTACK, LONG, ATTACK, columns=("a", ATTACK, "c"), lines=(Line(ATTACK, LONG, cells),))
    gone = PictureRow(ATTACK, (("source", folder / "gone.png"),))
    odd = Line("r", "", (Cell(Estimate(-0.2, -1, 1, 3), None, "shipped"),))
    bars = {ATTACK: {LONG: Estimate(3, 2, 4, 5)}, "other": {}}
    points = Exhibit("two", "Points", "x", "y", "points", ("p",), (odd,), bars=bars, pictures=(gone,))
    signed = Exhibit("three", "S", "x", "y", "signed points", ("d",), (Line("r", "t", (Cell(None, 0.47, "failed"),)),))
    curves = Exhibit("four", "C", "x", "y", plots=(Plot(ATTACK, {LONG: ((0, 1), (5, 1))}),), missing=(ATTACK,))
    outcomes = (
        Outcome("s/1", ATTACK, State.MADE, manifest={"command": ["eval", ATTACK], "seconds": 61.0}),
        Outcome("s/2", "t", State.FAILED, ATTACK),
    )
    return Reproduction((table, points, signed, curves), outcomes, ("2 cores",), True)


def test_hostile_text_stays_text_and_nothing_is_fetched(tmp_path: Path) -> None:
    page = write_reproduction(found(tmp_path), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>document" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_reproduction(found(tmp_path), tmp_path / "a.html").read_bytes()
    assert write_reproduction(found(tmp_path), tmp_path / "b.html").read_bytes() == first


def test_states_and_times_are_said(tmp_path: Path) -> None:
    page = write_reproduction(found(tmp_path), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 made, 1 failed" in page
    assert "1 min 1 s" in page
    assert "those that ship with editr1" in page
    assert [s for s in ("part", "whole", "missing") if f'data-state="{s}"' in page] == ["part", "whole", "missing"]
    assert "No picture" in page


def test_what_is_missing_is_said_once_with_what_makes_it(tmp_path: Path) -> None:
    """Two of three rows lack all that was asked for them, one of the two only one figure, for another reason."""
    there = Cell(Estimate(0.5, 0.4, 0.6, 9), state="made")
    gone, late = Cell(state="missing", why="no model"), Cell(state="failed", why="it <fell>")
    lines = (Line("one", "", (gone, gone)), Line("two", "", (gone, Cell())), Line("three", "", (there, late)))
    making = Making("editr1 reproduce --only 'x/*'", ("gcpo/small", ATTACK))
    whole = Exhibit("all", "t", "p", "a", columns=("n",), lines=(Line("l", "", (there,)),))
    table = Exhibit("some", "t", "p", "a", columns=("n", "m"), lines=lines, making=making)
    path = write_reproduction(Reproduction((whole, table), (), (), False), tmp_path / "page.html")
    page = path.read_text(encoding="utf-8")
    first, second = re.findall(r"<article.*?</article>", page, flags=re.S)
    assert "To make" not in first
    assert "<b>one; two:</b> no model" in second
    assert "<b>three (m):</b> it &lt;fell&gt;" in second
    words = " ".join(re.sub("<[^>]*>", " ", second).split())
    assert "To make the rest: editr1 reproduce --only &#39;x/*&#39; , which trains gcpo/small, &lt;script" in words


def test_a_curve_by_hand() -> None:
    """Steps 0 to 10 are 300 wide from 44, values 0 to 1 with a twentieth of room 130 high from 8.

    At step 5 the value 0.5 lies in the middle: (194, 73). A flat curve is drawn in the middle too.
    """
    drawn = _draw(Plot("p", {"a": ((0, 0), (5, 0.5), (10, 1))}))
    assert drawn.curves[0].path.split("L")[1] == "194.0 73.0"
    assert drawn.curves[0].path.startswith("M44.0 ")
    assert [text for text, _ in drawn.across] == ["0", "5", "10"]
    assert [y for _, y in drawn.up] == pytest.approx([138, 73, 8])
    assert _draw(Plot("p", {"a": ((0, 3), (1, 3))})).curves[0].path == "M44.0 73.0L344.0 73.0"
