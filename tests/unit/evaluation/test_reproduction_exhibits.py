"""The paper in miniature, what it shows: tables, exhibits that lack something, effects, studies, curves."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise

import pytest
from reproduction_fakes import UTILITY, FakeEditr1, pair_result, row, ship_model

from editr1.evaluation.gsb import Mark
from editr1.evaluation.published import published
from editr1.evaluation.reproduction.curves import POINTS, points
from editr1.evaluation.reproduction.exhibits import reproduction
from editr1.evaluation.reproduction.people import mark, simulated_study
from editr1.evaluation.reproduction.places import MissingInput
from editr1.evaluation.reproduction.plan import plan
from editr1.evaluation.reproduction.run import State, read_outcomes, run_plan, select
from editr1.stickers.annotators import SimulatedHuman


def test_the_table_of_accuracy_by_hand(place):
    """Small: T .60, V .65, T+V .70, viescore .62 as the fakes have it, GCPO .75; large .1 more, and GCPO .85."""
    here = place()
    run_plan(here, select(plan(), ()), run=FakeEditr1())
    exhibit = reproduction(here, read_outcomes(here, plan())).exhibits[0]
    rows = {line.ours or line.paper: line for line in exhibit.lines}
    ours = [cell.ours.value for cell in rows["small verifier"].cells]
    assert ours == [pytest.approx(v) for v in (0.6, 0.65, 0.7, 0.75, 0.62)]
    assert [cell.paper for cell in rows["small verifier"].cells] == [0.641, 0.661, 0.693, 0.720, None]
    ours = [cell.ours.value for cell in rows["large verifier"].cells]
    assert ours == [pytest.approx(v) for v in (0.7, 0.75, 0.8, 0.85, 0.72)]
    assert [cell.paper for cell in rows["large verifier"].cells] == [0.689, 0.709, 0.754, 0.822, 0.683]
    assert rows["small verifier"].cells[3].note == "2 pairs without an answer"
    assert [cell.paper for cell in rows["Seed-1.6-VL"].cells] == [0.712, 0.694, 0.772, None, None]
    assert all(not cell.state for cell in rows["Seed-1.6-VL"].cells), "no counterpart is not a missing figure"
    assert exhibit.state == "whole"


def test_several_seeds_are_averaged(place, tmp_path):
    """.60 and .70: .65, from the lowest low, .55, to the highest high, .75."""
    given = tmp_path / "two-seeds"
    given.mkdir()
    rows = [row("small", "think"), row("small", "think", seed=1, more=0.1)]
    (given / "ablation.json").write_text(json.dumps({"rows": rows}))
    here = place(use={"ablation": given})
    run_plan(here, select(plan(), ["ablation"], here.settings.use), run=FakeEditr1())
    cell = reproduction(here, read_outcomes(here, plan())).exhibits[0].lines[0].cells[0]
    assert (cell.ours.value, cell.ours.low, cell.ours.high) == (
        pytest.approx(0.65),
        pytest.approx(0.55),
        pytest.approx(0.75),
    )
    assert cell.note == "mean of 2 seeds"


def test_a_judge_that_answered_nothing_is_no_figure(place):
    class Silent(FakeEditr1):
        def _leave(self, words, arguments, out):
            super()._leave(words, arguments, out)
            if words[:2] == ["eval", "rm"]:
                (out / "result.json").write_text(json.dumps(pair_result(0.5) | {"dimensions": {}}))

    here = place()
    outcomes = {o.step: o for o in run_plan(here, select(plan(), ["accuracy/sft-small"]), run=Silent())}
    assert outcomes["accuracy/sft-small"].state is State.MISSING
    assert "the judge answered no pair" in outcomes["accuracy/sft-small"].why


def test_the_editors_table_and_its_pictures(place):
    """Utilities as the fakes have them, SC, PQ and O of the paper beside; task 2 gained most: 5 points."""
    here = place()
    run_plan(here, select(plan(), ()), run=FakeEditr1())
    exhibit = next(e for e in reproduction(here, read_outcomes(here, plan())).exhibits if e.id == "editors")
    first = exhibit.lines[0]
    assert [cell.ours.value for cell in first.cells] == [UTILITY["edits--base"]] * 3
    assert [cell.paper for cell in first.cells] == [6.27, 7.25, 5.77]
    assert {line.paper for line in exhibit.lines if not line.ours} == {"FLUX.1-Kontext + RL with Seed-1.5-VL"}
    assert len(exhibit.bars["sticker Kontext"]) == 11
    assert list(exhibit.bars) == [line.ours for line in exhibit.lines if line.ours], "no two rows are called alike"
    assert exhibit.bars["+ RL with the large GCPO verifier"]["style_change"].value == 7.0
    assert [caption for caption, _ in exhibit.pictures[0].pictures] == [
        "source",
        "base, utility 5.0",
        "gcpo-large, utility 10.0",
    ]


def made_by(here):
    """Exhibit -> the command that makes what it lacks, and what that trains."""
    found = reproduction(here, read_outcomes(here, plan())).exhibits
    return {e.id: (shlex.split(e.making.command), e.making.trains) for e in found if e.making is not None}


def test_each_exhibit_that_lacks_something_names_the_command_that_makes_it(place):
    """Before anything is made, all eight; done as they say, one after the other, they make the page."""
    recipes = place().settings.recipes
    here = place(seed=3, use={"editor/qwen-base": recipes})
    commands = made_by(here)
    assert len(commands) == 8
    command, trains = commands["gsb"]
    given = ["--recipes", str(recipes), "--seed", "3", "--use", f"editor/qwen-base={recipes}"]
    assert command == ["editr1", "reproduce", "--out", str(here.out), *given, "--only", "gsb"]
    assert trains[:4] == ("curate", "base/small", "base/large", "ablation")
    assert trains[-2:] == ("editor/gcpo-small", "editor/gcpo-large")
    assert "editor/qwen-base" not in commands["editors"][1], "it is given"
    here = place()
    for command, _ in made_by(here).values():
        only = [name for option, name in pairwise(command) if option == "--only"]
        run_plan(here, select(plan(), only), run=FakeEditr1())
    (left,) = made_by(here).items()
    assert (left[0], left[1][1]) == ("effects", ()), "the stand-in's ablation holds one of its six differences"


def test_what_is_there_is_not_trained_again(place):
    here = place()
    run_plan(here, select(plan(), ["gcpo/small"]), run=FakeEditr1())
    assert made_by(here)["accuracy"][1] == ("gcpo/large",)


def test_what_does_not_ship_is_trained_in_a_folder_of_its_own(place):
    """Of checkpoints one verifier ships: before the first run all is sought there, after it what is missing is not."""
    here = place(from_checkpoints=True)
    ship_model(here, "sticker-verifier-small")
    command, trains = made_by(here)["benchmark"]
    assert (command[:5], trains) == (["editr1", "reproduce", "--out", str(here.out), "--from-checkpoints"], ())
    run_plan(here, select(plan(), (), from_checkpoints=True), run=FakeEditr1())
    command, trains = made_by(here)["benchmark"]
    assert command[:4] == ["editr1", "reproduce", "--out", f"{here.out}-trained"]
    assert "--from-checkpoints" not in command
    assert trains == ("curate", "base/small", "base/large", "ablation", "gcpo/small", "gcpo/large")


def test_effects_by_hand(place):
    """GCPO less SFT, small: 15 less 16 of 20 pairs, -0.05; large 17 less 16, 0.05. Published: .720 - .693, .822 - .754.

    The best editor gains 3 points on each task and 5 on one: its category has two tasks, so (10 * 3 + 4) / 11.
    """
    here = place()
    run_plan(here, select(plan(), ()), run=FakeEditr1())
    exhibits = {e.id: e for e in reproduction(here, read_outcomes(here, plan())).exhibits}
    rows = {line.ours: line.cells[0] for line in exhibits["effects"].lines}
    assert rows["GCPO less SFT, small"].ours.value == pytest.approx(-0.05)
    assert rows["GCPO less SFT, small"].paper == pytest.approx(0.027)
    assert rows["GCPO less SFT, large"].ours.value == pytest.approx(0.05)
    assert rows["GCPO less SFT, large"].paper == pytest.approx(0.068)
    assert rows["T+V less T, small"].ours.value == 0.1
    assert rows["T+V less T, small"].paper == pytest.approx(0.052)
    assert rows["T+V less V, small"].ours is None
    assert rows["T+V less viescore, small"].paper is None
    assert rows["large less small, SFT"].paper == pytest.approx(0.061)
    assert rows["verifier (SFT) less viescore-style scorer, large"].paper == pytest.approx(0.074)
    rows = {line.ours: line.cells[0] for line in exhibits["editor-effects"].lines}
    assert rows["RL with the large GCPO verifier"].ours.value == pytest.approx(34 / 11)
    assert rows["RL with the large GCPO verifier"].paper == pytest.approx(0.47)
    assert rows["RL with the oracle itself"].paper is None


def test_marks_of_simulated_people_by_hand():
    """Without noise a gap of half a point or more is a preference, a smaller one is none."""
    exact = SimulatedHuman("exact", noise=0.0, same_below=0.5)
    assert [mark(exact, 5.0, new, "c") for new in (5.6, 5.4, 5.0, 4.6, 4.4)] == [
        *(Mark.GOOD, Mark.SAME, Mark.SAME, Mark.SAME, Mark.BAD),
    ]
    noisy = SimulatedHuman("noisy", noise=2.0, same_below=0.5)
    marks = [mark(noisy, 5.0, 5.0, f"c{i}") for i in range(400)]
    good, bad = marks.count(Mark.GOOD), marks.count(Mark.BAD)
    assert abs(good - bad) < 60, "equal pictures win and lose alike"
    assert marks == [mark(noisy, 5.0, 5.0, f"c{i}") for i in range(400)]


def test_the_study_leaves_marks_that_gsb_reads(tmp_path):
    """Gaps of 4 points: all good but for noise; a task that one run did not judge is left out."""
    for name, scores in (("old", {"a": 2.0, "b": 3.0, "c": None}), ("new", {"a": 6.0, "b": 7.0, "c": 9.0})):
        (tmp_path / name).mkdir()
        rows = [{"key": k, "scores": {} if s is None else {"score": s}} for k, s in scores.items()]
        (tmp_path / name / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = simulated_study(tmp_path / "old", tmp_path / "new", tmp_path / "marks.jsonl")
    assert found["contexts"] == 2
    assert (found["gsb"]["good"], found["gsb"]["gsb"]["value"]) == (4, 1.0)
    lines = [json.loads(line) for line in (tmp_path / "marks.jsonl").read_text().splitlines()]
    assert {line["annotator"] for line in lines} == {"simulated:ann", "simulated:bo"}
    (tmp_path / "new" / "pairs.jsonl").write_text("")
    with pytest.raises(MissingInput, match="share no task"):
        simulated_study(tmp_path / "old", tmp_path / "new", tmp_path / "marks.jsonl")


def test_curves_are_thinned_by_means():
    """240 rows become 120 points, each the mean of two; a metric that is logged now and then has its own points."""
    rows = [{"step": s, "a": float(s)} | ({"b": 1.0} if s % 100 == 0 else {"b": None}) for s in range(240)]
    thinned = points(rows, "a")
    assert len(thinned) == POINTS
    assert thinned[:2] == [[0.5, 0.5], [2.5, 2.5]]
    assert points(rows, "b") == [[0.0, 1.0], [100.0, 1.0], [200.0, 1.0]]
    assert points(rows, "c") == []


def test_published_figures_have_sources():
    """A few from the paper, as its tables have them."""
    accuracy = {row.name: row.figures for row in published("accuracy")}
    assert accuracy["Qwen2.5-VL-7B"]["GCPO"] == 0.822
    assert published("gsb")[0].figures == {"GSB": 0.232}
    gedit = {row.name: row.figures for row in published("gedit")}
    assert gedit["FLUX.1-Kontext + RL with GCPO-RRM 7B"] == {"SC": 6.86, "PQ": 7.20, "O": 6.24}
    assert "arXiv 2604.27505" in published("gsb")[0].source
    assert all(row.source for table in ("accuracy", "gsb", "gedit", "editscore", "mmrb2") for row in published(table))
