"""What a report shows of one edit: the item that came in, checked, with its truth and how far they are apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from editr1.errors import DataError
from editr1.types import Category, Check, EditVerdict

GROUP_ORDER = (Category.KEEP, Category.FOLLOW, Category.QUALITY)
"""The order in which a report lists the families of principles."""

SCORE_TOLERANCE = 2.0
"""A verdict whose score is further than this from the true utility (0 to 10) counts as a disagreement."""

BAD_VERDICT = (ValueError, KeyError, TypeError, AttributeError)
"""What `EditVerdict.from_dict` raises on data of any other shape."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a simulation knows of an edit; any part may be unknown (None).

    Attributes:
        utility: in [0, 10], comparable with a verdict's score.
        checks: the true answer to each principle, in the principles' order.
        faults: names of the mistakes that were made on purpose.
    """

    utility: float | None = None
    checks: tuple[bool, ...] | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Truth:
        """Read `{"utility", "checks", "faults"}`, each optional.

        Raises:
            ValueError, TypeError: if the utility is no number in [0, 10].
        """
        utility, checks = data.get("utility"), data.get("checks")
        if utility is not None and not 0 <= float(utility) <= 10:
            raise ValueError(f"a true utility lies in [0, 10], got {utility!r}")
        return cls(
            None if utility is None else float(utility),
            None if checks is None else tuple(bool(c) for c in checks),
            tuple(str(f) for f in data.get("faults") or ()),
        )


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A check with what is known about it: `agreement` in [0.5, 1] over passes, `truth`; None where unknown."""

    check: Check
    agreement: float | None
    truth: bool | None

    @property
    def disagrees(self) -> bool:
        """Whether the truth is known and is the opposite."""
        return self.truth is not None and self.truth != self.check.met


@dataclass(frozen=True, slots=True)
class Entry:
    """One edit of a report. `number` counts from 1 in the order given; ids need not be unique."""

    number: int
    id: str
    source: Any
    edited: Any
    instruction: str
    kind: str
    editor: str
    verdict: EditVerdict
    truth: Truth | None

    @classmethod
    def from_item(cls, number: int, item: Mapping[str, Any]) -> Entry:
        """Check an item of `write_report`.

        Raises:
            DataError: if the verdict is none, or the truth has another shape.
        """
        verdict, truth = item.get("verdict"), item.get("truth")
        name = str(number if item.get("id") is None else item["id"])
        try:
            if not isinstance(verdict, EditVerdict):
                verdict = EditVerdict.from_dict(verdict or {})
            known = None if truth is None else Truth.from_dict(truth)
        except BAD_VERDICT as exc:
            raise DataError(f"item {name!r} of the report has no valid verdict or truth: {describe(exc)}") from exc
        return cls(
            number=number,
            id=name,
            source=item.get("source"),
            edited=item.get("edited"),
            instruction=str(item.get("instruction") or ""),
            kind=str(item.get("kind") or ""),
            editor=str(item.get("editor") or ""),
            verdict=verdict,
            truth=known,
        )

    @property
    def rows(self) -> tuple[CheckRow, ...]:
        """The checks with agreement and truth; a list of another length than the checks belongs to others."""
        checks = self.verdict.checks or ()
        agreement = self.verdict.passes.agreement if self.verdict.passes else ()
        truth = (self.truth.checks or ()) if self.truth else ()
        return tuple(
            CheckRow(
                check,
                agreement[i] if len(agreement) == len(checks) else None,
                truth[i] if len(truth) == len(checks) else None,
            )
            for i, check in enumerate(checks)
        )

    @property
    def groups(self) -> list[tuple[Category, list[CheckRow]]]:
        """The rows by family, families in `GROUP_ORDER`, empty ones left out."""

        def rank(row: CheckRow) -> int:
            return GROUP_ORDER.index(row.check.principle.category)

        return [(GROUP_ORDER[i], list(rows)) for i, rows in groupby(sorted(self.rows, key=rank), key=rank)]

    @property
    def failed_families(self) -> list[str]:
        """Short names of the families with at least one principle that is not met."""
        return [family.short for family, rows in self.groups if not all(r.check.met for r in rows)]

    @property
    def score_error(self) -> float | None:
        """Score minus true utility, where both are known."""
        if self.verdict.score is None or self.truth is None or self.truth.utility is None:
            return None
        return self.verdict.score - self.truth.utility

    @property
    def disagreement(self) -> float | None:
        """0 where verdict and truth are one, up to 2: distance of the scores / 10 plus share of checks that differ.

        None where nothing can be compared.
        """
        compared = [row for row in self.rows if row.truth is not None]
        if self.score_error is None and not compared:
            return None
        differing = sum(row.disagrees for row in compared) / max(len(compared), 1)
        return abs(self.score_error or 0.0) / 10 + differing

    @property
    def disagrees(self) -> bool:
        """Whether any check is the opposite of the truth, or the score is further off than `SCORE_TOLERANCE`."""
        return any(row.disagrees for row in self.rows) or abs(self.score_error or 0.0) > SCORE_TOLERANCE


def read_entries(items: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Check all items of a report.

    Raises:
        DataError: naming the first item that is none.
    """
    return [Entry.from_item(number, item) for number, item in enumerate(items, start=1)]


def describe(exc: BaseException) -> str:
    """An exception in words; a bare `KeyError` names only its key."""
    return f"{exc.args[0]!r} is missing" if isinstance(exc, KeyError) and exc.args else str(exc)
