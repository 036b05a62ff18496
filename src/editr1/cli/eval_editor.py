"""`editr1 eval editor`: an editor on a benchmark's tasks: its pictures are made, or taken as they are, and judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editr1.cli import eval_judging as common
from editr1.cli import options
from editr1.errors import ConfigError, DataError

if TYPE_CHECKING:
    from editr1.config import ScoreConfig
    from editr1.editors import PipelineEditor
    from editr1.evaluation.benchmarks import EditorBenchmark, PictureStore
    from editr1.evaluation.generate import EditorSettings

BENCHMARKS = ("gedit", "imgedit", "stickers")
ORACLE = "oracle"
SCORERS = (*(s for s in common.SCORERS if s != "pairwise"), ORACLE)


@options.takes_judge
def editor(
    benchmark: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}.")],
    data: common.DataOption,
    out: common.OutOption,
    model_to_edit: Annotated[
        str | None,
        typer.Option("--editor", help="Make the pictures with it: a pipeline's folder or hub id.", show_default=False),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Folder of pictures, in the official layout; with --editor where they are made (default: OUT/edits).",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The editor's name, for the record.", show_default=False)] = "",
    lora: Annotated[
        str | None,
        typer.Option(
            "--lora", help="LoRA weights on the editor: folder, hub id, or name of some that ship.", show_default=False
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Of the editor's sampler.", show_default=False)
    ] = None,
    editor_seed: Annotated[int, typer.Option("--editor-seed", help="Of the editor's noise.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures made together.")] = 4,
    scorer: Annotated[
        str | None,
        typer.Option("--scorer", help="How the judge is asked (default: the official way).", show_default=False),
    ] = None,
    passes: common.PassesOption = None,
    retry_failed: common.RetryOption = False,
    pictures: common.PicturesOption = None,
    quiet: options.QuietOption = False,
    *,
    given: options.JudgeOptions,
) -> None:
    """How good are an editor's pictures? Judged by the benchmark's protocol, means by category.

    With --editor they are made first; started by `accelerate launch`, every process makes its share, and the first one
    judges. Exit code 1 means that some pictures are missing or were not judged, 2 that no figure could be computed.
    """
    settings = given.resolve(passes=passes)
    common.check_name("benchmark", benchmark, BENCHMARKS)
    from editr1.evaluation.benchmarks import EDITOR_BENCHMARKS, PictureStore

    protocol = EDITOR_BENCHMARKS[benchmark]
    kind = scorer or protocol.prompt
    _check(benchmark, kind, model_to_edit, images, {"--lora": lora, "--steps": steps})
    if kind == ORACLE:
        _refuse_judge(given, passes)
    else:
        common.check_judge(kind, settings)
    folder = images or out / "edits"
    if model_to_edit is not None:
        from editr1.evaluation.generate import EditorSettings

        wanted = EditorSettings(model_to_edit, lora, steps, editor_seed, protocol.draw(data))
        store = PictureStore(pictures or out / "pictures")
        first = _generate(protocol, data, folder, wanted, store, batch_size, quiet=quiet)
        if not first:
            return
    label = name or (model_to_edit or "")
    _judge(protocol, kind, settings, data, folder, out, pictures, label, retry_failed=retry_failed, quiet=quiet)


def _check(benchmark: str, kind: str, model: str | None, images: Path | None, of_editor: dict[str, Any]) -> None:
    """Refuse options that do not go together."""
    common.check_name("--scorer", kind, SCORERS)
    if kind == ORACLE and benchmark != "stickers":
        raise ConfigError(f"--scorer oracle knows the truth of stickers only, not of {benchmark}: name another one")
    if model is None and images is None:
        raise ConfigError("no pictures to judge: give --images, or --editor to make them")
    if model is None and (idle := [name for name, value in of_editor.items() if value is not None]):
        raise ConfigError(f"{', '.join(idle)} is for --editor, and the pictures in --images are finished: leave it out")


def _refuse_judge(given: options.JudgeOptions, passes: int | None) -> None:
    """The oracle asks no judge: options that describe one would be without effect.

    Raises:
        ConfigError: if there are some.
    """
    names = ("judge", "model", "base_url", "template", "max_tokens", "temperature", "cache", "concurrency")
    idle = [f"--{name.replace('_', '-')}" for name in names if getattr(given, name) is not None]
    idle += ["--passes"] if passes is not None else []
    if idle:
        raise ConfigError(
            f"{', '.join(idle)}: the oracle, which judges sticker edits by default, asks no model: name a way to ask "
            "one with --scorer, e.g. --scorer verifier"
        )


def _judge(
    protocol: EditorBenchmark,
    kind: str,
    settings: ScoreConfig,
    data: str,
    images: Path,
    out: Path,
    pictures: Path | None,
    name: str,
    *,
    retry_failed: bool,
    quiet: bool,
) -> None:
    """Judge what has no judgement yet, show the figures, and exit."""
    from editr1.cli import eval_show
    from editr1.evaluation.benchmarks import PictureStore
    from editr1.evaluation.editor_models import evaluate_editor, unique_edits
    from editr1.evaluation.generate import read_generation
    from editr1.evaluation.runs import EvalRun

    generation, draw = read_generation(images), protocol.draw(data)
    if generation is not None and generation.get("tasks", draw) != draw:
        raise ConfigError(f"the pictures in {images} are of {generation['tasks']}, and not of {draw}: name others")
    if kind == ORACLE:
        asked: dict[str, Any] = {"benchmark": protocol.name, "scorer": kind}
    else:
        asked = common.judging(protocol.name, kind, settings)
    run = EvalRun(out, asked, {"data": data, "images": str(images), "editor": name})
    eval_show.warn_of_licence(protocol.title, protocol.licence, protocol.commercial)
    loaded = protocol.load(data, str(images), PictureStore(pictures or out / "pictures"))
    eval_show.show_problems(loaded.problems, loaded.rows, out)

    def make() -> Any:
        if kind != ORACLE:
            return common.make_scorer(kind, settings, quiet=quiet)
        from editr1.evaluation.oracle import OracleScorer

        return OracleScorer({sample.edit.id: sample.key for sample in loaded.samples})

    with common.bar("judging", len(unique_edits(loaded)), shown=not quiet) as advance:
        result = evaluate_editor(
            protocol,
            loaded,
            run,
            make,
            editor=name,
            generation=generation,
            retry_failed=retry_failed,
            seed=settings.seed,
            bounds=common.score_range(kind, settings),
            advance=advance,
        )
    eval_show.show_editor(protocol, result)
    common.end(out, result.progress, result.failures, loaded.counts, empty=not result.tables)


def _generate(
    protocol: EditorBenchmark,
    data: str,
    folder: Path,
    settings: EditorSettings,
    store: PictureStore,
    batch_size: int,
    *,
    quiet: bool,
) -> bool:
    """Make the pictures that are missing; returns whether this is the process that goes on to judge them.

    Raises:
        DataError: if there are no tasks.
    """
    from editr1.evaluation.benchmarks.editors import unique_tasks
    from editr1.evaluation.generate import generate

    tasks = unique_tasks(protocol.tasks(data, store))  # rows that cannot be used are listed when pictures are read
    if not tasks:
        raise DataError(f"{data} holds no task of {protocol.title} that can be used")
    state = _processes()
    number, processes = (0, 1) if state is None else (state.process_index, state.num_processes)

    def load() -> PipelineEditor:
        from editr1.editors import build_editor

        device = None if state is None else str(state.device)
        return build_editor(settings.model, lora=settings.lora, device=device)

    with common.bar("editing", len(tasks[number::processes]), shown=not quiet and number == 0) as advance:
        done = generate(
            tasks, folder, settings, load, batch_size=batch_size, share=(number, processes), advance=advance
        )
    for failure in done.failures:
        typer.echo(f"warning: {failure}", err=True)
    typer.echo(f"{done.made} pictures made, {done.before} from before, in {folder}", err=True)
    if state is not None:
        state.wait_for_everyone()
    return number == 0


def _processes() -> Any:
    """What accelerate says of the processes of a launch; None for one process by itself."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from accelerate import PartialState

    return PartialState()
