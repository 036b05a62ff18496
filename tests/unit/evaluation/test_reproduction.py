"""The paper in miniature: the plan is done once, goes on where it stopped, and makes nothing up."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from reproduction_fakes import FakeEditr1, row, ship, ship_model, write_recipes

from editr1.cli.main import run as run_cli
from editr1.errors import ConfigError
from editr1.evaluation.reproduction import run as running
from editr1.evaluation.reproduction.exhibits import reproduction
from editr1.evaluation.reproduction.plan import plan
from editr1.evaluation.reproduction.run import State, read_outcomes, run_plan, select


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


@pytest.mark.parametrize("people", ["plain", "exacting"])
def test_the_pairs_are_compared_by_the_people_of_the_ablation(place, people):
    here = place()
    here.recipe("ablation.toml").write_text(f'[pairs]\npeople = "{people}"\n')
    (step,) = [step for step in plan() if step.name == "pairs"]
    command = step.command(here)
    assert command[command.index("--people") + 1] == people


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
    assert manifest["settings"]["pairs"] == 1000
    assert data["result"]["run"] == {"benchmark": "pairs"}


def test_an_interrupted_reproduction_goes_on(place):
    """Stopped at the sixth command, it runs that one again and no other twice; both attempts' times count."""
    here, steps = place(), select(plan(), ())
    first = FakeEditr1(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        run_plan(here, steps, run=first)
    second = FakeEditr1()
    run_plan(here, steps, run=second)
    assert not set(first.commands) & set(second.commands)
    assert len(first.commands) + len(second.commands) == sum(step.command is not None for step in steps)
    assert json.loads(here.state_file("gcpo/large").read_text())["manifest"]["attempts"] == 2


def test_two_at_a_time_give_the_same_and_no_step_begins_before_what_it_needs(place):
    """A stand-in that waits until two commands run at once: they do, never three, and each finds what it needs."""
    here, begun, steps = place(), [], {step.name: step for step in plan()}
    meeting = threading.Barrier(2)

    class Together(FakeEditr1):
        now = most = 0

        def __call__(self, arguments, log):
            step = log.stem.replace("--", "/", 1)
            for need in steps[step].needs:
                assert here.state_file(need).is_file(), f"{step} began before {need} had ended"
            begun.append(step)
            self.now += 1
            self.most = max(self.most, self.now)
            if step in ("pairs", "editor/base"):  # neither needs anything
                meeting.wait(timeout=60)
            code = super().__call__(arguments, log)
            self.now -= 1
            return code

    fake = Together()
    outcomes = run_plan(here, list(steps.values()), run=fake, jobs=2)
    assert fake.most == 2
    assert sorted(begun) == sorted(step.name for step in steps.values() if step.command)
    assert [outcome.step for outcome in outcomes] == list(steps), "in the plan's order"
    assert set(states(outcomes).values()) == {"made"}
    again = FakeEditr1()
    run_plan(here, list(steps.values()), run=again)
    assert again.commands == [], "one at a time takes what two at a time made"


def test_what_is_interrupted_beside_another_has_not_failed(place):
    """Ctrl-C reaches both commands: one raises, the other ends with a code, and neither is said to have failed."""
    here, both = place(), threading.Barrier(2)

    def run(arguments, log):
        both.wait(timeout=60)
        if log.stem == "pairs":
            raise KeyboardInterrupt
        time.sleep(0.5)
        return 130

    with pytest.raises(KeyboardInterrupt):
        run_plan(here, [step for step in plan() if step.name in ("pairs", "editor/base")], run=run, jobs=2)
    assert not list((here.out / "steps").glob("*.json"))


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


def test_what_is_trained_and_measured_anew_gets_a_new_folder(place):
    """GCPO's parent is another model: neither its checkpoints nor the judgements of its own former model are gone on
    with. More pairs, on the other hand, are judged where the first ones were."""
    run_plan(place(), select(plan(), ["accuracy/gcpo-small"]), run=FakeEditr1())
    here = place()
    here.state_file("sft/small").unlink()
    parent = here.folder("ablation") / "small-think+verify" / "model" / "config.json"
    parent.write_text('{"another": true}')

    class Other(FakeEditr1):
        def _leave(self, words, arguments, out):
            assert not (out / "result.json").exists(), "a former measurement"
            super()._leave(words, arguments, out)
            if words[:2] == ["train", "gcpo"]:
                (out / "model" / "config.json").write_text('{"another": 2}')

    said = []
    run_plan(here, select(plan(), ["accuracy/gcpo-small"]), run=Other(), report=said.append)
    aside = {p.name for p in here.out.iterdir() if "-before-" in p.name}
    assert aside == {"gcpo--small-before-1", "accuracy--gcpo-small-before-1"}
    assert (here.out / "accuracy--gcpo-small-before-1" / "result.json").is_file(), "nothing is lost"
    assert sum("the former folder is" in text for text in said) == 2
    run_plan(place(pairs=50), select(plan(), ["accuracy/gcpo-small"]), run=FakeEditr1())
    assert {p.name for p in here.out.iterdir() if "-before-" in p.name} == aside | {"pairs-before-1"}


def test_a_recipe_that_says_something_else_is_run_again(place):
    """Another comment is the same recipe; one that another recipe names is a part of it."""
    here, steps = place(), select(plan(), ["ablation"])
    recipe = here.recipe("ablation.toml")
    (recipe.parent / "sft-small.toml").write_text("steps = 1\n")
    recipe.write_text('set = []\n[sizes]\nsmall = "sft-small.toml"\n')
    commands = []
    for text in ("steps = 1\n", "# said otherwise\nsteps = 1\n", "steps = 2\n"):
        (recipe.parent / "sft-small.toml").write_text(text)
        fake = FakeEditr1()
        run_plan(here, steps, run=fake)
        commands.append(fake.commands)
    assert commands == [["curate", "base--small", "base--large", "ablation"], [], ["ablation"]]
    (recipe.parent / "sft-small.toml").write_text("steps = ")
    outcome = run_plan(here, steps, run=FakeEditr1())[-1]
    assert outcome.state is State.FAILED
    assert "sft-small.toml is not TOML" in outcome.why


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
    assert "no model sticker-gcpo-small ships" in small.cells[3].why
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


STAGE_1 = ("curate", "base/small", "base/large", "ablation")


@pytest.mark.parametrize(
    ("only", "steps"),
    [
        (["pairs"], {"pairs"}),
        (["sft/small"], {*STAGE_1, "sft/small"}),
        (["dynamics/gcpo-*"], {*STAGE_1, *(f"{k}/{s}" for k in ("sft", "gcpo") for s in ("small", "large")),
                               "dynamics/gcpo-small", "dynamics/gcpo-large"}),
        (["editor/oracle", "pairs"], {"editor/base", "editor/oracle", "pairs"}),
    ],
)  # fmt: skip
def test_a_step_brings_what_it_needs(only, steps):
    assert {step.name for step in select(plan(), only)} == steps


def test_an_unknown_step_is_an_error():
    with pytest.raises(ConfigError, match="no step is called 'nonsense'"):
        select(plan(), ["nonsense"])


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
    assert "out/reproduction.html: 13 of 13 steps are there" in out
    assert "[1/13] curate: editr1 curate recipes/sticker/curate.toml --out out/curate" in err
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
    assert len(editr1("--list", "--from-checkpoints")[1].splitlines()) == len(plan()) - 3, "no curation, no base"
    shipped = dict(line.split(": ", 1) for line in editr1("--dry-run", "--from-checkpoints")[1].splitlines())
    assert shipped["gcpo/small"] == "taken from what ships"
    assert {shipped[name] for name in ("ablation", "editor/oracle", "edits/oracle", "effect/editor-oracle")} == {
        "the result that ships"
    }
    assert shipped["dynamics/gcpo-small"] == "the result that ships"
    assert shipped["effect/gcpo-small"] == "computed from accuracy/sft-small, accuracy/gcpo-small"
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
