"""A run directory of an evaluation: what was asked, what was answered, and what follows from it.

config.json        what the run was started with
environment.json   code revision, packages, machine
judgements.jsonl   one line per edit or pair, appended as they come: a second run judges only what is missing
pictures/          pictures out of Parquet files
judge.json         who judged, and which versions the server named
pairs.jsonl        one line per pair (label, choice, scores) or per finished picture (scores), with the pictures' paths
problems.jsonl     rows that were left out, and why
manifest.json      everything that must agree before two results may be compared
result.json        the figures, with the manifest
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from editr1 import __version__
from editr1.errors import ConfigError, DataError, JudgeError
from editr1.evaluation.benchmarks.base import Problem
from editr1.evaluation.judgements import Judgement, JudgementFile, OnJudgement
from editr1.files import relative_reference, write_atomic, write_json
from editr1.rundir import RunDir
from editr1.types import ImageLike

CHUNK = 64
"""Edits handed to a judge at once: what a judge that stops answering leaves behind is at most this much."""

GONE_AFTER = 3
"""So many edits or more, handed over together and all without an answer, mean that the judge is gone."""


class HasId(Protocol):
    """An edit or a pair."""

    @property
    def id(self) -> str:
        """Unique in the run."""
        ...


class Describes(Protocol):
    """A judge of either kind."""

    def describe(self) -> dict[str, Any]:
        """Everything that can change an answer."""
        ...

    def versions(self) -> list[str]:
        """What the judge's server said it is, over the answers so far."""
        ...


T = TypeVar("T", bound=HasId)
J = TypeVar("J", bound=Describes)


@dataclass(slots=True)
class Progress:
    """What a call of `EvalRun.judge` did: judgements found from before, and new ones."""

    before: int = 0
    new: int = 0


