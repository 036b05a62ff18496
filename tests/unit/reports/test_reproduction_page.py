"""The page of the paper in miniature: escaped, the same each time, with curves where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_samples import ATTACK, LONG

from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.reproduction.run import Outcome, State
from editr1.evaluation.reproduction.shapes import Cell, Exhibit, Line, PictureRow, Plot, Reproduction
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
