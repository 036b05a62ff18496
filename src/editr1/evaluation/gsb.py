"""Human studies: good / same / bad marks of one editor against another, and how far annotators agree.

A mark says whether the new editor's picture is better than the old one's ("good"), as good ("same") or worse ("bad").
GSB = (G - B) / (G + S + B), as in the paper's user study. The file is CSV with a header, or JSONL, with the keys
`context`, `annotator` and `choice`; other columns are left alone. A judge marks likewise, by its scores of two editors'
pictures of the same tasks: "same" where they differ by less than a margin.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from editr1.datasets import BadRow
from editr1.errors import ConfigError, DataError
from editr1.evaluation.agreement import kappas, krippendorff_alpha
from editr1.evaluation.bootstrap import DIFFERENCE, Array, Estimate, bootstrap
from editr1.evaluation.metrics import ROUNDING, sign_test
from editr1.evaluation.paired import editor_key, main_figure
from editr1.evaluation.runs import read_rows


class Mark(StrEnum):
    """What an annotator says of the new editor's picture."""

    BAD = "bad"
    SAME = "same"
    GOOD = "good"


_RANK = {Mark.BAD: 0, Mark.SAME: 1, Mark.GOOD: 2}
_KEYS = ("context", "annotator", "choice")

JUDGE = "judge"
"""The annotator of marks that follow from a judge's scores."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """An annotator who marked one context in different ways; none of these marks counts."""

    context: str
    annotator: str
    choices: tuple[Mark, ...]

    def __str__(self) -> str:
        return f"{self.annotator} marked {self.context} as {' and as '.join(self.choices)}"


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of a study.

    Attributes:
        by_context: context -> annotator -> mark.
        bad_rows: rows that could not be read.
        repeated: rows that said again what the same annotator had said of the same context.
        contradictions: annotators who changed their mind.
        unanswered, unmatched: of a judge's marks, tasks that lack a score, and tasks that only one run has.
    """

    by_context: dict[str, dict[str, Mark]]
    bad_rows: tuple[BadRow, ...] = ()
    repeated: int = 0
    contradictions: tuple[Contradiction, ...] = ()
    unanswered: int = 0
    unmatched: int = 0


