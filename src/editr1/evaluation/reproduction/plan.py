"""All steps of the reproduction: what each needs, what makes it, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editr1.errors import DataError
from editr1.evaluation.paired import compare_runs, pair_editors
from editr1.evaluation.reproduction.curves import EDITOR_PLOTS, GCPO_PLOTS, read_curves
from editr1.evaluation.reproduction.people import simulated_study
from editr1.evaluation.reproduction.places import SIZES, MissingInput, Place, read_json
from editr1.evaluation.runs import read_result, read_rows

Arguments = Callable[[Place], list[str]]
Collect = Callable[[Place], dict[str, Any]]

BENCHMARK_DRAW = "reproduction"
EDITOR_DRAW = "reproduction-edits"
PASSES = 4

EDITOR_RECIPES = {"editor/base": "editor-kontext-base.toml", "editor/qwen-base": "editor-qwen-base.toml"}
RL_RECIPE = "editor-flow-grpo.toml"
"""Of `editr1 train editor`, by the paper's algorithm."""

RL_SETTINGS = ("rewards.pixels.watch=true", "steps=42")
"""As in the paper, the judge's score is the whole reward: the recipe's second one is watched only, or it would make the
verifiers' rows alike. By iteration 42 the curves are nearly flat (decision 8)."""

REWARDS: Mapping[str, tuple[str, str]] = {
    "sft-small": ("editor/base", "sft/small"),
    "gcpo-small": ("editor/base", "gcpo/small"),
    "sft-large": ("editor/base", "sft/large"),
    "gcpo-large": ("editor/base", "gcpo/large"),
    "oracle": ("editor/base", ""),
    "qwen-gcpo-large": ("editor/qwen-base", "gcpo/large"),
}
"""Trained editor -> the base that it is trained from, and the verifier that rewards it; none for the oracle."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step.

    Attributes:
        name: with its group before the slash.
        title: for people.
        needs: steps whose results it needs.
        collect: reads what is there after the command, or computes; what it returns is the step's result.
        command: arguments of `editr1`; None if there is nothing to run.
        trains: whether it trains: with --from-checkpoints it is then taken from what ships.
        auxiliary: it has no figure of its own, and is done only if a step that is to be done needs it.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    collect: Collect
    command: Arguments | None = None
    trains: bool = False
    auxiliary: bool = False


def plan() -> list[Step]:
    """All steps, each after those that it needs."""
    return [
        Step("curate", "Curate reasoning traces (stage 1)", (), _curated, _curate, trains=True, auxiliary=True),
        *(_base_model(size) for size in SIZES),
        Step(
            "ablation",
            "Fine-tune T, V, T+V and viescore",
            ("curate", *(f"base/{size}" for size in SIZES)),
            _ablation,
            _train_ablation,
            trains=True,
        ),
        *(_cell(kind, size) for size in SIZES for kind in ("sft", "holistic")),
        *(_gcpo(size) for size in SIZES),
        Step("pairs", "Draw the pairs that the ablation judges", (), _pairs_drawn, _draw_pairs),
        *(_accuracy(kind, size) for size in SIZES for kind in ("sft", "gcpo")),
        *(_benchmark(kind, size) for size in SIZES for kind in ("holistic", "sft", "gcpo")),
        _benchmark("holistic", "large", passes=PASSES),
        *(_judges_compared(f"gcpo-{size}", f"accuracy/sft-{size}", f"accuracy/gcpo-{size}") for size in SIZES),
        *(
            _judges_compared(f"verifier-{size}", f"benchmark/holistic-{size}", f"benchmark/sft-{size}")
            for size in SIZES
        ),
        _judges_compared("size", "accuracy/sft-small", "accuracy/sft-large"),
        *(_base_editor(name) for name in EDITOR_RECIPES),
        *(_trained_editor(name) for name in REWARDS),
        *(_edits(name.partition("/")[2]) for name in EDITOR_RECIPES),
        *(_edits(name) for name in REWARDS),
        *(_editors_compared(name) for name in REWARDS),
        *(_study(name) for name in ("gcpo-small", "gcpo-large")),
        *(_dynamics(f"gcpo/{size}", GCPO_PLOTS) for size in SIZES),
        *(_dynamics(f"editor/{name}", EDITOR_PLOTS) for name in REWARDS),
    ]


def _curate(place: Place) -> list[str]:
    return ["curate", place.recipe("curate.toml").as_posix(), "--out", place.folder("curate").as_posix()]


def _curated(place: Place) -> dict[str, Any]:
    folder = place.folder("curate")
    return {"rows": read_json(folder / "manifest.json").get("rows"), "data": folder.as_posix()}


def _base_model(size: str) -> Step:
    name = f"base/{size}"

    def command(place: Place) -> list[str]:
        recipe = place.recipe(f"base-{size}.toml").as_posix()
        return ["stickers", "train", recipe, "--out", place.folder(name).as_posix()]

    title = f"The {size} base model, in the place of {SIZES[size]}"
    return Step(name, title, (), lambda place: _model(place, name), command, trains=True, auxiliary=True)


def _train_ablation(place: Place) -> list[str]:
    """The recipe's own settings with the data that was curated here, and the bases that were trained here."""
    settings = list(place.recipe_value("ablation.toml", "set") or ())
    settings.append(f"data=[{json.dumps(place.folder('curate').as_posix())}]")
    recipe = place.recipe("ablation.toml").as_posix()
    given = ["--set", f"set={json.dumps(settings)}"]
    for size in SIZES:
        given += ["--set", f"models.{size}={json.dumps(place.model(f'base/{size}'))}"]
    return ["train", "ablation", recipe, "--out", place.folder("ablation").as_posix(), *given]


