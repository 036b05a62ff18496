"""Finished runs side by side: their figures, what they were made with, how they differ item by item.

Runs are all of judges (`editr1 eval rm`) or all of editors (`editr1 eval editor`). Nothing is judged here: all comes
from `result.json`, `pairs.jsonl` and `judgements.jsonl`. The first run is the baseline: differences are the other's
figure less its own, over the items that both have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from editr1.errors import ConfigError, DataError
from editr1.evaluation.benchmarks.editors import in_subset
from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.differing import Item, most_differing
from editr1.evaluation.manifests import Field, compare_manifests
from editr1.evaluation.paired import Paired, other_sources, pair_editors, pair_judges
from editr1.evaluation.published import Published
from editr1.evaluation.runs import read_result, read_rows

Kind = Literal["judges", "editors"]

JUDGE_FIGURES = {
    "strict": "strict, a tie is wrong",
    "half_credit": "half credit for a tie",
    "ties": "ties",
    "macro_strict": "strict, mean over tasks",
    "macro_half_credit": "half credit, mean over tasks",
    "failures_as_wrong": "strict, failures counted as wrong",
}
"""Figures of a dimension in `result.json`, and what they are called."""

PICTURES = 24
"""So many items are shown with their pictures, unless more are asked for."""

_HINT = "run the command that made it again, which asks no judge and writes it anew"

Row = tuple[Estimate | None, ...]
"""A figure of each run, None where a run has none."""


@dataclass(frozen=True, slots=True)
class Run:
    """One of the runs.

    Attributes:
        letter: its short name: A, B, ...
        name: its folder's, or the path where two folders are called alike.
        subject: what is measured: the judge, or the editor.
        judge: who judged.
        judged: judgements there should be; `failures`: those without an answer, by status.
    """

    letter: str
    name: str
    path: Path
    subject: str
    judge: str
    judged: int
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Section:
    """The figures of one part of a benchmark: a dimension, or a language and subset.

    Attributes:
        percent: whether figures are shares in [0, 1], shown in percent; else points on the judge's scale.
        totals: by figure.
        charts: by figure, then by category (task).
        paired: each other run against the first.
        published: others' figures, by the names that `totals` uses.
        lacking: by run, the categories that another run has and this one has no figure for.
    """

    name: str
    percent: bool
    totals: Mapping[str, Row]
    charts: Mapping[str, Mapping[str, Row]]
    paired: tuple[Paired, ...] = ()
    published: tuple[Published, ...] = ()
    lacking: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that the comparison page shows.

    Attributes:
        warnings: why the runs do not, or not fully, compare; a sentence each.
        fields: of the manifests.
        items: those that two runs differ on most.
    """

    kind: Kind
    benchmark: str
    runs: tuple[Run, ...]
    sections: tuple[Section, ...]
    fields: tuple[Field, ...]
    warnings: tuple[str, ...]
    items: tuple[Item, ...]


def compare(paths: Sequence[str | Path], *, seed: int = 0, pictures: int = PICTURES) -> Comparison:
    """Compare finished runs of one kind.

    Args:
        paths: run directories; the first is the baseline.
        seed: of the bootstrap.
        pictures: so many items at most are named in `Comparison.items`.

    Raises:
        ConfigError: if there are fewer than two runs, or more than there are letters.
        DataError: if one is no finished run, or they are of different kinds.
    """
    if not 2 <= len(paths) <= len(ascii_uppercase):
        raise ConfigError(f"2 to {len(ascii_uppercase)} runs can be compared, got {len(paths)}")
    folders = _distinct(paths)
    results = [read_result(folder) for folder in folders]
    kind = _common_kind(folders, results)
    rows = [_rows(folder, kind) for folder in folders]
    names = _names(paths)
    runs = tuple(
        _run(letter, name, folder, result, kind)
        for letter, name, folder, result in zip(ascii_uppercase, names, folders, results, strict=False)
    )
    fields, warnings = compare_manifests([r["manifest"] for r in results], [r.letter for r in runs], kind)
    sections = (_judge_sections if kind == "judges" else _editor_sections)(results, rows, seed)
    return Comparison(
        kind=kind,
        benchmark=" / ".join(dict.fromkeys(str(r["manifest"].get("benchmark", "")) for r in results)),
        runs=runs,
        sections=sections,
        fields=fields,
        warnings=(
            *warnings,
            *_incomplete(sections, runs),
            *_unmatched(sections, runs),
            *(_other_sources(rows, runs) if kind == "editors" else ()),
        ),
        items=most_differing(folders, rows, kind, pictures),
    )


