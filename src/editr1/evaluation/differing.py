"""The items that two runs differ on most, with what each run says of them and where their pictures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from editr1.evaluation.judgements import Judgement, read_judgements
from editr1.evaluation.metrics import Choice
from editr1.evaluation.paired import credit, editor_key, judge_key, main_figure
from editr1.evaluation.reward_models import read_pair

_PLACES = {Choice.FIRST: "the first", Choice.SECOND: "the second", Choice.SAME: "neither"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of an item.

    Attributes:
        role: "source", "first", "second" or "edited".
        run: whose it is, for an edited picture; None if it belongs to all.
        path: None if the run does not say.
    """

    role: str
    run: int | None
    path: Path | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run says of an item.

    Attributes:
        value: credit in [0, 1] for a judge, the main figure for an editor; None without an answer.
        text: the same for people.
        reasoning: what the judge wrote, by what it is about; empty if it did not.
    """

    value: float | None
    text: str
    reasoning: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """A pair or a task.

    Attributes:
        label: what people said of a pair; empty for a task.
        gaps: how far two runs are apart, by their indices, the smaller first; only where both answered.
    """

    id: str
    category: str
    instruction: str
    label: str
    pictures: tuple[Picture, ...]
    answers: tuple[Answer, ...]
    gaps: Mapping[tuple[int, int], float]


def most_differing(
    folders: Sequence[Path], rows: Sequence[Sequence[Mapping[str, Any]]], kind: str, limit: int
) -> tuple[Item, ...]:
    """The items with the widest gap between two runs, each two runs having a fair share of the places.

    Editors differ by their main figure. Judges differ first by who is right; of equal ones, those come first whose
    scores of the two edits lie furthest apart from one judge to the other.

    Args:
        folders: of the runs.
        rows: of their `pairs.jsonl`.
        kind: "judges" or "editors".
        limit: at most so many.
    """
    key = judge_key if kind == "judges" else editor_key
    by_key = [{key(row): row for row in of} for of in rows]
    gap = _judge_gap if kind == "judges" else _editor_gap
    gaps: dict[str, dict[tuple[int, int], float]] = {}
    pairs = list(combinations(range(len(rows)), 2))
    for i, j in pairs:
        for name in by_key[i].keys() & by_key[j].keys():
            found = gap(by_key[i][name], by_key[j][name])
            if found is not None:
                gaps.setdefault(name, {})[i, j] = found
    share = max(1, limit // len(pairs))
    chosen = {name for pair in pairs for name in _widest(gaps, pair, share)}
    widest = sorted((n for n in gaps if max(gaps[n].values()) > 0), key=lambda n: (-max(gaps[n].values()), n))
    taken = set(sorted(widest, key=lambda name: name not in chosen)[:limit])  # shares overlap: others fill the rest
    ordered = [name for name in widest if name in taken]
    judgements = [read_judgements(folder / "judgements.jsonl") for folder in folders] if ordered else []
    make = _judge_item if kind == "judges" else _editor_item
    return tuple(make([of.get(name) for of in by_key], folders, judgements, gaps[name]) for name in ordered)


def _widest(gaps: Mapping[str, Mapping[tuple[int, int], float]], pair: tuple[int, int], number: int) -> list[str]:
    apart = [name for name in gaps if gaps[name].get(pair, 0) > 0]
    return sorted(apart, key=lambda name: (-gaps[name][pair], name))[:number]


def _judge_gap(first: Mapping[str, Any], second: Mapping[str, Any]) -> float | None:
    """Difference of credit; that of the scores' margins only orders what is equal."""
    ours, theirs = read_pair(first), read_pair(second)
    if ours.label is Choice.SAME or ours.choice is None or theirs.choice is None:
        return None
    margins = [_margin(row) for row in (first, second)]
    apart = 0.0 if margins[0] is None or margins[1] is None else abs(margins[0] - margins[1])
    return abs(credit(ours) - credit(theirs)) + apart / (1000 * (1 + apart))


def _margin(row: Mapping[str, Any]) -> float | None:
    one, two = row.get("scores") or (None, None)
    return None if one is None or two is None else float(one - two)


def _editor_gap(first: Mapping[str, Any], second: Mapping[str, Any]) -> float | None:
    ours, theirs = main_figure(first["scores"]), main_figure(second["scores"])
    return None if ours is None or theirs is None else abs(ours - theirs)


Rows = Sequence[Mapping[str, Any] | None]
Judgements = Sequence[Mapping[str, Judgement]]


def _judge_item(rows: Rows, folders: Sequence[Path], judgements: Judgements, gaps: Mapping[Any, float]) -> Item:
    owner = next(i for i, row in enumerate(rows) if row is not None)
    row = rows[owner] or {}
    pictures = tuple(_picture(row, role, None, folders[owner]) for role in ("source", "first", "second"))
    return Item(
        id=row["id"],
        category=row["task"],
        instruction=row["instruction"],
        label=f"People preferred {_PLACES[Choice(row['label'])]}.",
        pictures=pictures,
        answers=tuple(_judge_answer(r, of) for r, of in zip(rows, judgements, strict=True)),
        gaps=gaps,
    )


def _judge_answer(row: Mapping[str, Any] | None, judgements: Mapping[str, Judgement]) -> Answer:
    if row is None:
        return Answer(None, "not among its pairs")
    result = read_pair(row)
    if result.choice is None:
        return Answer(None, "no answer")
    one, two = row.get("scores") or (None, None)
    verdict = {1.0: "right", 0.5: "a tie", 0.0: "wrong"}[credit(result)]
    scores = "" if one is None or two is None else f", {one:.2f} and {two:.2f}"
    told = [
        (f"the {place}", judgements.get(edit)) for place, edit in zip(("first", "second"), row["edits"], strict=True)
    ]
    both = judgements.get(row.get("judgement", ""))
    reasoning = [("both", both)] if both is not None else told
    return Answer(
        credit(result),
        f"{verdict}: prefers {_PLACES[result.choice]}{scores}",
        tuple((about, j.reasoning) for about, j in reasoning if j is not None and j.reasoning),
    )


def _editor_item(rows: Rows, folders: Sequence[Path], judgements: Judgements, gaps: Mapping[Any, float]) -> Item:
    owner = next(i for i, row in enumerate(rows) if row is not None)
    row = rows[owner] or {}
    edited = (_picture(r, "edited", i, folders[i]) for i, r in enumerate(rows) if r is not None)
    return Item(
        id=row["key"],
        category=row["category"],
        instruction=row["instruction"],
        label="",
        pictures=(_picture(row, "source", None, folders[owner]), *edited),
        answers=tuple(_editor_answer(r, of) for r, of in zip(rows, judgements, strict=True)),
        gaps=gaps,
    )


def _editor_answer(row: Mapping[str, Any] | None, judgements: Mapping[str, Judgement]) -> Answer:
    if row is None:
        return Answer(None, "no picture")
    value = main_figure(row["scores"])
    if value is None:
        return Answer(None, "not judged")
    judgement = judgements.get(row["edit"])
    written = () if judgement is None or not judgement.reasoning else (("the edit", judgement.reasoning),)
    return Answer(value, ", ".join(f"{name} {figure:.2f}" for name, figure in row["scores"].items()), written)


def _picture(row: Mapping[str, Any], role: str, run: int | None, folder: Path) -> Picture:
    path = row["pictures"].get(role)
    return Picture(role, run, None if path is None else folder / path)