class EvalRun:
    """A run directory that is written to.

    Args:
        path: of the run; made if need be.
        judging: what changes answers; must be what the directory was started with.
        measuring: what only changes the figures, and may change from run to run.

    Raises:
        ConfigError: if the directory holds a run of something else.
    """

    def __init__(self, path: str | Path, judging: Mapping[str, Any], measuring: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.config = {"judging": dict(judging), "measuring": dict(measuring)}
        self._refuse_others(json.loads(json.dumps(self.config["judging"])))
        self.file = JudgementFile(self.path / "judgements.jsonl")
        self._judge: dict[str, Any] | None = self._former_judge()

    @property
    def judgements(self) -> dict[str, Judgement]:
        """All there are, by id."""
        return self.file.judgements

    def judge(
        self,
        items: Sequence[T],
        make: Callable[[], J],
        submit: Callable[[J, Sequence[T], OnJudgement], None],
        *,
        context: Callable[[T], str] = lambda item: "",
        retry_failed: bool = False,
        advance: Callable[[int], None] = lambda number: None,
    ) -> Progress:
        """Judge what has no judgement yet, and keep each as it comes.

        A failure of the judge's answer (unreadable, refused) is a result and stays; a failure to get one (no service,
        time-out) is asked again by the next run.

        Args:
            items: edits or pairs; those of one `context` are handed over together.
            make: makes the judge; not called if nothing is missing.
            submit: `submit(judge, items, on_judgement)`.
            context: see `items`.
            retry_failed: ask again wherever there is a failure of any kind, but for pictures that cannot be read.
            advance: told how many more items are done.

        Raises:
            ConfigError: if judgements of another judge are there.
            JudgeError: if the judge as a whole cannot work, or stops answering; what it said before is kept.
        """
        missing = [item for item in items if self._wanted(item.id, retry_failed)]
        progress = Progress(before=len(items) - len(missing))
        advance(progress.before)
        if not missing:
            return progress
        judge = make()
        self._begin(judge.describe())
        for chunk in _chunks(missing, context):

            def keep(index: int, judgement: Judgement, chunk: Sequence[T] = chunk) -> None:
                assert judgement.id == chunk[index].id
                self.file.append(judgement)
                progress.new += 1
                advance(1)

            try:
                submit(judge, chunk, keep)
            finally:
                self._note_versions(judge.versions())
            self._stop_if_gone([self.judgements[item.id] for item in chunk])
        return progress

    def finish(
        self,
        order: Iterable[str],
        manifest: Mapping[str, Any],
        result: Mapping[str, Any],
        problems: Sequence[Problem],
        rows: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Write all that follows from the judgements. The same judgements give the same files, byte for byte.

        Args:
            order: ids in the order that judgements shall have.
            manifest: of the data and the measurement; judge and code are added.
            result: the figures.
            problems: rows that were left out.
            rows: of `pairs.jsonl`.
        """
        self.file.finish(order)
        whole = {**manifest, "judge": self._judge, "code": self._code(), "editr1": __version__}
        write_json(self.path / "manifest.json", whole)
        write_json(self.path / "result.json", {"manifest": whole, **result})
        listed = [{"where": p.where, "kind": p.kind, "why": p.why} for p in problems]
        for name, lines in (("problems.jsonl", listed), ("pairs.jsonl", list(rows))):
            if lines or (self.path / name).exists():
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                write_atomic(self.path / name, text)

    def reference(self, picture: ImageLike) -> str | None:
        """A picture's path as seen from the run directory, for `pairs.jsonl`; None if it is no path."""
        return relative_reference(picture, self.path) if isinstance(picture, str | Path) else None

    def failures(self, ids: Iterable[str]) -> dict[str, int]:
        """Judgements without a score or choice, by status."""
        found = (self.judgements.get(i) for i in dict.fromkeys(ids))
        return dict(sorted(Counter(j.status.value for j in found if j is not None and not j.ok).items()))

    def close(self) -> None:
        """Close the files; safe to call twice."""
        self.file.close()

    def _wanted(self, identity: str, retry_failed: bool) -> bool:
        former = self.judgements.get(identity)
        return former is None or former.service_failed or (retry_failed and not former.ok and not former.final)

    def _stop_if_gone(self, judgements: Sequence[Judgement]) -> None:
        gone = [j for j in judgements if j.service_failed]
        if len(judgements) >= GONE_AFTER and len(gone) == len(judgements):
            raise JudgeError(
                f"the judge stopped answering ({gone[-1].error}); {len(self.judgements) - len(gone)} judgements are "
                f"kept in {self.path}: run the same command again to go on"
            )

    def _refuse_others(self, judging: dict[str, Any]) -> None:
        path = self.path / "config.json"
        if not path.is_file():
            return
        former = RunDir.open(self.path).config.get("judging")
        if former is None:
            raise ConfigError(f"{self.path} holds a run that is no evaluation: choose another --out")
        different = sorted(key for key in former.keys() | judging.keys() if former.get(key) != judging.get(key))
        changed = [key for key in different if not key.startswith("contents")] or different  # names say more
        if changed:
            first = changed[0]
            raise ConfigError(
                f"{self.path} was started with another {', '.join(changed)} ({first} was {former.get(first)!r}, is "
                f"{judging.get(first)!r}): choose another --out"
            )

    def _former_judge(self) -> dict[str, Any] | None:
        path = self.path / "judge.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def _begin(self, judge: dict[str, Any]) -> None:
        """Record who judges; refuse to mix two judges in one run."""
        judge = json.loads(json.dumps(judge)) | {"versions": []}
        if self._judge is None or not self.judgements:
            self._judge = judge
        former = self._judge | {"versions": []}  # a server that names another version is recorded, not refused
        if former != judge:
            changed = sorted(k for k in judge.keys() | former.keys() if judge.get(k) != former.get(k))
            raise ConfigError(
                f"{self.path} holds judgements of another judge ({', '.join(changed)} differ): choose another --out"
            )
        RunDir.create(self.path, self.config, resume=True)
        write_json(self.path / "judge.json", self._judge)

    def _note_versions(self, versions: Iterable[str]) -> None:
        """Add to `judge.json` what the server calls itself, which may change while a run goes on."""
        assert self._judge is not None
        known = self._judge.get("versions", [])
        if set(versions) - set(known):
            self._judge["versions"] = sorted({*known, *versions})
            write_json(self.path / "judge.json", self._judge)

    def _code(self) -> list[Any]:
        """Revisions of the code that judged: one, unless the run was continued by another."""
        revisions: list[Any] = []
        for path in sorted(self.path.glob("environment*.json")):
            revision = json.loads(path.read_text(encoding="utf-8")).get("revision")
            if revision not in revisions:
                revisions.append(revision)
        return revisions


def image_sizes(sizes: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """Sizes of the source pictures, which edited ones are brought to: smallest, largest and most common."""
    counts = Counter(sizes)
    if not counts:
        return {}
    ordered = sorted(counts, key=lambda s: (s[0] * s[1], s))
    common = min(counts, key=lambda s: (-counts[s], s))
    return {"smallest": ordered[0], "largest": ordered[-1], "most_common": common, "different": len(counts)}


def read_result(path: str | Path) -> dict[str, Any]:
    """`result.json` of a finished run.

    Raises:
        DataError: if there is none.
    """
    file = Path(path) / "result.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} holds no finished evaluation: {file.name} cannot be read") from exc


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """`pairs.jsonl` of a finished run.

    Raises:
        DataError: if there is none.
    """
    file = Path(path) / "pairs.jsonl"
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} holds no evaluation of pairs: {file.name} cannot be read") from exc


def disagreements(first: Mapping[str, Any], second: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """What two manifests say differently, of the keys that must agree; a sentence each."""
    return [f"{k} differs: {first.get(k)!r} and {second.get(k)!r}" for k in keys if first.get(k) != second.get(k)]


def _chunks(items: Sequence[T], context: Callable[[T], str]) -> Iterator[list[T]]:
    """At least `CHUNK` items at a time, never parting those of one context."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(context(item) or item.id, []).append(item)
    chunk: list[T] = []
    for group in groups.values():
        chunk += group
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
