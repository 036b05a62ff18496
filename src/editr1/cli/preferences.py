"""`editr1 preferences`: human preferences between two edits, in the form that GCPO trains on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editr1.cli import options
from editr1.errors import ConfigError
from editr1.stickers import People

if TYPE_CHECKING:
    from editr1.config import ScoreConfig
    from editr1.datasets.edits import BadRow
    from editr1.datasets.preference_import import FindPrinciples, Imported
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
) -> None:
    """Draw simulated pairs on stickers: edits of faulty editors, preferences of simulated humans, some "same"."""
    from editr1.training.gcpo.stickers import write_sticker_preferences

    sizes = {"train": (split, train), "heldout": (f"{split}-heldout", heldout)}
    for found in write_sticker_preferences(out, sizes, people).values():
        _print(found)


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