def read_marks(path: str | Path) -> Marks:
    """Read a file of marks.

    Raises:
        DataError: if it cannot be read, or holds no mark that counts.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"cannot read the marks in {path}: {getattr(exc, 'strerror', None) or exc}") from exc
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _jsonl_rows(path, text)
    said: dict[tuple[str, str], list[Mark]] = defaultdict(list)
    bad = []
    for where, row in rows:
        try:
            context, annotator, mark = _mark(row)
        except DataError as exc:
            bad.append(BadRow(where, str(exc)))
        else:
            said[context, annotator].append(mark)
    by_context: dict[str, dict[str, Mark]] = defaultdict(dict)
    contradictions, repeated = [], 0
    for (context, annotator), marks in said.items():
        if len(set(marks)) > 1:
            contradictions.append(Contradiction(context, annotator, tuple(dict.fromkeys(marks))))
        else:
            by_context[context][annotator] = marks[0]
            repeated += len(marks) - 1
    if not by_context:
        why = f", the first row: {bad[0]}" if bad else ""
        raise DataError(f"{path} holds no mark that counts{why}: rows need {', '.join(_KEYS)}")
    return Marks(dict(by_context), tuple(bad), repeated, tuple(contradictions))


def marks_of_runs(old: str | Path, new: str | Path, margin: float, language: str | None = None) -> Marks:
    """A judge's marks: its scores of the new editor's picture of each task against those of the old one's.

    Args:
        old: a finished run of `editr1 eval editor`.
        new: another, of the same benchmark and judge.
        margin: pictures whose scores differ by less are the same; with 0, only those whose scores are equal. The score
            is the benchmark's main figure, e.g. O of GEdit-Bench.
        language: only tasks whose instruction is in it; must be given where a run holds several, for the same picture
            with its instruction in two languages is no two contexts.

    Raises:
        ConfigError: if the margin is below 0, or a run holds several languages and none is given.
        DataError: if a run is not finished, or no task has a score in both.
    """
    if not margin >= 0:
        raise ConfigError(f"the margin must be at least 0, got {margin}")
    before, after = (_rows_of_editor(run, language) for run in (old, new))
    shared = [key for key in before if key in after]
    by_context, unanswered = {}, 0
    for key in shared:
        scores = [main_figure(of[key]["scores"]) for of in (before, after)]
        if scores[0] is None or scores[1] is None:
            unanswered += 1
            continue
        gap = scores[1] - scores[0]
        same = abs(gap) < max(margin - ROUNDING, ROUNDING)
        by_context[before[key]["key"]] = {JUDGE: Mark.SAME if same else Mark.GOOD if gap > 0 else Mark.BAD}
    if not by_context:
        raise DataError(f"{old} and {new} share no task whose pictures have a score in both")
    return Marks(by_context, unanswered=unanswered, unmatched=len(before) + len(after) - 2 * len(shared))


@dataclass(frozen=True, slots=True)
class GsbResult:
    """A study's figures.

    Attributes:
        good, same, bad: numbers of marks.
        gsb: (G - B) / (G + S + B) in [-1, 1]; contexts are resampled whole, since marks of one context go together.
        better, worse: contexts with more good than bad marks, and with fewer.
        p_value: two-sided exact sign test on these contexts.
    """

    good: int
    same: int
    bad: int
    gsb: Estimate
    better: int
    worse: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        plain = {name: getattr(self, name) for name in ("good", "same", "bad", "better", "worse", "p_value")}
        return plain | {"gsb": self.gsb.to_dict()}


def gsb(marks: Mapping[str, Mapping[str, Mark]], seed: int = 0) -> GsbResult:
    """GSB of context -> annotator -> mark, with its interval and the exact sign test.

    Raises:
        ValueError: if there are no marks.
    """
    counts = np.array([_counts(list(by_annotator.values())) for by_annotator in marks.values()], float)
    net = counts[:, 0] - counts[:, 2] if len(counts) else counts
    better, worse = int((net > 0).sum()), int((net < 0).sum())
    estimate = bootstrap(counts, _gsb, seed=seed, bounds=DIFFERENCE)
    good, same, bad = (int(n) for n in counts.sum(axis=0))
    return GsbResult(good, same, bad, estimate, better, worse, sign_test(better, worse))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far annotators agree; NaN where it cannot be said.

    Attributes:
        kappa: Cohen's, of each two annotators, with the number of contexts both marked.
        alpha_nominal, alpha_ordinal: Krippendorff's, over all annotators; "bad" and "good" are further apart than
            either is from "same" on the ordinal scale.
        shared: contexts with at least two marks.
    """

    kappa: dict[tuple[str, str], tuple[float, int]]
    alpha_nominal: float
    alpha_ordinal: float
    shared: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is not defined is null."""
        return {
            "kappa": [
                {"annotators": list(pair), "kappa": _or_none(kappa), "contexts": items}
                for pair, (kappa, items) in self.kappa.items()
            ],
            "alpha_nominal": _or_none(self.alpha_nominal),
            "alpha_ordinal": _or_none(self.alpha_ordinal),
            "shared": self.shared,
        }


def agreement(marks: Mapping[str, Mapping[str, Mark]]) -> Agreement:
    """Agreement of the annotators of context -> annotator -> mark."""
    by_annotator: dict[str, dict[str, int]] = defaultdict(dict)
    for context, row in marks.items():
        for annotator, mark in row.items():
            by_annotator[annotator][context] = _RANK[mark]
    units = [[_RANK[m] for m in row.values()] for row in marks.values()]
    return Agreement(
        kappas(by_annotator),
        krippendorff_alpha(units, "nominal"),
        krippendorff_alpha(units, "ordinal"),
        sum(len(u) > 1 for u in units),
    )


def _rows_of_editor(run: str | Path, language: str | None) -> dict[str, dict[str, Any]]:
    rows = read_rows(run)
    if not all("key" in row and isinstance(row.get("scores"), Mapping) for row in rows):
        raise DataError(f"{run} is no run of `editr1 eval editor`: GSB of two runs compares two editors")
    languages = sorted({row.get("language", "") for row in rows})
    if language is None and len(languages) > 1:
        raise ConfigError(f"{run} holds tasks in {' and '.join(languages)}: choose one with --language")
    if language is not None and language not in languages:
        raise ConfigError(f"{run} holds no task in {language!r}, but in {', '.join(map(repr, languages))}")
    return {editor_key(row): row for row in rows if language in (None, row.get("language", ""))}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _gsb(sums: Array) -> Array:
    return np.asarray((sums[..., 0] - sums[..., 2]) / sums.sum(axis=-1))


def _counts(marks: Sequence[Mark]) -> list[int]:
    return [marks.count(m) for m in (Mark.GOOD, Mark.SAME, Mark.BAD)]


def _mark(row: Any) -> tuple[str, str, Mark]:
    if isinstance(row, Exception):
        raise DataError(str(row))
    if not isinstance(row, Mapping):
        raise DataError(f"a mark must be an object with {', '.join(_KEYS)}, got {row!r}")
    if missing := [key for key in _KEYS if row.get(key) in (None, "")]:
        raise DataError(f"{' and '.join(missing)} missing")
    try:
        mark = Mark(str(row["choice"]).strip().lower())
    except ValueError:
        raise DataError(f"unknown choice {row['choice']!r}: use good, same or bad") from None
    return str(row["context"]).strip(), str(row["annotator"]).strip(), mark


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)  # a stray quote would swallow what follows
    begins = 1
    try:
        if missing := [key for key in _KEYS if key not in (reader.fieldnames or ())]:
            raise DataError(f"{path}: the header lacks {', '.join(missing)}; it must name {', '.join(_KEYS)}")
        begins = reader.line_num + 1
        for row in reader:
            yield f"{path.name}:{reader.line_num}", row
            begins = reader.line_num + 1
    except csv.Error as exc:
        raise DataError(
            f"{path}: the row that begins in line {begins} is no CSV ({exc}): look for a quote that is not closed, and "
            f'write a quote within quotes as ""'
        ) from exc


def _jsonl_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path.name}:{number}", json.loads(line)
            except ValueError as exc:
                yield f"{path.name}:{number}", DataError(f"not JSON: {exc}")
