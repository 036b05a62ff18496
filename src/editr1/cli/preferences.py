"""`editr1 preferences`: human preferences between two edits, in the form that GCPO trains on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editr1.cli import display, options
from editr1.errors import ConfigError
from editr1.stickers import People

if TYPE_CHECKING:
    from editr1.config import ScoreConfig
    from editr1.datasets.edits import BadRow
    from editr1.datasets.preference_import import FindPrinciples, Imported
    from editr1.training.gcpo.stickers import Draw
    from editr1.types import EditTask, PreferencePair, Principle
    from editr1.verifier import Verifier

app = typer.Typer(
    help="Preference pairs: import annotators' votes, or draw simulated ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FORMATS = ("editreward-data", "marks", "preferences")

OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for train.parquet and heldout.parquet.")]


@app.callback()
def _preferences() -> None:
    """Preference pairs: import annotators' votes, or draw simulated ones."""


@app.command("import")
@options.takes_judge
def import_(
    path: Annotated[Path, typer.Argument(help="A file, or for EditReward-Data a folder of Parquet files.")],
    out: OutOption,
    kind: Annotated[
        str, typer.Option("--format", help="editreward-data, marks (JSONL), or preferences (Parquet of editr1's).")
    ] = "marks",
    heldout: Annotated[float, typer.Option(help="Share of source pictures to hold out.")] = 0.05,
    decompose: Annotated[
        bool,
        typer.Option("--decompose/--no-decompose", help="Split instructions without principles; see --judge."),
    ] = True,
    *,
    given: options.JudgeOptions,
) -> None:
    """Import votes on two edits; what cannot be used is counted, with reasons in rejects.jsonl.

    Contradictory votes, pairs whose halves are the same file, and missing pictures are left out. Splits are by source
    picture. Pairs marked "same" are kept, but not trained on.
    """
    if kind not in FORMATS:
        raise ConfigError(f"unknown format {kind!r}: use one of {', '.join(FORMATS)}")
    find = _finder(given.resolve()) if decompose else None
    from editr1.datasets.preference_import import write_preferences

    found = write_preferences(
        lambda: _read(path, kind), out, heldout=heldout, find_principles=find, origin=f"{kind}: {path.name}"
    )
    _print(found)


@app.command()
def build(
    out: OutOption,
    train: Annotated[int, typer.Option(min=1, help="Pairs to learn from.")] = 2000,
    heldout: Annotated[int, typer.Option(min=1, help="Pairs to measure on.")] = 400,
    split: Annotated[str, typer.Option(help="Name of the draw.")] = "gcpo",
    people: Annotated[
        People,
        typer.Option(help="Who compares: with the oracle's taste, or minding unasked changes more and flaws less."),
    ] = "plain",
    editor: Annotated[
        str | None,
        typer.Option(help="Compare pictures of this editor: embedded, or a folder (default: edits of faulty editors)."),
    ] = None,
    lora: Annotated[
        str | None, typer.Option(help="On the editor: folder, hub id, or the name of weights that ship.")
    ] = None,
    drawn: Annotated[
        float, typer.Option(min=0, max=1, help="With --editor: share of pairs that are of faulty editors all the same.")
    ] = 0.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the editor's sampler.")] = None,
) -> None:
    """Draw simulated pairs on stickers: two edits of a task, preferences of simulated humans, some "same".

    The edits come from faulty editors, which draw the scene that they want, or with --editor from a model: then people
    see what the oracle reads off the pixels.
    """
    from editr1.training.gcpo.stickers import write_sticker_preferences

    sizes = {"train": (split, train), "heldout": (f"{split}-heldout", heldout)}
    if editor is None:
        if lora is not None or steps is not None or drawn:
            raise ConfigError("--lora, --steps and --drawn go with --editor")
        found = write_sticker_preferences(out, sizes, people)
    else:
        pairs = _pairs_of(editor, lora, steps, drawn)
        made_by = editor + ("" if lora is None else f" with {lora}") + (f", {drawn:.0%} drawn ones" if drawn else "")
        found = write_sticker_preferences(out, sizes, people, pairs=pairs, made_by=made_by)
    for written in found.values():
        _print(written)


def _pairs_of(editor: str, lora: str | None, steps: int | None, drawn: float) -> Draw:
    """Draws pairs of an editor, and some of faulty editors behind them; each draw is made once and kept."""
    from functools import cache

    from editr1.editors import build_editor
    from editr1.training.gcpo.editor_pairs import editor_pairs
    from editr1.training.gcpo.stickers import sticker_pairs

    model = build_editor(editor, lora=lora)

    @cache
    def pairs(split: str, number: int, people: People) -> list[PreferencePair]:
        others = round(drawn * number)
        with display.bars(transient=True) as progress:
            bar = progress.add_task(f"pairs of {editor}, {split}", total=number - others)

            def report(done: int) -> None:
                progress.update(bar, completed=done)

            made = list(editor_pairs(model, split, number - others, people, steps=steps, report=report))
        return [*made, *sticker_pairs(f"{split}-drawn", others, people)]

    return pairs


def _read(path: Path, kind: str) -> Iterable[PreferencePair | BadRow]:
    if kind == "editreward-data":
        from editr1.datasets.pairs import read_editreward_data

        return read_editreward_data(path)
    from editr1.datasets.preferences import read_marks, read_preferences

    return read_marks(path) if kind == "marks" else read_preferences(path)


def _finder(settings: ScoreConfig) -> FindPrinciples:
    """Asks a judge, which is set up only when a context without principles comes."""
    verifiers: list[Verifier] = []

    def find(tasks: Sequence[EditTask]) -> list[tuple[Principle, ...] | None]:
        if not verifiers:
            verifiers.append(options.build_verifier(settings))
        return [split.principles for split in verifiers[0].decompose_many(tasks)]

    return find


def _print(found: Imported) -> None:
    for name, number in found.rows.items():
        typer.echo(f"{found.folder / name}.parquet: {number} pairs, {found.same[name]} of them 'same'")
    if found.dropped:
        counts = ", ".join(f"{number} {kind}" for kind, number in found.dropped.items())
        typer.echo(f"left out: {counts}; see rejects*.jsonl")
