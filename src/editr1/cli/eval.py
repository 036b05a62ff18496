"""`editr1 eval`: judges on preference benchmarks, editors on editing benchmarks, human studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editr1.cli import options
from editr1.errors import ConfigError, DataError

if TYPE_CHECKING:
    from editr1.config import ScoreConfig

RM_BENCHMARKS = ("editscore", "tiger", "genai_bench", "mmrb2", "preference")
EDITOR_BENCHMARKS = ("gedit", "imgedit")
SCORERS = ("verifier", "holistic", "scpq", "imgedit", "pairwise")
_NOT_THE_ANSWER = {"concurrency", "timeout", "cache_dir", "api_key_env", "device"}
"""Settings of a judge that a resumed run may change: they say how fast it answers, not what."""

app = typer.Typer(help="Evaluate judges, editors and human studies.", no_args_is_help=True, rich_markup_mode=None)

DataOption = Annotated[str, typer.Option("--data", help="A folder or file of the benchmark, or its id on the hub.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Run directory; run again to judge what is missing.")]
PassesOption = Annotated[int | None, typer.Option("--passes", help="Answers per judgement.", show_default=False)]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many rows.")]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Ask again where the judge failed.")]
PicturesOption = Annotated[
    Path | None,
    typer.Option("--pictures", help="Folder for pictures out of Parquet (default: OUT/pictures).", show_default=False),
]


@app.callback()
def _eval() -> None:
    """Evaluate judges, editors and human studies."""


@app.command()
@options.takes_judge
def rm(
    benchmark: Annotated[str, typer.Argument(help=f"One of {', '.join(RM_BENCHMARKS)}.")],
    data: DataOption,
    out: OutOption,
    scorer: Annotated[
        str, typer.Option("--scorer", help=f"How the judge is asked: {', '.join(SCORERS)}.")
    ] = "verifier",
    both_orders: Annotated[
        bool, typer.Option("--both-orders/--one-order", help="Pairwise: ask in both orders, or in a random one.")
    ] = True,
    tie_margin: Annotated[
        float, typer.Option("--tie-margin", min=0, help="Scores that differ by no more are a tie.")
    ] = 0.0,
    passes: PassesOption = None,
    limit: LimitOption = None,
    retry_failed: RetryOption = False,
    pictures: PicturesOption = None,
    quiet: options.QuietOption = False,
    *,
    given: options.JudgeOptions,
) -> None:
    """How often does a judge prefer what people prefer? By the benchmark's official protocol, with what it leaves out.

    Exit code 1 means that some rows or judgements failed, 2 that no figure could be computed.
    """
    settings = given.resolve(passes=passes)
    _check_name("benchmark", benchmark, RM_BENCHMARKS)
    _check_name("--scorer", scorer, SCORERS)
    if scorer == "pairwise" and settings.passes > 1:
        raise ConfigError(f"--passes {settings.passes} is for scores: a pairwise judge is asked once in each order")
    from editr1.cli import eval_show
    from editr1.evaluation.benchmarks import REWARD_MODEL_BENCHMARKS, PictureStore, load_pairs
    from editr1.evaluation.reward_models import evaluate_reward_model, needed
    from editr1.evaluation.runs import EvalRun

    protocol = REWARD_MODEL_BENCHMARKS[benchmark]
    pairwise = scorer == "pairwise"
    judging = _judging(benchmark, scorer, settings) | ({"both_orders": both_orders} if pairwise else {})
    run = EvalRun(out, judging, {"data": data, "limit": limit, "tie_margin": tie_margin})
    eval_show.warn_of_licence(protocol.title, protocol.licence, protocol.commercial)
    loaded = load_pairs(protocol, data, PictureStore(pictures or out / "pictures"), limit)
    eval_show.show_problems(loaded.problems, loaded.rows, out)
    with _bar(needed(loaded, pairwise), shown=not quiet) as advance:
        result = evaluate_reward_model(
            protocol,
            loaded,
            run,
            lambda: _scorer(scorer, settings, both_orders=both_orders, quiet=quiet),
            pairwise=pairwise,
            tie_margin=tie_margin,
            retry_failed=retry_failed,
            seed=settings.seed,
            advance=advance,
        )
    eval_show.show_reward_model(protocol, result, tie_margin)
    _end(out, result.progress, result.failures, loaded.counts, empty=not result.dimensions and not result.official)


@app.command()
@options.takes_judge
def editor(
    benchmark: Annotated[str, typer.Argument(help=f"One of {', '.join(EDITOR_BENCHMARKS)}.")],
    images: Annotated[Path, typer.Option("--images", help="Folder of finished pictures, in the official layout.")],
    data: DataOption,
    out: OutOption,
    name: Annotated[str, typer.Option("--name", help="The editor's name, for the record.", show_default=False)] = "",
    scorer: Annotated[
        str | None,
        typer.Option("--scorer", help="How the judge is asked (default: the official way).", show_default=False),
    ] = None,
    passes: PassesOption = None,
    retry_failed: RetryOption = False,
    pictures: PicturesOption = None,
    quiet: options.QuietOption = False,
    *,
    given: options.JudgeOptions,
) -> None:
    """How good are an editor's finished pictures? Judged by the benchmark's protocol, means by category.

    Exit code 1 means that some pictures are missing or were not judged, 2 that no figure could be computed.
    """
    settings = given.resolve(passes=passes)
    _check_name("benchmark", benchmark, EDITOR_BENCHMARKS)
    from editr1.cli import eval_show
    from editr1.evaluation.benchmarks import EDITOR_BENCHMARKS as BENCHMARKS
    from editr1.evaluation.benchmarks import PictureStore
    from editr1.evaluation.editor_models import evaluate_editor, unique_edits
    from editr1.evaluation.runs import EvalRun

    protocol = BENCHMARKS[benchmark]
    kind = scorer or protocol.prompt
    _check_name("--scorer", kind, [s for s in SCORERS if s != "pairwise"])
    run = EvalRun(out, _judging(benchmark, kind, settings), {"data": data, "images": str(images), "editor": name})
    eval_show.warn_of_licence(protocol.title, protocol.licence, protocol.commercial)
    loaded = protocol.load(data, str(images), PictureStore(pictures or out / "pictures"))
    eval_show.show_problems(loaded.problems, loaded.rows, out)
    with _bar(len(unique_edits(loaded)), shown=not quiet) as advance:
        result = evaluate_editor(
            protocol,
            loaded,
            run,
            lambda: _scorer(kind, settings, quiet=quiet),
            editor=name,
            retry_failed=retry_failed,
            seed=settings.seed,
            advance=advance,
        )
    eval_show.show_editor(protocol, result)
    _end(out, result.progress, result.failures, loaded.counts, empty=not result.tables)


@app.command()
def gsb(
    marks: Annotated[Path, typer.Argument(help="A CSV or JSONL file of {context, annotator, choice: good|same|bad}.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the figures as JSON.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
) -> None:
    """Good / same / bad: is the new editor better than the old one to human eyes, and do the annotators agree?

    Exit code 1 means that some marks do not count, 2 that none does.
    """
    from editr1.cli import eval_show
    from editr1.evaluation.gsb import agreement, read_marks
    from editr1.evaluation.gsb import gsb as compute
    from editr1.files import write_json

    read = read_marks(marks)
    result, agreed = compute(read.by_context, seed), agreement(read.by_context)
    eval_show.show_gsb(read, result, agreed)
    if out is not None:
        data = {"marks": str(marks), "seed": seed, "gsb": result.to_dict(), "agreement": agreed.to_dict()}
        left_out = {
            "bad_rows": [str(b) for b in read.bad_rows],
            "contradictions": [str(c) for c in read.contradictions],
            "repeated": read.repeated,
        }
        write_json(out, data | left_out)
    raise typer.Exit(1 if read.bad_rows or read.contradictions else 0)


@app.command()
def paired(
    first: Annotated[Path, typer.Argument(help="Run directory of one judge.")],
    second: Annotated[Path, typer.Argument(help="Run directory of another, on the same benchmark.")],
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
) -> None:
    """Is the second judge better than the first, on pairs that both answered? Paired bootstrap, exact McNemar test."""
    from editr1.cli import eval_show
    from editr1.evaluation.reward_models import compare_runs

    compared, warnings = compare_runs(str(first), str(second), seed)
    for warning in warnings:
        typer.echo(f"warning: these two runs do not compare: {warning}", err=True)
    if compared is None:
        raise DataError(f"{first} and {second} share no pair that both judges answered")
    eval_show.show_compared(compared)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories of judges, or of editors; the first is the base.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML page to write.")] = Path("comparison.html"),
    pictures: Annotated[
        int, typer.Option("--pictures", min=0, max=200, help="Show so many items at most, those that differ most.")
    ] = 24,
    title: Annotated[str, typer.Option("--title", help="Heading of the page.", show_default=False)] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
) -> None:
    """Runs side by side on one HTML page: figures, differences on the same items, pictures that differ most.

    What the runs' manifests disagree on is said here and on the page.
    """
    from editr1.cli import eval_show
    from editr1.evaluation.compare import compare as find
    from editr1.reports import write_comparison

    found = find(runs, seed=seed, pictures=pictures)
    write_comparison(found, out, title=title)
    eval_show.show_comparison(found)
    typer.echo(f"{out}: {len(found.runs)} runs, {len(found.items)} items with pictures", err=True)


def _check_name(what: str, name: str, known: Any) -> None:
    if name not in known:
        raise ConfigError(f"{what} {name!r} is none of {', '.join(known)}")


def _judging(benchmark: str, scorer: str, settings: ScoreConfig) -> dict[str, Any]:
    """What changes answers: a run directory is bound to it."""
    given = settings.model_dump(mode="json", exclude={"judge": _NOT_THE_ANSWER})
    return {"benchmark": benchmark, "scorer": scorer, **given}


def _scorer(kind: str, settings: ScoreConfig, *, both_orders: bool = True, quiet: bool = False) -> Any:
    """The judge, asked in one of the ways of `SCORERS`."""
    from editr1.evaluation.pairwise import PairwiseScorer
    from editr1.evaluation.prompts import load_pair_prompt, load_rating_prompt
    from editr1.evaluation.scorers import RatingScorer, VerifierScorer

    if kind == "verifier":
        return VerifierScorer(options.build_verifier(settings, quiet=quiet))
    prompt = settings.template or kind
    # `template` names this scorer's prompt, so the verifier that brings judge and sampling along must not look for it
    verifier = options.build_verifier(settings.model_copy(update={"template": None}), quiet=quiet)
    if kind == "pairwise":
        return PairwiseScorer(
            verifier.judge,
            load_pair_prompt(prompt),
            sampling=verifier.sampling,
            both_orders=both_orders,
            max_tries=settings.max_tries,
            seed=settings.seed,
        )
    return RatingScorer(
        verifier.judge,
        load_rating_prompt(prompt),
        sampling=verifier.sampling,
        passes=settings.passes,
        max_tries=settings.max_tries,
        seed=settings.seed,
    )


@contextmanager
def _bar(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; yields what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("judging", total=total)
        yield lambda number: bar.advance(task, number)


def _end(out: Path, progress: Any, failures: dict[str, int], left_out: dict[str, int], *, empty: bool) -> None:
    """The last line, and the exit code."""
    before = f", {progress.before} from before" if progress.before else ""
    typer.echo(f"{progress.new} new judgements{before}; figures, manifest and judgements are in {out}", err=True)
    if empty:
        raise DataError(f"no figure could be computed: no judgement counts; see {out / 'judgements.jsonl'}")
    bad = sum(left_out.get(kind, 0) for kind in ("row", "picture", "contradiction"))
    raise typer.Exit(1 if failures or bad else 0)
