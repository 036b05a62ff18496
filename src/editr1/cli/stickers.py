"""`editr1 stickers`: the embedded domain: draw edits, train its models, evaluate verifiers on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editr1.cli import display, options
from editr1.errors import ConfigError

if TYPE_CHECKING:
    from editr1.evaluation.stickers import EditsResult, PairsResult, ProbesResult

app = typer.Typer(
    help="The embedded domain: sticker edits with a known truth.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _stickers() -> None:
    """The embedded domain: sticker edits with a known truth."""


@app.command()
def sample(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and edits.jsonl.")],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many edits.")] = 20,
    split: Annotated[
        str, typer.Option(help="Any name; the same name gives the same edits. 'train' is what the models learnt from.")
    ] = "sample",
    kind: Annotated[
        str | None, typer.Option(help="Only this kind of edit, e.g. color_alter.", show_default=False)
    ] = None,
    editor: Annotated[
        str | None, typer.Option(help="Only this simulated editor, e.g. sloppy.", show_default=False)
    ] = None,
) -> None:
    """Draw sticker edits of the simulated editors, with instruction, principles and the truth, for `editr1 score`."""
    from editr1.stickers.export import export_edits
    from editr1.stickers.faults import EDITORS
    from editr1.stickers.tasks import sample_task
    from editr1.types import EditKind

    kinds = [k.value for k in EditKind]
    if kind is not None and kind not in kinds:
        raise ConfigError(f"no such kind of edit: {kind!r}; there are {', '.join(kinds)}")
    if editor is not None and editor not in EDITORS:
        raise ConfigError(f"no such simulated editor: {editor!r}; there are {', '.join(EDITORS)}")
    names = [editor] if editor else list(EDITORS)
    tasks = (sample_task(split, i, EditKind(kind) if kind else None) for i in range(number))
    path = export_edits((EDITORS[names[i % len(names)]].edit(t) for i, t in enumerate(tasks)), out)
    typer.echo(f"{path}: {number} edits; score them with  editr1 score {path} --out {out / 'verdicts.jsonl'}")


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/base-small.toml.")],
    out: options.OutOption = None,
    ship: options.ShipOption = False,
    overrides: options.SetOption = None,
) -> None:
    """Train an embedded model. Killed at any time, the same command goes on from the last checkpoint."""
    from editr1.config import load
    from editr1.training.vlm.recipe import VlmRecipe

    settings = load(VlmRecipe, recipe, overrides or ())
    from editr1.training.vlm.finish import finish_model
    from editr1.training.vlm.loop import train_vlm

    folder = out or Path("runs") / settings.name
    with display.bars() as progress:
        bar = progress.add_task(settings.name, total=settings.steps)

        def report(row: dict[str, float]) -> None:
            text = f"{settings.name}  loss {row['loss']:.3f}  tokens right {row['token_accuracy']:.1%}"
            progress.update(bar, completed=row["step"], description=text)

        model = train_vlm(settings, folder, report)
    finish_model(model, settings, folder)
    display.say_finished(model, settings.name, ship=ship)


@app.command()
def train_editor(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/editor-kontext-base.toml.")],
    out: options.OutOption = None,
    ship: options.ShipOption = False,
    overrides: options.SetOption = None,
) -> None:
    """Pretrain an embedded editor. Killed at any time, the same command goes on from where it was."""
    from editr1.config import load
    from editr1.training.pretrain.recipe import EditorRecipe

    settings = load(EditorRecipe, recipe, overrides or ())
    from editr1.training.pretrain.run import pretrain_editor

    with display.bars() as progress:
        bars: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done, description=_describe(stage, figures))
            if "held_out/right" in figures:
                progress.console.print(f"step {done}: held-out tasks right {figures['held_out/right']:.1%}")

        model = pretrain_editor(settings, out or Path("runs") / settings.name, report)
    display.say_finished(model, settings.name, ship=ship)


def _describe(stage: str, figures: dict[str, float]) -> str:
    """A stage of pretraining and its latest figures, for a progress bar."""
    if stage == "vae" and "psnr" in figures:
        return f"autoencoder  PSNR {figures['psnr']:.1f} dB"
    if stage == "latents":
        return "latents"
    if stage == "text":
        return f"text encoders  loss {figures['loss']:.2f}"
    return f"flow matching  loss {figures['loss']:.4f}" if "loss" in figures else "flow matching"


@app.command()
def evaluate(
    model: options.ModelOption = None,
    judge: options.JudgeOption = None,
    base_url: options.BaseUrlOption = None,
    api_key_env: options.ApiKeyOption = None,
    concurrency: options.ConcurrencyOption = None,
    cache: options.CacheOption = None,
    template: options.TemplateOption = None,
    passes: Annotated[int | None, typer.Option("--passes", help="Verdicts per edit.", show_default=False)] = None,
    edits: Annotated[int, typer.Option(min=0, help="Held-out edits.")] = 1000,
    pairs: Annotated[int, typer.Option(min=0, help="Held-out pairs of edits of one context.")] = 1000,
    probes: Annotated[int, typer.Option(min=0, help="Held-out contexts: right edit, unchanged, wrong picture.")] = 300,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the figures as JSON.")] = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
) -> None:
    """Measure a verifier on held-out sticker edits against the oracle, with 95 % bootstrap intervals."""
    given = options.JudgeOptions(
        judge=judge,
        model=model,
        base_url=base_url,
        api_key_env=api_key_env,
        concurrency=concurrency,
        cache=cache,
        template=template,
        config=config,
        overrides=overrides,
    )
    settings = given.resolve(passes=passes)
    import time
    from dataclasses import asdict

    from editr1.evaluation import stickers as evaluation
    from editr1.files import write_json
    from editr1.rundir import describe_environment

    verifier = options.build_verifier(settings, quiet=True)
    started = time.monotonic()
    results: dict[str, Any] = {}
    if edits:
        results["edits"] = evaluation.evaluate_edits(verifier, edits, progress=True)
        _show_edits(results["edits"])
    if pairs:
        results["pairs"] = evaluation.evaluate_pairs(verifier, pairs, progress=True)
        _show_pairs(results["pairs"])
    if probes:
        results["probes"] = evaluation.evaluate_probes(verifier, probes, progress=True)
        _show_probes(results["probes"])
    seconds = time.monotonic() - started
    typer.echo(f"\n{verifier.judge.name}, {seconds:.0f} s; intervals are 95 %, bootstrap over edits, pairs, contexts")
    if out is not None:
        manifest = {
            "judge": verifier.judge.name,
            "prompt_hash": verifier.template.hash,
            "settings": settings.model_dump(mode="json"),
            "seconds": round(seconds, 1),
            "environment": describe_environment(),
        }
        write_json(out, {**manifest, **{name: asdict(result) for name, result in results.items()}})


def _table(title: str, rows: list[tuple[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, value in rows:
        table.add_row(name, str(value))
    console = Console()
    console.print()
    console.print(table)


def _show_edits(result: EditsResult) -> None:
    rows: list[tuple[str, object]] = [("verdicts", result.parsed), ("principle accuracy", result.accuracy)]
    rows += [(f"balanced accuracy, {name}", value) for name, value in result.balanced.items()]
    rows += [(f"accuracy, {name}", value) for name, value in result.by_kind.items()]
    rows.append(("rank correlation with utility", f"{result.rank_correlation:.3f}"))
    rows += [(f"without verdict, {status}", count) for status, count in result.failures.items()]
    _table(f"{result.parsed.items} edits", rows)


def _show_pairs(result: PairsResult) -> None:
    rows: list[tuple[str, object]] = [
        ("better edit scored higher", result.strict),
        ("the same, ties count half", result.half_credit),
        ("ties", result.ties),
        ("without both verdicts", result.failed),
    ]
    _table(f"{result.strict.items} pairs of edits of one context", rows)


def _show_probes(result: ProbesResult) -> None:
    rows: list[tuple[str, object]] = [
        ("right edit above both others", result.ordered),
        ("right edit above the unchanged picture", result.above_unchanged),
        ("right edit above a wrong picture", result.above_wrong),
        ("mean scores", ", ".join(f"{name} {value:.2f}" for name, value in result.mean_scores.items())),
        ("without verdict", result.failed),
    ]
    _table(f"{result.ordered.items} contexts", rows)