def _ablation(place: Place) -> dict[str, Any]:
    """The rows that are finished."""
    found = read_json(place.folder("ablation") / "ablation.json")
    if not isinstance(found.get("rows"), list):
        raise DataError(f"{place.folder('ablation') / 'ablation.json'} has no rows: it is no result of train ablation")
    return {key: found[key] for key in ("rows", "pairs", "differences") if key in found}


def _cell(kind: str, size: str) -> Step:
    name = f"{kind}/{size}"
    title = {"sft": "verifier (T+V)", "holistic": "viescore-style scorer"}[kind]
    return Step(name, f"The {size} {title}", ("ablation",), lambda place: _model(place, name), trains=True)


def _model(place: Place, step: str) -> dict[str, Any]:
    return {"model": place.model(step), "digest": place.digest(step)}


def _gcpo(size: str) -> Step:
    name, recipe = f"gcpo/{size}", "gcpo.toml" if size == "small" else f"gcpo-{size}.toml"

    def command(place: Place) -> list[str]:
        parent = ["--set", f"parent={json.dumps(place.model(f'sft/{size}'))}"]
        return ["train", "gcpo", place.recipe(recipe).as_posix(), "--out", place.folder(name).as_posix(), *parent]

    title = f"GCPO on the {size} verifier (stage 2)"
    return Step(name, title, (f"sft/{size}",), lambda place: _model(place, name), command, trains=True)


def _draw_pairs(place: Place) -> list[str]:
    """The ablation draws its pairs as `preferences build` draws those to learn from."""
    people = place.recipe_value("ablation.toml", "pairs", "people") or "plain"
    given = ["--people", people, "--split", "ablation", "--train", str(place.settings.pairs), "--heldout", "1"]
    return ["preferences", "build", "--out", place.folder("pairs").as_posix(), *given]


def _pairs_drawn(place: Place) -> dict[str, Any]:
    path = place.folder("pairs") / "train.parquet"
    if not path.is_file():
        raise MissingInput(f"there is no {path}")
    return {"pairs": path.as_posix()}


def _accuracy(kind: str, size: str) -> Step:
    name, model = f"accuracy/{kind}-{size}", f"{kind}/{size}"

    def command(place: Place) -> list[str]:
        data = (place.folder("pairs") / "train.parquet").as_posix()
        return _judge_pairs(place, name, "preference", data, model)

    title = f"Accuracy of the {size} verifier, {'SFT' if kind == 'sft' else 'SFT + GCPO'}"
    return Step(name, title, ("pairs", model), lambda place: _pair_figures(place, name), command)


def _benchmark(kind: str, size: str, passes: int = 1) -> Step:
    name, model = f"benchmark/{kind}-{size}" + (f"-{passes}" if passes > 1 else ""), f"{kind}/{size}"

    def command(place: Place) -> list[str]:
        drawn = f"{BENCHMARK_DRAW}:{max(place.settings.pairs // 2, 1)}"
        given = _judge_pairs(place, name, "stickers", drawn, model)
        given += ["--scorer", "score"] if kind == "holistic" else []
        return given + (["--passes", str(passes)] if passes > 1 else [])

    titles = {"holistic": "viescore-style scorer", "sft": "verifier, SFT", "gcpo": "verifier, SFT + GCPO"}
    title = f"Benchmark of pairs: {size} {titles[kind]}" + (f", {passes} passes" if passes > 1 else "")
    return Step(name, title, (model,), lambda place: _pair_figures(place, name), command)


def _judge_pairs(place: Place, step: str, benchmark: str, data: str, model: str) -> list[str]:
    given = ["--model", place.model(model), "--seed", str(place.settings.seed), "--quiet"]
    return ["eval", "rm", benchmark, "--data", data, "--out", place.folder(step).as_posix(), *given]


def _pair_figures(place: Place, step: str) -> dict[str, Any]:
    """The figures of an `eval rm` run with one dimension, and its manifest."""
    found = read_result(place.folder(step))
    overall = found["dimensions"].get("overall")
    if overall is None:
        raise MissingInput(f"the judge answered no pair: see {place.folder(step) / 'judgements.jsonl'}")
    wanted = ("strict", "half_credit", "ties", "macro_strict", "failures_as_wrong", "pairs", "failed")
    figures = {key: overall[key] for key in wanted}
    return {"figures": figures, "failures": found["failures"], "run": found["manifest"]}


