"""The ablation T, V, T+V and a holistic baseline, by size: one fine-tuning run a cell, and what it says of pairs.

A cell is a run of `train_sft` that differs from the others in its recipe and its mode alone. Its model then scores both
halves of the same held-out preference pairs, in the mode that it was taught. Everything goes on where it was killed:
a run from its checkpoint, the scoring of a cell from the last part that was written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from editr1.config import Recipe, load
from editr1.errors import ConfigError
from editr1.files import write_json
from editr1.judges.names import resolve_model
from editr1.stickers import People
from editr1.training.sft.recipe import SftRecipe
from editr1.types import PreferencePair

Mode = Literal["think", "verify", "think+verify", "viescore"]
Report = Callable[[str, dict[str, Any]], None]

PART = 250
"""Pairs that are scored between two writes."""


class AblationPairs(Recipe):
    """The held-out pairs that every cell judges.

    Attributes:
        data: Parquet of preference pairs (see `editr1 preferences`). None draws simulated ones on stickers.
        draw: name of that draw; no training uses it.
        number: pairs drawn, those marked "same" among them; of `data`, all are taken.
        people: who compares the drawn pairs, as in `editr1 preferences build`.
    """

    data: str | None = None
    draw: str = "ablation"
    number: PositiveInt = 1000
    people: People = "plain"


class AblationRecipe(Recipe):
    """The table: sizes by modes.

    Attributes:
        name: of the run.
        sizes: name of a size -> recipe of `editr1 train sft`; a relative path starts at the ablation's own recipe.
        models: name of a size -> base model, in place of the one that its recipe names.
        modes: of the cells.
        set: settings that take the place of those of all the recipes, e.g. "steps=500".
        seeds: of the runs; with several, each cell is trained so many times.
        pairs: what is judged.
    """

    name: str
    sizes: Annotated[dict[str, str], Field(min_length=1)]
    models: dict[str, str] = Field(default_factory=dict)
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("think", "verify", "think+verify", "viescore")
    set: tuple[str, ...] = ()
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    pairs: AblationPairs = AblationPairs()


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the table; `name` is that of its folder."""

    size: str
    mode: Mode
    seed: int
    recipe: SftRecipe

    @property
    def name(self) -> str:
        """Unique in the table."""
        return f"{self.size}-{self.mode}" + (f"-{self.seed}" if self.seed else "")


def plan(recipe: AblationRecipe, folder: Path) -> list[Cell]:
    """The cells, sizes first.

    Args:
        recipe: of the table.
        folder: that relative paths in it start at.

    Raises:
        ConfigError: if a recipe of a size cannot be read, or does not take the settings, or a model is for no size.
        ModelError: if a base goes by the name of a model that ships, and is not in this installation.
    """
    if unknown := recipe.models.keys() - recipe.sizes.keys():
        raise ConfigError(f"models names {', '.join(sorted(unknown))}: the sizes are {', '.join(recipe.sizes)}")
    cells = []
    for seed in recipe.seeds:
        for size, path in recipe.sizes.items():
            for mode in recipe.modes:
                settings = (*recipe.set, f'modes=["{mode}"]', f"seed={seed}")
                values = {"model": recipe.models[size]} if size in recipe.models else None
                own = load(SftRecipe, folder / path, settings, values=values)
                resolve_model(own.model)
                cells.append(Cell(size, mode, seed, own.model_copy(update={"name": f"{own.name}-{mode}"})))
    return cells


def train_cell(cell: Cell, folder: Path, report: Report) -> Path:
    """Fine-tune a cell below `folder`, or go on with it; the folder of its model."""
    from editr1.training.sft.trainer import train_sft

    return train_sft(cell.recipe, folder / cell.name, lambda row: report(cell.name, row))


def score_cell(
    cell: Cell, model: Path, pairs: Sequence[PreferencePair], folder: Path, report: Report
) -> list[tuple[float | None, float | None]]:
    """The scores of the preferred and the other edit of each pair, in order; None for an answer without a score.

    What was scored before, by the same weights on the same pairs, is read from `scores.json` in the cell's folder.

    Raises:
        ConfigError: if scores are there that other weights or other pairs gave.
    """
    path = folder / cell.name / "scores.json"
    training = json.loads((model / "training.json").read_text(encoding="utf-8"))
    key = {"pairs": _fingerprint(pairs), "data": training.get("data")}
    done: list[list[float | None]] = []
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] != key:
            raise ConfigError(f"{path} holds scores on other pairs or of other weights: remove it, or choose --out")
        done = found["scores"]
    if len(done) < len(pairs):
        judge = _Judge(model, cell.mode)
        for start in range(len(done), len(pairs), PART):
            part = pairs[start : start + PART]
            said = judge.scores([(pair, edited) for pair in part for edited in (pair.preferred, pair.other)])
            done += [said[i : i + 2] for i in range(0, len(said), 2)]
            write_json(path, {"key": key, "scores": done})
            report(cell.name, {"step": len(done), "steps": len(pairs), "scoring": True})
    return [(first, second) for first, second in done]


def _fingerprint(pairs: Sequence[PreferencePair]) -> str:
    """Of what is judged, in order: contexts and halves."""
    from editr1.datasets.integrity import picture_bytes

    digest = sha256()
    for pair in pairs:
        for part in (pair.task.id.encode(), picture_bytes(pair.preferred), picture_bytes(pair.other)):
            digest.update(sha256(part).digest())
    return digest.hexdigest()


class _Judge:
    """A cell's model, asked in its own mode and with its own limits, which stand beside its weights."""

    def __init__(self, model: Path, mode: Mode) -> None:
        from editr1.judges.build import build_judge
        from editr1.verifier.config import CONFIG_NAME, VerifierConfig

        self._mode = mode
        self._config = VerifierConfig.read(model / CONFIG_NAME)
        self._asked = self._config.load_template(model)
        self._judge = build_judge("transformers", str(model))

    def scores(self, items: Sequence[tuple[PreferencePair, Any]]) -> list[float | None]:
        """One greedy answer for each edit."""
        from editr1.training.sft.evaluate import HeldOutEdit, judge_edits

        edits = [
            HeldOutEdit(
                p.task.id, p.task.id, p.task.source, edited, p.task.instruction, tuple(p.task.principles or ()), ()
            )
            for p, edited in items
        ]
        said = judge_edits(self._judge, self._asked, self._mode, edits, max_tokens=self._config.max_tokens)
        return [judged.score for judged in said]


def load_ablation_pairs(recipe: AblationPairs, folder: Path) -> list[PreferencePair]:
    """The pairs in which somebody had a preference; simulated ones are written below `folder` first.

    Raises:
        DataError: if there are none.
    """
    from editr1.training.gcpo.data import load_pairs, pair_at

    if recipe.data is None:
        from editr1.training.gcpo.stickers import write_sticker_preferences

        path = folder / "pairs" / f"{recipe.draw}-{recipe.number}-{recipe.people}" / "heldout.parquet"
        if not path.is_file():
            write_sticker_preferences(path.parent, {"heldout": (recipe.draw, recipe.number)}, recipe.people)
    else:
        path = Path(recipe.data)
    rows = load_pairs(path)
    return [pair_at(rows, i) for i in range(len(rows))]


def facts(model: Path) -> Mapping[str, Any]:
    """What a finished cell says of its training: steps, chats, parent, data, held-out figures."""
    found: dict[str, Any] = json.loads((model / "training.json").read_text(encoding="utf-8"))
    return found
