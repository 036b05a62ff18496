"""What the commands of `editr1 eval` that ask a judge have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editr1.cli import display, options
from editr1.errors import ConfigError, DataError

if TYPE_CHECKING:
    from editr1.config import ScoreConfig

SCORERS = ("verifier", "score", "holistic", "scpq", "imgedit", "pairwise")
_NOT_THE_ANSWER = {"concurrency", "timeout", "cache_dir", "api_key_env", "device"}
"""Settings of a judge that a resumed run may change: they say how fast it answers, not what."""

DataOption = Annotated[
    str, typer.Option("--data", help="A folder or file of the benchmark, its id on the hub, or a draw of stickers.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Run directory; run again to judge what is missing.")]
PassesOption = Annotated[int | None, typer.Option("--passes", help="Answers per judgement.", show_default=False)]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Ask again where the judge failed.")]
PicturesOption = Annotated[
    Path | None,
    typer.Option("--pictures", help="Folder for pictures out of Parquet (default: OUT/pictures).", show_default=False),
]


def check_name(what: str, name: str, known: Any) -> None:
    """Refuse a name that is none of those known.

    Raises:
        ConfigError: says which there are.
    """
    if name not in known:
        raise ConfigError(f"{what} {name!r} is none of {', '.join(known)}")


def check_judge(scorer: str, settings: ScoreConfig) -> None:
    """Refuse to ask the embedded verifier, which is there by default, what it was not taught to answer.

    Raises:
        ConfigError: says how to name another judge.
    """
    if scorer not in ("verifier", "score") and settings.judge.resolved_kind == "embedded":
        raise ConfigError(
            f"--scorer {scorer} cannot ask the embedded verifier, which answers its own questions only: name a judge "
            "with --model, or with --base-url and --model"
        )


def judging(benchmark: str, scorer: str, settings: ScoreConfig) -> dict[str, Any]:
    """What changes answers: a run directory is bound to it, and to what a model's folder and a prompt's file hold.

    Raises:
        ConfigError, ModelError: if there is no such prompt, or a model that ships is not there.
    """
    given = settings.model_dump(mode="json", exclude={"judge": _NOT_THE_ANSWER})
    contents = {
        "contents of the model": _model_digest(settings),
        "contents of the prompt": _prompt_digest(scorer, settings.template),
    }
    return {"benchmark": benchmark, "scorer": scorer, **given, **contents}


def _model_digest(settings: ScoreConfig) -> str:
    """Of a local model; empty for a server's, and for one on the hub."""
    from editr1.judges.files import model_digest
    from editr1.judges.names import resolve_model, split_adapter

    kind = settings.judge.resolved_kind
    model = settings.judge.model or ("embedded" if kind == "embedded" else "")
    if kind == "openai" or not model:
        return ""
    base, adapter = split_adapter(resolve_model(model))
    return "+".join(filter(None, (model_digest(part) for part in (base, adapter) if part is not None)))


def _prompt_digest(scorer: str, template: str | None) -> str:
    """Of the words that a judge is asked in; empty where the model brings its own, in its folder."""
    from editr1.evaluation.prompts import load_pair_prompt, load_rating_prompt
    from editr1.verifier.template import load_template

    if scorer in ("verifier", "score"):
        return "" if template is None else load_template(template).hash
    load = load_pair_prompt if scorer == "pairwise" else load_rating_prompt
    return load(template or scorer).hash


def score_range(scorer: str, settings: ScoreConfig) -> tuple[float, float]:
    """Least and greatest number that a judge of single edits gives."""
    from editr1.evaluation.prompts import load_rating_prompt

    if scorer not in ("holistic", "scpq", "imgedit"):
        return 0.0, 10.0
    prompt = load_rating_prompt(settings.template or scorer)
    return prompt.low, prompt.high


def make_scorer(kind: str, settings: ScoreConfig, *, both_orders: bool = True, quiet: bool = False) -> Any:
    """The judge, asked in one of the ways of `SCORERS`."""
    from editr1.evaluation.pairwise import PairwiseScorer
    from editr1.evaluation.prompts import load_pair_prompt, load_rating_prompt
    from editr1.evaluation.scorers import RatingScorer, VerifierScorer

    if kind == "verifier":
        return VerifierScorer(options.build_verifier(settings, quiet=quiet))
    if kind == "score":
        from editr1.evaluation.final_score import FinalScoreScorer

        return FinalScoreScorer(options.build_verifier(settings, quiet=quiet))
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
def bar(what: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; yields what moves it on."""
    with display.bars(shown=shown, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda number: progress.advance(task, number)


def end(out: Path, progress: Any, failures: dict[str, int], left_out: dict[str, int], *, empty: bool) -> None:
    """The last line, and the exit code."""
    before = f", {progress.before} from before" if progress.before else ""
    typer.echo(f"{progress.new} new judgements{before}; figures, manifest and judgements are in {out}", err=True)
    if empty:
        raise DataError(f"no figure could be computed: no judgement counts; see {out / 'judgements.jsonl'}")
    bad = sum(left_out.get(kind, 0) for kind in ("row", "picture", "contradiction"))
    raise typer.Exit(1 if failures or bad else 0)
