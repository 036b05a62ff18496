"""The journal of judge calls: what was answered is on disk before anything is made of it.

Between two shards, nothing but the journal knows which calls have been made. It is appended to, a line a reply,
flushed to the system as soon as the reply is there, so that a killed run asks again only what was under way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editr1.errors import JudgeError
from editr1.files import repair_tail
from editr1.judges.base import ChatReply, ChatRequest, Judge, OnReply, ReplyStatus
from editr1.types import Usage

GONE_AFTER = 8
"""So many errors in a row, with none but errors to follow in their batch, mean that the judge is gone: the run stops,
and can be continued."""


@dataclass(slots=True)
class Spent:
    """What a judge's calls took, those of former runs of the same shard included.

    Attributes:
        calls: requests with a reply, each counted once, whatever the judge's own retries.
        asked: how many of them this run made; the rest came from the journal.
        seconds: that the judge took, summed over calls; more than the clock shows where calls run side by side.
        statuses: replies by status.
    """

    calls: int = 0
    asked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, reply: ChatReply, *, asked: bool) -> None:
        """Count a reply."""
        self.calls += 1
        self.asked += asked
        self.prompt_tokens += reply.usage.prompt_tokens
        self.completion_tokens += reply.usage.completion_tokens
        self.seconds += reply.seconds
        self.statuses[reply.status.value] += 1

    def __iadd__(self, other: Spent) -> Spent:
        self.calls += other.calls
        self.asked += other.asked
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.seconds += other.seconds
        self.statuses.update(other.statuses)
        return self

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, JSON-ready."""
        return {
            "calls": self.calls,
            "asked": self.asked,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": round(self.seconds, 3),
            "statuses": dict(sorted(self.statuses.items())),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spent:
        """Inverse of `to_dict`."""
        return cls(**{**data, "statuses": Counter(data["statuses"])})


@dataclass(slots=True)
class Streak:
    """A judge's errors since it last answered, and the files of finished work that hold some of them.

    If the judge turns out to be gone, that work is not finished after all.
    """

    errors: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def end(self) -> None:
        """The judge answered: what it failed at before stays failed."""
        self.errors.clear()
        self.files.clear()

    def undo(self) -> None:
        """The judge is gone: remove the work that it failed."""
        for file in self.files:
            file.unlink(missing_ok=True)
        self.end()


class JournaledJudge:
    """Answers what the journal holds, and asks `judge` the rest.

    All replies are kept but errors, which cost nothing and may be gone the next time. Requests of one batch that are
    the same are asked once: one request has one answer.

    Args:
        judge: answers what is not in the journal.
        path: of the journal; made when the first reply comes.
        forget: statuses that are asked again though the journal has them.
        streak: the judge's errors since it last answered; share it between journals of one judge.
    """

    def __init__(
        self,
        judge: Judge,
        path: Path,
        *,
        forget: frozenset[ReplyStatus] = frozenset(),
        streak: Streak | None = None,
    ) -> None:
        self.judge = judge
        self.name = judge.name
        self.fingerprint = judge.fingerprint
        self.path = path
        self.spent = Spent()
        self.streak = streak or Streak()
        self._known = {key: reply for key, reply in _read(path).items() if reply.status not in forget}

    def chat(self, requests: Sequence[ChatRequest], *, on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer all requests.

        Raises:
            JudgeError: if the judge cannot work, or its last replies were all errors.
        """
        replies: dict[int, ChatReply] = {}
        waiting: dict[str, list[int]] = {}

        def give(index: int, reply: ChatReply) -> None:
            replies[index] = reply
            if on_reply is not None:
                on_reply(index, reply)

        for index, request in enumerate(requests):
            key = self._key(request)
            if key in waiting or key not in self._known:
                waiting.setdefault(key, []).append(index)
            else:
                self.spent.add(self._known[key], asked=False)
                give(index, self._known[key])
        self._ask(requests, waiting, give)
        return [replies[index] for index in range(len(requests))]

    def _ask(self, requests: Sequence[ChatRequest], waiting: Mapping[str, list[int]], give: OnReply) -> None:
        if not waiting:
            return
        keys = list(waiting)
        seen: set[int] = set()
        errors = self.streak.errors
        with _Appender(self.path) as file:

            def take(number: int, reply: ChatReply) -> None:
                if number in seen:
                    return
                seen.add(number)
                key = keys[number]
                if reply.status is ReplyStatus.ERROR:
                    errors.append(reply.error or "no reason given")
                else:
                    self.streak.end()
                    file.write(_entry(key, reply))
                    self._known[key] = reply
                self.spent.add(reply, asked=True)
                for index in waiting[key]:
                    give(index, reply)

            answers = self.judge.chat([requests[waiting[key][0]] for key in keys], on_reply=take)
            for number, reply in enumerate(answers):  # for judges that do not stream
                take(number, reply)
        if len(errors) >= GONE_AFTER:
            last = errors[-1]
            self.streak.undo()
            raise JudgeError(
                f"{self.name} stopped answering ({last}): what it answered is kept, run the command again to go on"
            )

    def _key(self, request: ChatRequest) -> str:
        return hashlib.sha256(f"{self.fingerprint}\x00{request.fingerprint()}".encode()).hexdigest()[:32]


class _Appender(contextlib.AbstractContextManager["_Appender"]):
    """Opens the journal when there is something to write, and cuts off a line that a crash tore."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def write(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_file():
                repair_tail(self._path)
            self._file = self._path.open("ab")
        # One write call a line: what the system has taken survives the death of the program.
        self._file.write(json.dumps(entry, ensure_ascii=True).encode() + b"\n")
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()


def _entry(key: str, reply: ChatReply) -> dict[str, Any]:
    return {
        "key": key,
        "status": reply.status.value,
        "text": reply.text,
        "usage": reply.usage.to_dict(),
        "seconds": round(reply.seconds, 4),
        "error": reply.error,
    }


def _read(path: Path) -> dict[str, ChatReply]:
    """All whole lines; a damaged one is a call that is made again."""
    known: dict[str, ChatReply] = {}
    if not path.is_file():
        return known
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            known[entry["key"]] = ChatReply(
                ReplyStatus(entry["status"]), entry["text"], Usage(**entry["usage"]), entry["seconds"], entry["error"]
            )
    return known
