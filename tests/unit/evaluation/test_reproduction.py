"""The paper in miniature: the plan is done once, goes on where it stopped, and makes nothing up."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from reproduction_fakes import UTILITY, FakeEditr1, pair_result, row, write_recipes

from editr1.cli.main import run as run_cli
from editr1.errors import ConfigError
from editr1.evaluation.gsb import Mark
from editr1.evaluation.published import published
from editr1.evaluation.reproduction import run as running
from editr1.evaluation.reproduction.curves import POINTS, points
from editr1.evaluation.reproduction.exhibits import reproduction
from editr1.evaluation.reproduction.people import mark, simulated_study
from editr1.evaluation.reproduction.places import MissingInput, Place, ReproductionSettings
from editr1.evaluation.reproduction.plan import plan
from editr1.evaluation.reproduction.run import Outcome, State, read_outcomes, run_plan, select
from editr1.stickers.annotators import SimulatedHuman


@pytest.fixture
def place(tmp_path):
    """Nothing ships, all recipes are there."""
    recipes = write_recipes(tmp_path / "recipes")

    def make(**settings):
        given = ReproductionSettings(recipes=recipes, **settings)
        return Place(tmp_path / "out", given, shipped=tmp_path / "shipped", models=tmp_path / "models")

    return make


def files(folder: Path):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def states(outcomes):
    return {outcome.step: outcome.state.value for outcome in outcomes}


def test_every_step_comes_after_those_that_it_needs():
    steps = plan()
    seen: set[str] = set()
    for step in steps:
        assert set(step.needs) <= seen, step.name
        assert step.name not in seen
        seen.add(step.name)


def test_from_scratch_everything_is_made_once(place):
    """Of all commands each is run once; a second run runs none and changes no file."""
    here, fake = place(), FakeEditr1()
    outcomes = run_plan(here, select(plan(), ()), run=fake)
    assert set(states(outcomes).values()) == {"made"}
    assert len(outcomes) == len(plan())
    assert len(fake.commands) == len(set(fake.commands)) == sum(step.command is not None for step in plan())
    before = files(here.out)
    again = FakeEditr1()
    assert states(run_plan(here, select(plan(), ()), run=again)) == states(outcomes)
    assert again.commands == []
    assert files(here.out) == before


def test_each_step_leaves_a_manifest(place):
    here = place()
    run_plan(here, select(plan(), ()), run=FakeEditr1())
    data = json.loads((here.out / "steps" / "accuracy--gcpo-small.json").read_text())
    manifest = data["manifest"]
    assert data["state"] == "made"
    assert manifest["command"][:3] == ["eval", "rm", "preference"]
    assert set(manifest["needs"]) == {"pairs", "gcpo/small"}
    assert manifest["attempts"] == 1
    assert manifest["seconds"] >= 0
    assert {"revision", "machine", "packages"} <= manifest["environment"].keys()
    assert manifest["settings"]["pairs"] == 1200
    assert data["result"]["run"] == {"benchmark": "pairs"}


def test_an_interrupted_reproduction_goes_on(place):
    """Stopped at the fourth command, it runs that one again and no other twice; both attempts' times count."""
    here, steps = place(), select(plan(), ())
    first = FakeEditr1(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        run_plan(here, steps, run=first)
    second = FakeEditr1()
    run_plan(here, steps, run=second)
    assert not set(first.commands) & set(second.commands)
    assert len(first.commands) + len(second.commands) == sum(step.command is not None for step in steps)
    assert json.loads(here.state_file("gcpo/large").read_text())["manifest"]["attempts"] == 2


def test_what_fails_is_said_to_have_failed_and_the_rest_goes_on(place):
    here = place()
    outcomes = run_plan(here, select(plan(), ()), run=FakeEditr1(fail=["gcpo--small"]))
    found = {outcome.step: outcome for outcome in outcomes}
    failed = found["gcpo/small"]
    assert failed.state is State.FAILED
    assert "ended with code 2: error: the sky fell (all of it is in" in failed.why
    assert found["accuracy/gcpo-small"].state is State.MISSING
    assert found["accuracy/gcpo-small"].why.startswith("gcpo/small failed: ")
    assert found["accuracy/gcpo-large"].there
    again = FakeEditr1()
    run_plan(here, select(plan(), ()), run=again)
    assert again.commands == [
        *("gcpo--small", "accuracy--gcpo-small", "benchmark--gcpo-small"),
        *("editor--gcpo-small", "edits--gcpo-small"),
    ]


def test_another_number_of_pairs_makes_what_depends_on_it(place):
    run_plan(place(), select(plan(), ()), run=FakeEditr1())
    again = FakeEditr1()
    run_plan(place(pairs=50), select(plan(), ()), run=again)
    assert sorted({name.split("--")[0] for name in again.commands}) == ["accuracy", "benchmark", "pairs"]


def test_a_model_that_was_trained_anew_is_measured_anew(place):
    """GCPO's state file is removed and its model is another: what needs it follows, and nothing else."""
    here = place()
    run_plan(here, select(plan(), ()), run=FakeEditr1())
    here.state_file("gcpo/small").unlink()

    class Other(FakeEditr1):
        def _leave(self, words, arguments, out):
            super()._leave(words, arguments, out)
            if words[:2] == ["train", "gcpo"]:
                (out / "model" / "config.json").write_text('{"another": true}')

    again = Other()
    run_plan(here, select(plan(), ()), run=again)
    assert again.commands == [
        *("gcpo--small", "accuracy--gcpo-small", "benchmark--gcpo-small"),
        *("editor--gcpo-small", "edits--gcpo-small"),
    ]


def ship(here, step, result):
    path = here.shipped_file(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(Outcome(step, step, State.MADE, "", result, {"seconds": 5.0, "key": "k"}).to_dict()))


def ship_model(here, name):
    (here.models / name).mkdir(parents=True)
    (here.models / name / "config.json").write_text("{}")


def test_from_checkpoints_nothing_is_trained_and_nothing_made_up(place):
    """One verifier ships, and the result of the ablation: these are measured and shown, all else is missing."""
    here = place(from_checkpoints=True)
    ship_model(here, "sticker-verifier-small")
    ship(here, "ablation", {"rows": [row("small", "think")], "pairs": 100})
    fake = FakeEditr1()
    found = states(run_plan(here, select(plan(), (), from_checkpoints=True), run=fake))
    assert fake.commands == ["pairs", "accuracy--sft-small", "benchmark--sft-small"]
    assert "curate" not in found
    there = {name: state for name, state in found.items() if state != "missing"}
    assert there == {
        "ablation": "shipped",
        "sft/small": "shipped",
        "pairs": "made",
        "accuracy/sft-small": "made",
        "benchmark/sft-small": "made",
    }
    exhibits = {e.id: e for e in reproduction(here, read_outcomes(here, plan())).exhibits}
    assert {name: e.state for name, e in exhibits.items()} == {
        "accuracy": "part",
        "benchmark": "part",
        "effects": "missing",
        "editors": "missing",
        "editor-effects": "missing",
        "gsb": "missing",
        "dynamics-gcpo": "missing",
        "dynamics-editor": "missing",
    }
    (small, *_) = exhibits["accuracy"].lines
    assert [cell.state for cell in small.cells] == ["shipped", "missing", "missing", "missing", "missing"]
    assert "no model sticker-verifier-small-gcpo ships" in small.cells[3].why
    assert all(cell.ours is None for line in exhibits["editors"].lines for cell in line.cells)


def test_a_measurement_that_ships_is_taken_where_its_model_does_not(place):
    here = place(from_checkpoints=True)
    ship(here, "edits/base", {"table": {"macro": {}, "categories": {}}})
    outcomes = {o.step: o for o in run_plan(here, select(plan(), ["edits/base"]), run=FakeEditr1())}
    assert outcomes["edits/base"].state is State.SHIPPED
    assert outcomes["edits/base"].seconds == 5.0


def test_a_difference_of_measurements_that_ship_ships_too_or_is_missing(place):
    here = place(from_checkpoints=True)
    for step in ("pairs", "accuracy/sft-small", "accuracy/gcpo-small", "effect/gcpo-small", "accuracy/sft-large"):
        ship(here, step, {"figures": {}})
    steps = select(plan(), ["effect/gcpo-small", "effect/size"], from_checkpoints=True)
    outcomes = {o.step: o for o in run_plan(here, steps, run=FakeEditr1(fail=["pairs"]))}
    assert outcomes["effect/gcpo-small"].state is State.SHIPPED
    assert outcomes["effect/size"].state is State.MISSING
    assert outcomes["effect/size"].why == "of accuracy/sft-small there are figures only, and no single answers"


def test_from_scratch_takes_no_result_that_ships(place):
    here = place()
    ship(here, "edits/base", {"table": {}})
    outcomes = run_plan(here, select(plan(), ["edits/base"]), run=FakeEditr1(fail=["editor--base"]))
    assert states(outcomes) == {"editor/base": "failed", "edits/base": "missing"}


def test_a_recipe_that_is_not_there_is_a_missing_step(place):
    here = place()
    (here.settings.recipes / "editor-flow-grpo.toml").unlink()
    outcomes = {o.step: o for o in run_plan(here, select(plan(), ["edits/gcpo-small"]), run=FakeEditr1())}
    assert outcomes["editor/gcpo-small"].state is State.MISSING
    assert "there is no recipe" in outcomes["editor/gcpo-small"].why
    assert outcomes["edits/gcpo-small"].state is State.MISSING


def test_a_run_that_is_given_is_taken_as_it_is(place, tmp_path):
    """The ablation with two of its eight rows: nothing is curated, nothing fine-tuned."""
    given = tmp_path / "my-ablation"
    given.mkdir()
    (given / "ablation.json").write_text(json.dumps({"rows": [row("small", "think"), row("small", "verify")]}))
    here, fake = place(use={"ablation": given}), FakeEditr1()
    steps = select(plan(), ["ablation", "accuracy/sft-small"], here.settings.use)
    assert "curate" not in {step.name for step in steps}
    outcomes = {o.step: o for o in run_plan(here, steps, run=fake)}
    assert outcomes["ablation"].there
    assert outcomes["sft/small"].state is State.MISSING
    assert fake.commands == ["pairs"]
    (small, *_) = reproduction(here, read_outcomes(here, plan())).exhibits[0].lines
    assert [cell.ours and cell.ours.value for cell in small.cells[:3]] == [0.6, 0.65, None]


def test_a_trained_editor_is_a_lora_on_its_base(place):
    """Before it is trained (in a dry run) as after it; a whole pipeline is taken as one."""
    here = place()
    (step,) = (s for s in plan() if s.name == "edits/qwen-gcpo-large")
    out = here.out.as_posix()
    editor = ["--editor", f"{out}/editor--qwen-base/model", "--lora", f"{out}/editor--qwen-gcpo-large/lora"]
    assert step.command(here)[7:11] == editor
    run_plan(here, select(plan(), ()), run=FakeEditr1())
    assert step.command(here)[7:11] == editor
    (here.out / "editor--qwen-gcpo-large" / "lora").rename(here.out / "editor--qwen-gcpo-large" / "pipeline")
    (here.out / "editor--qwen-gcpo-large" / "pipeline" / "pytorch_lora_weights.safetensors").unlink()
    assert step.command(here)[7:10] == ["--editor", f"{out}/editor--qwen-gcpo-large/pipeline", "--name"]


def test_a_folder_holds_one_kind_of_reproduction(place):
    run_plan(place(), select(plan(), ["pairs"]), run=FakeEditr1())
    with pytest.raises(ConfigError, match="holds a reproduction trained from scratch"):
        run_plan(place(from_checkpoints=True), select(plan(), ["pairs"]), run=FakeEditr1())


def test_from_checkpoints_a_training_needs_nothing():
    assert [s.name for s in select(plan(), ["sft/small"], from_checkpoints=True)] == ["sft/small"]


@pytest.mark.parametrize(
    ("only", "steps"),
    [
        (["pairs"], {"pairs"}),
        (["sft/small"], {"curate", "ablation", "sft/small"}),
        (["dynamics/gcpo-*"], {"curate", "ablation", *(f"{k}/{s}" for k in ("sft", "gcpo") for s in ("small", "large")),
                               "dynamics/gcpo-small", "dynamics/gcpo-large"}),
        (["editor/oracle", "pairs"], {"editor/base", "editor/oracle", "pairs"}),
    ],
)  # fmt: skip
def test_a_step_brings_what_it_needs(only, steps):
    assert {step.name for step in select(plan(), only)} == steps


def test_an_unknown_step_is_an_error():
    with pytest.raises(ConfigError, match="no step is called 'nonsense'"):
        select(plan(), ["nonsense"])


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
    assert trains[:2] == ("curate", "ablation")
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
    assert trains == ("curate", "ablation", "gcpo/small", "gcpo/large")


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


@pytest.fixture
def editr1(monkeypatch, tmp_path, capsys):
    write_recipes(tmp_path / "recipes" / "sticker")
    monkeypatch.chdir(tmp_path)
    fake = FakeEditr1()
    monkeypatch.setattr(running.run_plan, "__kwdefaults__", {**running.run_plan.__kwdefaults__, "run": fake})

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            run_cli(["reproduce", "--out", "out", *(str(a) for a in arguments)])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    call.fake = fake
    return call


def test_from_the_command_line(editr1):
    code, out, err = editr1("--only", "accuracy")
    assert code == 0
    assert "out/reproduction.html: 11 of 11 steps are there" in out
    assert "[1/11] curate: editr1 curate recipes/sticker/curate.toml --out out/curate" in err
    page = Path("out/reproduction.html").read_bytes()
    assert b"82.2" in page
    count = len(editr1.fake.commands)
    code, _, err = editr1("--only", "accuracy")
    assert (code, err, len(editr1.fake.commands)) == (0, "", count)
    assert Path("out/reproduction.html").read_bytes() == page


def test_list_and_dry_run_do_nothing(editr1):
    code, out, _ = editr1("--dry-run", "--only", "accuracy/gcpo-small")
    assert code == 0
    assert 'gcpo/small: editr1 train gcpo recipes/sticker/gcpo.toml --out out/gcpo--small --set parent="' in out
    code, listed, _ = editr1("--list")
    assert code == 0
    assert len(listed.splitlines()) == len(plan())
    assert len(editr1("--list", "--from-checkpoints")[1].splitlines()) == len(plan()) - 1, "nothing is curated"
    assert not Path("out").exists()
    assert editr1.fake.commands == []


def test_exit_codes(editr1):
    editr1.fake.fail = {"gcpo--small"}
    assert editr1("--only", "accuracy/gcpo-small")[0] == 1
    assert "gcpo/small" in editr1("--only", "accuracy/gcpo-small")[2]
    editr1.fake.fail = {"pairs"}
    assert editr1("--only", "pairs", "--out", "other")[0] == 2
    for arguments, why in (
        (("--only", "x"), "no step is called 'x'"),
        (("--use", "pairs"), "is not of the form STEP=DIR"),
        (("--use", "pairs=nowhere"), "there is no folder nowhere"),
    ):
        code, _, err = editr1(*arguments)
        assert code == 2
        assert why in err
