"""`editr1 eval`: judges on preference benchmarks, editors on editing benchmarks, human studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from editr1.cli import eval_editor, options
from editr1.cli import eval_judging as common
from editr1.errors import ConfigError, DataError

RM_BENCHMARKS = ("editscore", "tiger", "genai_bench", "mmrb2", "preference", "stickers")

app = typer.Typer(help="Evaluate judges, editors and human studies.", no_args_is_help=True, rich_markup_mode=None)

LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many rows.")]


@app.callback()
def _eval() -> None:
    """Evaluate judges, editors and human studies."""


@app.command()
@options.takes_judge
def rm(
    benchmark: Annotated[str, typer.Argument(help=f"One of {', '.join(RM_BENCHMARKS)}.")],
    data: common.DataOption,
    out: common.OutOption,
    scorer: Annotated[
        str, typer.Option("--scorer", help=f"How the judge is asked: {', '.join(common.SCORERS)}.")
    ] = "verifier",
    both_orders: Annotated[
        bool | None,
        typer.Option(
            "--both-orders/--one-order",
            help="Pairwise: ask in both orders (default), or in a random one.",
            show_default=False,
        ),
    ] = None,
    tie_margin: Annotated[
        float, typer.Option("--tie-margin", min=0, help="Scores that differ by no more are a tie.")
    ] = 0.0,
    passes: common.PassesOption = None,
    limit: LimitOption = None,
    retry_failed: common.RetryOption = False,
    pictures: common.PicturesOption = None,
    quiet: options.QuietOption = False,
    *,
    given: options.JudgeOptions,
) -> None:
    """How often does a judge prefer what people prefer? By the benchmark's official protocol, with what it leaves out.

    Exit code 1 means that some rows or judgements failed, 2 that no figure could be computed.
    """
    settings = given.resolve(passes=passes)
    common.check_name("benchmark", benchmark, RM_BENCHMARKS)
    common.check_name("--scorer", scorer, common.SCORERS)
    common.check_judge(scorer, settings)
    _refuse_idle(scorer, settings.passes, tie_margin, both_orders)
    both_orders = both_orders is not False
    from editr1.cli import eval_show
    from editr1.evaluation.benchmarks import REWARD_MODEL_BENCHMARKS, PictureStore, load_pairs
    from editr1.evaluation.reward_models import evaluate_reward_model, needed
    from editr1.evaluation.runs import EvalRun

    protocol = REWARD_MODEL_BENCHMARKS[benchmark]
    pairwise = scorer == "pairwise"
    judging = common.judging(benchmark, scorer, settings) | ({"both_orders": both_orders} if pairwise else {})
    run = EvalRun(out, judging, {"data": data, "limit": limit, "tie_margin": tie_margin})
    eval_show.warn_of_licence(protocol.title, protocol.licence, protocol.commercial)
    loaded = load_pairs(protocol, data, PictureStore(pictures or out / "pictures"), limit)
    eval_show.show_problems(loaded.problems, loaded.rows, out)
    with common.bar("judging", needed(loaded, pairwise, scorer == "imgedit"), shown=not quiet) as advance:
        result = evaluate_reward_model(
            protocol,
            loaded,
            run,
            lambda: common.make_scorer(scorer, settings, both_orders=both_orders, quiet=quiet),
            pairwise=pairwise,
            tie_margin=tie_margin,
            retry_failed=retry_failed,
            seed=settings.seed,
            by_kind=scorer == "imgedit",
            advance=advance,
        )
    eval_show.show_reward_model(protocol, result, tie_margin)
    common.end(
        out, result.progress, result.failures, loaded.counts, empty=not result.dimensions and not result.official
    )


def _refuse_idle(scorer: str, passes: int, tie_margin: float, both_orders: bool | None) -> None:
    """Options without effect on this way of asking would be in the record as if they had one.

    Raises:
        ConfigError: if there are some.
    """
    if scorer != "pairwise":
        if both_orders is not None:
            raise ConfigError(
                f"--both-orders and --one-order are for --scorer pairwise, not for {scorer}: leave them out"
            )
        return
    if passes > 1:
        raise ConfigError(f"--passes {passes} is for scores: a pairwise judge is asked once in each order")
    if tie_margin:
        raise ConfigError(f"--tie-margin {tie_margin:g} is for scores: a pairwise judge says itself what is a tie")


app.command()(eval_editor.editor)


@app.command()
def gsb(
    marks: Annotated[
        Path,
        typer.Argument(
            help="A CSV or JSONL file of {context, annotator, choice: good|same|bad}; or, with NEW, the run directory "
            "of the old editor.",
        ),
    ],
    new: Annotated[
        Path | None,
        typer.Argument(help="Run directory of the new editor: the marks are its judge's.", show_default=False),
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", min=0, help="Of two runs: scores that differ by less are the same.")
    ] = 0.0,
    language: Annotated[
        str | None,
        typer.Option("--language", help="Of two runs: only tasks in it, e.g. en of GEdit-Bench.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the figures as JSON.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
) -> None:
    """Good / same / bad: is the new editor better than the old one to human eyes, and do the annotators agree?

    Of two runs of `editr1 eval editor`, the judge marks by its scores. Exit code 1 means that some marks do not count,
    2 that none does.
    """
    from editr1.cli import eval_show
    from editr1.evaluation.gsb import agreement, marks_of_runs, read_marks
    from editr1.evaluation.gsb import gsb as compute
    from editr1.evaluation.manifests import compare_manifests
    from editr1.evaluation.runs import read_result
    from editr1.files import write_json

    if new is None and (margin or language is not None):
        raise ConfigError("--margin and --language are for two runs; marks in a file are good, same or bad already")
    if new is None:
        read = read_marks(marks)
        given: dict[str, Any] = {"marks": str(marks)}
    else:
        manifests = [read_result(run)["manifest"] for run in (marks, new)]
        for warning in compare_manifests(manifests, ("the old run", "the new one"), "editors")[1]:
            typer.echo(f"warning: {warning}", err=True)
        read = marks_of_runs(marks, new, margin, language)
        given = {"old": str(marks), "new": str(new), "margin": margin, "language": language}
    result, agreed = compute(read.by_context, seed), agreement(read.by_context)
    eval_show.show_gsb(read, result, agreed)
    if out is not None:
        data = given | {"seed": seed, "gsb": result.to_dict(), "agreement": agreed.to_dict()}
        left_out = {
            "bad_rows": [str(b) for b in read.bad_rows],
            "contradictions": [str(c) for c in read.contradictions],
            "repeated": read.repeated,
            "unanswered": read.unanswered,
            "unmatched": read.unmatched,
        }
        write_json(out, data | left_out)
    raise typer.Exit(1 if read.bad_rows or read.contradictions or read.unanswered or read.unmatched else 0)


@app.command()
def paired(
    first: Annotated[Path, typer.Argument(help="Run directory of one judge.")],
    second: Annotated[Path, typer.Argument(help="Run directory of another, on the same benchmark.")],
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
) -> None:
    """Is the second judge better than the first, on pairs that both answered?

    By dimension: a paired bootstrap, and McNemar's exact test (over contexts, where one has several pairs).
    """
    from editr1.cli import eval_show
    from editr1.evaluation.paired import compare_runs

    compared, warnings = compare_runs(str(first), str(second), seed)
    for warning in warnings:
        typer.echo(f"warning: these two runs do not compare: {warning}", err=True)
    if not compared:
        raise DataError(f"{first} and {second} share no pair that both judges answered")
    eval_show.show_compared(compared)


@app.command()
def headroom(
    run: Annotated[Path, typer.Argument(help="Run directory of `editr1 eval rm` with the verifier as scorer.")],
    dimension: Annotated[str | None, typer.Option("--dimension", help="Which, where a benchmark has several.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the folds and of the bootstrap.")] = 0,
) -> None:
    """How much could a verifier gain by weighing what it sees already as people do? Look before a long GCPO.

    Weights for its own score and checks are fitted to its pairs, and measured on pairs that they were not fitted to.
    """
    from editr1.cli import eval_show
    from editr1.evaluation.headroom import headroom as find

    eval_show.show_headroom(find(run, dimension, seed))


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
