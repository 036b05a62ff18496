"""What a judge says of one edit, or of two, in a form that all judges share and that goes into a run's files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Protocol

from editr1.errors import DataError
from editr1.evaluation.metrics import Choice
from editr1.files import repair_tail, write_atomic
from editr1.types import Check, ImageLike, Principle, Usage, VerdictStatus

if TYPE_CHECKING:
    from editr1.evaluation.benchmarks.base import Pair


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit to be judged by itself.

    Attributes:
        id: of the content: equal edits have equal ids and are judged once.
        kind: of edit, for prompts that say what matters for which.
        principles: what to check; the verifier finds them itself if None.
        context: of source and instruction: edits of one context share it.
    """

    id: str
    source: ImageLike
    edited: ImageLike
    instruction: str
    kind: str = ""
    principles: tuple[Principle, ...] | None = None
    context: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says, or the record of its failure.

    Attributes:
        id: of the edit or the pair.
        status: `ok`, or the kind of failure; then there is neither score nor choice.
        score: of an edit, in the judge's own range.
        parts: the numbers that the score was made of, by name.
        choice: of a pair, which edit is better.
        orders: of a pair, the answers with the first edit shown first, and with the second shown first.
        reasoning: what the judge wrote.
        usage, seconds: spent on all calls, tries and passes.
        error: for a failure, what went wrong.
        final: asking again cannot help, for a picture cannot be read.
        checks: of a verifier, one per principle.
        spread: standard deviation of the passes' scores; `passes`: how many gave one.
        preprocessing: what was done to the pictures.
    """

    id: str
    status: VerdictStatus
    score: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    choice: Choice | None = None
    orders: tuple[Choice | None, ...] = ()
    reasoning: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    error: str | None = None
    final: bool = False
    checks: tuple[Check, ...] = ()
    spread: float | None = None
    passes: int = 1
    preprocessing: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is a score or a choice."""
        return self.status is VerdictStatus.OK

    @property
    def service_failed(self) -> bool:
        """Whether it was not the judge's answer that failed, but getting one: worth asking again."""
        return self.status in (VerdictStatus.ERROR, VerdictStatus.TIMEOUT) and not self.final

    def value(self, dimension: str) -> float | None:
        """The part that a dimension names, or the score if there is none of that name."""
        return self.parts.get(dimension, self.score) if self.ok else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is empty is left out."""
        data: dict[str, Any] = {"id": self.id, "status": self.status.value}
        data |= {
            "score": self.score,
            "parts": dict(self.parts),
            "choice": self.choice and self.choice.value,
            "orders": [o and o.value for o in self.orders],
            "reasoning": self.reasoning,
            "checks": [c.to_dict() for c in self.checks],
            "spread": self.spread,
            "passes": self.passes if self.passes != 1 else None,
            "error": self.error,
            "final": self.final or None,
            "preprocessing": list(self.preprocessing),
            "usage": self.usage.to_dict(),
            "seconds": round(self.seconds, 4),
        }
        return {key: value for key, value in data.items() if value not in (None, "", [], {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Judgement:
        """Inverse of `to_dict`.

        Raises:
            ValueError, KeyError: if the data is no judgement.
        """
        return cls(
            id=str(data["id"]),
            status=VerdictStatus(data["status"]),
            score=data.get("score"),
            parts=dict(data.get("parts", {})),
            choice=Choice(data["choice"]) if data.get("choice") else None,
            orders=tuple(Choice(o) if o else None for o in data.get("orders", ())),
            reasoning=data.get("reasoning", ""),
            usage=Usage(**data.get("usage", {})),
            seconds=data.get("seconds", 0.0),
            error=data.get("error"),
            final=data.get("final", False),
            checks=tuple(Check.from_dict(c) for c in data.get("checks", ())),
            spread=data.get("spread"),
            passes=data.get("passes", 1),
            preprocessing=tuple(data.get("preprocessing", ())),
        )


OnJudgement = Callable[[int, Judgement], None]


class Scorer(Protocol):
    """Judges edits one by one.

    Attributes:
        kind: e.g. "verifier", "scpq".
    """

    kind: str

    def score_many(self, edits: Sequence[Edit], *, on_judgement: OnJudgement) -> None:
        """Judge all; `on_judgement(index, judgement)` is called once for each, as soon as it is there.

        Raises:
            JudgeError: if the judge as a whole cannot work.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Everything about the judge that can change an answer, JSON-ready, for the manifest."""
        ...

    def versions(self) -> list[str]:
        """What the judge's server said it is, over the answers so far."""
        ...