def _distinct(paths: Sequence[str | Path]) -> list[Path]:
    folders = [Path(path) for path in paths]
    seen: dict[Path, Path] = {}
    for folder in folders:
        former = seen.setdefault(folder.resolve(), folder)
        if former is not folder:
            raise DataError(f"the run {folder} is given twice: name two different ones")
    return folders


def _names(paths: Sequence[str | Path]) -> list[str]:
    names = [Path(path).resolve().name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def _common_kind(folders: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> Kind:
    kinds: list[Kind] = []
    for folder, result in zip(folders, results, strict=True):
        if not isinstance(result.get("manifest"), dict) or not {"dimensions", "tables"} & result.keys():
            raise DataError(f"{folder} holds no run of `editr1 eval rm` or `editr1 eval editor`: name one that does")
        kinds.append("judges" if "dimensions" in result else "editors")
        if kinds[-1] != kinds[0]:
            raise DataError(
                f"{folders[0]} is a run of {kinds[0]} and {folder} one of {kinds[-1]}: compare runs of one kind"
            )
    return kinds[0]


def _rows(folder: Path, kind: Kind) -> list[dict[str, Any]]:
    """The items of a run.

    Raises:
        DataError: if they were written without what a comparison needs.
    """
    wanted = (
        {"id", "label", "edits", "pictures"}
        if kind == "judges"
        else {"key", "context", "instruction", "scores", "pictures"}
    )
    rows = read_rows(folder)
    for row in rows:
        if missing := sorted(wanted - row.keys()):
            raise DataError(f"{folder / 'pairs.jsonl'} has lines without {', '.join(missing)}: {_HINT}")
    return rows


def _run(letter: str, name: str, folder: Path, result: Mapping[str, Any], kind: Kind) -> Run:
    manifest = result["manifest"]
    described = manifest.get("judge") or {}
    judge = str(described.get("judge", "unknown judge"))
    asked = f"{judge}, {described['scorer']}" if described.get("scorer") else judge
    return Run(
        letter=letter,
        name=name,
        path=folder,
        subject=asked if kind == "judges" else str(manifest.get("editor") or "unnamed editor"),
        judge=asked,
        judged=int(result.get("judgements", 0)),
        failures=dict(result.get("failures", {})),
    )


def _judge_sections(
    results: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[Mapping[str, Any]]], seed: int
) -> tuple[Section, ...]:
    """The official figures beside published ones, then each dimension."""
    official = [dict(result["official"]) for result in results]
    for figures, result in zip(official, results, strict=True):
        if result.get("with_ties"):
            figures["better, worse or same, exact match"] = result["with_ties"]
        if result.get("order"):
            figures["same answer in both orders"] = result["order"]["consistent"]
    sections = [Section("official figures", True, _table(official), {}, published=_published(results))]
    dimensions = [result["dimensions"] for result in results]
    for name in _keys(dimensions):
        found = [d.get(name, {}) for d in dimensions]
        tasks = _table([f.get("tasks", {}) for f in found])
        sections.append(
            Section(
                name=name,
                percent=True,
                totals=_table([{JUDGE_FIGURES[k]: f[k] for k in JUDGE_FIGURES if k in f} for f in found]),
                charts={"strict accuracy": tasks} if len(tasks) > 1 else {},
                paired=_against_first([[r for r in of if r["dimension"] == name] for of in rows], pair_judges, seed),
            )
        )
    return tuple(sections)


def _editor_sections(
    results: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[Mapping[str, Any]]], seed: int
) -> tuple[Section, ...]:
    """One for each language and subset; published figures stand beside the one that they are of."""
    tables = [result["tables"] for result in results]
    sections: list[Section] = []
    for name in _keys(tables):
        found = [t.get(name, {}) for t in tables]
        categories = [f.get("categories", {}) for f in found]
        totals = _table([f.get("macro", {}) for f in found])
        charts = {
            figure: _table([{c: row[figure] for c, row in of.items() if figure in row} for of in categories])
            for figure in totals
        }
        chosen = [[r for r in of if in_subset(name, r["language"], r["intersection"])] for of in rows]
        paired = _against_first(chosen, partial(pair_editors, bounds=_range(results)), seed)
        official = [r for r, f in zip(results, found, strict=True) if f.get("complete", True)]
        published = _published([r for r in official if r.get("published_table") == name])
        sections.append(Section(name, False, totals, charts, paired, published, _lacking(categories)))
    return tuple(sections)


