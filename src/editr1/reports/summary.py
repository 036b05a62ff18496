"""The figures at the top of a report. Failures are counted by status and enter no mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev

from editr1.reports.entries import GROUP_ORDER, Entry
from editr1.types import Usage, VerdictStatus

BINS = 10


@dataclass(frozen=True, slots=True)
class Share:
    """`met` of `total`, under a name."""

    name: str
    met: int
    total: int

    @property
    def value(self) -> float:
        """In [0, 1]; 0 if there is nothing to share."""
        return self.met / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class KindLine:
    """Number of edits of one kind and the mean score of those that have one (None if none has)."""

    kind: str
    count: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class TruthSummary:
    """Verdicts beside what the simulation knows.

    Attributes:
        families: checks that agree with the truth, of those compared, by family.
        mean_error: mean distance of score and true utility, 0 to 10; None if none could be compared.
        disagreeing: edits with any difference that counts.
        histogram: true utilities of the scored edits, counted as scores are.
    """

    edits: int
    families: tuple[Share, ...]
    mean_error: float | None
    disagreeing: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a whole set of verdicts says.

    Attributes:
        mean, spread, median: of the scores, 0 to 10; the spread is the standard deviation over edits. None if
            nothing has a score.
        histogram: scores in ten bins of width one; a 10 is in the last.
        families: principles met, by family, over all scored edits.
        failures: how many edits have which status other than ok, in the statuses' order.
        seconds: spent on all judgements together.
    """

    count: int
    scored: int
    mean: float | None
    spread: float | None
    median: float | None
    histogram: tuple[int, ...]
    families: tuple[Share, ...]
    failures: tuple[tuple[str, int], ...]
    kinds: tuple[KindLine, ...]
    editors: tuple[str, ...]
    judges: tuple[str, ...]
    usage: Usage
    seconds: float
    truth: TruthSummary | None


def summarise(entries: Sequence[Entry]) -> Summary:
    """Count and average."""
    scores = [e.verdict.score for e in entries if e.verdict.score is not None]
    statuses = Counter(e.verdict.status for e in entries)
    return Summary(
        count=len(entries),
        scored=len(scores),
        mean=fmean(scores) if scores else None,
        spread=pstdev(scores) if scores else None,
        median=median(scores) if scores else None,
        histogram=_histogram(scores),
        families=_families(entries),
        failures=tuple((s.value, statuses[s]) for s in VerdictStatus if s is not VerdictStatus.OK and statuses[s]),
        kinds=_kinds(entries),
        editors=tuple(sorted({e.editor for e in entries if e.editor})),
        judges=tuple(sorted({e.verdict.judge for e in entries if e.verdict.judge})),
        usage=sum((e.verdict.usage for e in entries), Usage()),
        seconds=sum(e.verdict.seconds for e in entries),
        truth=_truth(entries),
    )


def _histogram(values: Sequence[float]) -> tuple[int, ...]:
    counts = Counter(min(int(v), BINS - 1) for v in values)
    return tuple(counts[i] for i in range(BINS))


def _families(entries: Sequence[Entry], *, truth: bool = False) -> tuple[Share, ...]:
    """Share of principles met, or, with `truth`, of checks that agree with the truth."""
    rows = [row for e in entries for row in e.rows if not truth or row.truth is not None]
    shares = []
    for family in GROUP_ORDER:
        mine = [row for row in rows if row.check.principle.category is family]
        met = sum(not row.disagrees if truth else row.check.met for row in mine)
        shares.append(Share(family.short, met, len(mine)))
    return tuple(share for share in shares if share.total)


def _kinds(entries: Sequence[Entry]) -> tuple[KindLine, ...]:
    lines = []
    for kind in sorted({e.kind for e in entries if e.kind}):
        mine = [e for e in entries if e.kind == kind]
        scores = [e.verdict.score for e in mine if e.verdict.score is not None]
        lines.append(KindLine(kind, len(mine), fmean(scores) if scores else None))
    return tuple(lines)


def _truth(entries: Sequence[Entry]) -> TruthSummary | None:
    known = [e for e in entries if e.disagreement is not None]
    if not known:
        return None
    errors = [abs(e.score_error) for e in known if e.score_error is not None]
    utilities = [e.truth.utility for e in known if e.truth and e.truth.utility is not None]
    return TruthSummary(
        edits=len(known),
        families=_families(known, truth=True),
        mean_error=fmean(errors) if errors else None,
        disagreeing=sum(e.disagrees for e in known),
        histogram=_histogram(utilities),
    )