def _base_editor(name: str) -> Step:
    def command(place: Place) -> list[str]:
        recipe = place.recipe(EDITOR_RECIPES[name]).as_posix()
        return ["stickers", "train-editor", recipe, "--out", place.folder(name).as_posix()]

    title = f"The {'Kontext' if name == 'editor/base' else 'Qwen-Image-Edit'} editor before RL"
    return Step(name, title, (), lambda place: _model(place, name), command, trains=True)


def _trained_editor(name: str) -> Step:
    base, verifier = REWARDS[name]
    step = f"editor/{name}"

    def command(place: Place) -> list[str]:
        judge = f"score.judge.model={json.dumps(place.model(verifier))}" if verifier else 'kind="oracle"'
        given = [f"editor={json.dumps(place.model(base))}", f"rewards.judge.{judge}", *RL_SETTINGS]
        recipe = place.recipe(RL_RECIPE).as_posix()
        settings = [part for value in given for part in ("--set", value)]
        return ["train", "editor", recipe, "--out", place.folder(step).as_posix(), *settings]

    who = f"the {verifier} verifier" if verifier else "the oracle"
    needs = (base, verifier) if verifier else (base,)
    title = f"RL of the editor with {who} as reward (stage 3)"
    return Step(step, title, needs, lambda place: _model(place, step), command, trains=True)


def _edits(editor: str) -> Step:
    name, model = f"edits/{editor}", f"editor/{editor}"

    def command(place: Place) -> list[str]:
        data = f"{EDITOR_DRAW}:{place.settings.tasks}"
        made_by = ["--editor", place.model(model)]
        if place.is_lora(model):
            made_by = ["--editor", place.model(REWARDS[editor][0]), "--lora", place.model(model)]
        given = [*made_by, "--name", editor, "--seed", str(place.settings.seed), "--quiet"]
        return ["eval", "editor", "stickers", "--data", data, "--out", place.folder(name).as_posix(), *given]

    def collect(place: Place) -> dict[str, Any]:
        found = read_result(place.folder(name))
        if not found["tables"]:
            raise MissingInput(f"no picture was judged: see {place.folder(name)}")
        return {"table": next(iter(found["tables"].values())), "run": found["manifest"]}

    return Step(name, f"Pictures of the editor {editor}, by the oracle", (model,), collect, command)


def _run(place: Place, step: str) -> Path:
    """The run directory of a measurement.

    Raises:
        MissingInput: if only its figures are there, because they ship.
    """
    folder = place.folder(step)
    if not (folder / "pairs.jsonl").is_file():
        raise MissingInput(f"of {step} there are figures only, and no single answers")
    return folder


def _judges_compared(name: str, first: str, second: str) -> Step:
    """The second judge less the first, on the pairs that both answered."""

    def collect(place: Place) -> dict[str, Any]:
        by_dimension, warnings = compare_runs(str(_run(place, first)), str(_run(place, second)), place.settings.seed)
        if warnings:
            raise MissingInput(f"{first} and {second} do not compare: {'; '.join(warnings)}")
        if (found := by_dimension.get("overall")) is None:
            raise MissingInput(f"{first} and {second} share no pair that both answered")
        return {"difference": found.difference.to_dict(), "p_value": found.p_value, "left_out": found.left_out}

    return Step(f"effect/{name}", f"{second} less {first}, pair by pair", (first, second), collect)


def _editors_compared(name: str) -> Step:
    """An editor less the one it was trained from, task by task."""
    first, second = f"edits/{REWARDS[name][0].partition('/')[2]}", f"edits/{name}"

    def collect(place: Place) -> dict[str, Any]:
        rows = [read_rows(_run(place, step)) for step in (first, second)]
        found = pair_editors(rows[0], rows[1], 1, place.settings.seed)
        if "score" not in found.differences:
            raise MissingInput(f"{first} and {second} share no task that both have a picture of")
        counts = {"better": found.better, "worse": found.worse, "p_value": found.p_value}
        return {"difference": found.differences["score"].to_dict(), **counts}

    return Step(f"effect/editor-{name}", f"{second} less {first}, task by task", (first, second), collect)


def _study(editor: str) -> Step:
    def collect(place: Place) -> dict[str, Any]:
        marks = place.out / "people" / f"{editor}.jsonl"
        return simulated_study(_run(place, "edits/base"), _run(place, f"edits/{editor}"), marks, place.settings.seed)

    title = f"GSB of the editor {editor} against the one before RL, by simulated people"
    return Step(f"gsb/{editor}", title, ("edits/base", f"edits/{editor}"), collect)


def _dynamics(run: str, plots: Mapping[str, tuple[str, ...]]) -> Step:
    title = f"Training dynamics of {run}"
    return Step(f"dynamics/{run.replace('/', '-')}", title, (run,), lambda place: read_curves(place.folder(run), plots))