def _range(results: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Of all runs' numbers, if they say so."""
    ranges = [r["range"] for r in results if r.get("range")]
    return (min(r[0] for r in ranges), max(r[1] for r in ranges)) if len(ranges) == len(results) else None


def _lacking(categories: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    """Of the runs that were judged at all, the categories of the others that each has no figure for."""
    every = _keys(categories)
    return tuple(tuple(name for name in every if name not in of) if of else () for of in categories)


def _incomplete(sections: Sequence[Section], runs: Sequence[Run]) -> list[str]:
    """A sentence for each mean that is over fewer categories than another run's."""
    return [
        f"{section.name}: {run.letter} has no figure for {', '.join(names)}: its mean is over fewer categories, and is "
        "not to be compared; the differences are over what both have"
        for section in sections
        for run, names in zip(runs, section.lacking, strict=False)
        if names
    ]


def _against_first(
    rows: Sequence[Sequence[Mapping[str, Any]]], pair: Callable[..., Paired], seed: int
) -> tuple[Paired, ...]:
    return tuple(pair(rows[0], other, number, seed) for number, other in enumerate(rows[1:], start=1))


def _table(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Row]:
    """Estimates of several runs by name, names in order of first appearance."""
    return {name: tuple(_estimate(run.get(name)) for run in runs) for name in _keys(runs)}


def _estimate(data: Mapping[str, Any] | None) -> Estimate | None:
    if data is None or not math.isfinite(data["value"]):
        return None
    return Estimate(data["value"], data["low"], data["high"], data["items"])


def _keys(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _published(results: Sequence[Mapping[str, Any]]) -> tuple[Published, ...]:
    """Of all runs' benchmarks, each once."""
    listed = {p["name"]: p for result in results for p in result.get("published", ())}
    return tuple(Published(p["name"], p["figures"], p.get("note", "")) for p in listed.values())


def _unmatched(sections: Sequence[Section], runs: Sequence[Run]) -> list[str]:
    """A sentence for each two runs that lack items of each other."""
    found = sorted(
        ((p.second, section.name, p) for section in sections for p in section.paired if p.unmatched),
        key=lambda entry: entry[:2],
    )
    sentences = []
    for second, entries in groupby(found, key=lambda entry: entry[0]):
        counted = ", ".join(f"{p.unmatched} of {name}" for _, name, p in entries)
        sentences.append(f"items that only one of {runs[0].letter} and {runs[second].letter} has: {counted}")
    return sentences


def _other_sources(rows: Sequence[Sequence[Mapping[str, Any]]], runs: Sequence[Run]) -> list[str]:
    """A sentence for each run whose sources are not the first run's files."""
    counts = [(run, other_sources(rows[0], of)) for run, of in zip(runs[1:], rows[1:], strict=True)]
    return [
        f"of {number} tasks the source of {run.letter} is not the same file as that of {runs[0].letter}: look whether "
        "it is the same picture"
        for run, number in counts
        if number
    ]