class PairScorer(Protocol):
    """Judges two edits against each other; likewise."""

    kind: str

    def compare_many(self, pairs: Sequence[Pair], *, on_judgement: OnJudgement) -> None:
        """Judge all; `on_judgement(index, judgement)` is called once for each, as soon as it is there."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything about the judge that can change an answer, JSON-ready, for the manifest."""
        ...

    def versions(self) -> list[str]:
        """What the judge's server said it is, over the answers so far."""
        ...


def combine_passes(passes: Sequence[Judgement]) -> Judgement:
    """One judgement from several of one edit: mean of scores and of parts over the passes that gave them.

    Unless more than half of them did, it is a failure, as for the verifier. Reasoning is that of the pass closest to
    the mean.
    """
    if len(passes) == 1:
        return passes[0]
    usage, seconds = sum((p.usage for p in passes), Usage()), sum(p.seconds for p in passes)
    good = [p for p in passes if p.score is not None]
    if len(good) * 2 <= len(passes):
        failed = next(p for p in passes if not p.ok)
        error = f"{len(passes) - len(good)} of {len(passes)} passes failed, one with: {failed.error}"
        return replace(failed, error=error, usage=usage, seconds=seconds)
    scores = [p.score for p in good if p.score is not None]
    mean = fmean(scores)
    return replace(
        min(good, key=lambda p: abs((p.score or 0.0) - mean)),
        score=mean,
        parts={name: fmean(p.parts[name] for p in good) for name in good[0].parts},
        usage=usage,
        seconds=seconds,
        spread=pstdev(scores),
        passes=len(good),
    )


class JudgementFile:
    """Judgements on disk, JSONL: appended as they come, one line per id in the end.

    Attributes:
        judgements: id -> the one that counts: the last that is ok, else the last.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a file, which need not exist yet; a line cut short by a crash is dropped.

        Raises:
            DataError: if it holds anything but judgements.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        repair_tail(self.path)
        self.judgements = read_judgements(self.path) if self.path.exists() else {}
        self._file = self.path.open("a", encoding="utf-8", errors="replace")

    def append(self, judgement: Judgement) -> None:
        """Add a judgement and flush it to the file."""
        self._file.write(_line(judgement))
        self._file.flush()
        _keep(self.judgements, judgement)

    def finish(self, order: Iterable[str]) -> None:
        """Close the file; if it holds more lines than ids, or in another order, write it anew at once.

        Args:
            order: ids in the order that lines shall have; others follow as they were.
        """
        self._file.close()
        ids = dict.fromkeys([*(i for i in order if i in self.judgements), *self.judgements])
        content = "".join(_line(self.judgements[i]) for i in ids)
        if self.path.read_text(encoding="utf-8") != content:
            write_atomic(self.path, content)

    def close(self) -> None:
        """Close the file as it is; safe to call twice."""
        self._file.close()


def read_judgements(path: str | Path) -> dict[str, Judgement]:
    """The judgements of a file by id; of several with one id, the last that is ok, else the last.

    Raises:
        DataError: if it cannot be read, or holds anything but judgements.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror}") from exc
    judgements: dict[str, Judgement] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                _keep(judgements, Judgement.from_dict(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                raise DataError(f"{path}:{number} is no judgement: choose another run directory") from exc
    return judgements


def _keep(judgements: dict[str, Judgement], judgement: Judgement) -> None:
    former = judgements.get(judgement.id)
    if former is None or judgement.ok or not former.ok:
        judgements[judgement.id] = judgement


def _line(judgement: Judgement) -> str:
    return json.dumps(judgement.to_dict(), ensure_ascii=False) + "\n"
