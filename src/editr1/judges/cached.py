"""An on-disk cache around any judge.

One JSON file per answer, in 256 folders by the first two digits of its key. Unlike a database file that needs locks,
this is safe with any number of processes, on network disks too: a file is written aside and moved into place, so a
reader sees a whole answer or none, and two writers of one key write the same thing.

Only whole answers (`OK`) are kept. A failure is asked again by the next run: a time-out, refusal or error may be gone
by then, and a truncated answer is what a re-run is meant to get rid of. (Its `max_tokens` is part of the key, so
a larger limit asks afresh anyway.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from editr1.errors import JudgeError
from editr1.judges.base import ChatReply, ChatRequest, Judge, OnReply, ReplyStatus
from editr1.types import Usage

_log = logging.getLogger(__name__)


class CachedJudge:
    """Answers what was asked before from disk, and asks `judge` the rest.

    A reply from disk has `usage` of one cached call and no tokens, because none were spent. Requests of one batch
    with the same key are asked once.

    Args:
        judge: answers what is not on disk; its `fingerprint` is part of every key.
        folder: made if it is missing; may be shared by judges and processes.

    Raises:
        JudgeError: if the folder cannot be made.
    """

    def __init__(self, judge: Judge, folder: str | Path) -> None:
        self.judge = judge
        self.name = judge.name
        self.fingerprint = judge.fingerprint
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise JudgeError(f"the cache folder {self.folder} cannot be made ({exc.strerror}): name another") from exc

    def __repr__(self) -> str:
        return f"CachedJudge({self.judge!r}, {str(self.folder)!r})"

    @property
    def versions(self) -> set[str]:
        """What the judge that is asked says it is; answers from disk do not say."""
        return set(getattr(self.judge, "versions", ()))

    def chat(self, requests: Sequence[ChatRequest], *, on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer all requests; those on disk come first, and nothing is asked if all are there."""
        replies: dict[int, ChatReply] = {}
        asked: dict[str, list[int]] = {}  # key -> the requests that wait for it

        def give(index: int, reply: ChatReply) -> None:
            replies[index] = reply
            if on_reply is not None:
                on_reply(index, reply)

        for index, request in enumerate(requests):
            start = time.perf_counter()
            key = self._key(request)
            if key not in asked and (found := self._read(key)) is not None:
                give(index, ChatReply(ReplyStatus.OK, found, Usage(cached=1), time.perf_counter() - start))
            else:
                asked.setdefault(key, []).append(index)

        keys = list(asked)

        def keep(number: int, reply: ChatReply) -> None:
            first, *others = asked[keys[number]]
            if reply.ok:
                self._write(keys[number], reply.text)
            give(first, reply)
            for index in others:
                same = ChatReply(reply.status, reply.text, Usage(cached=int(reply.ok)), 0.0, reply.error)
                give(index, same)

        if keys:
            answers = self.judge.chat([requests[asked[key][0]] for key in keys], on_reply=keep)
            for number, reply in enumerate(answers):  # for judges that do not call on_reply
                if asked[keys[number]][0] not in replies:
                    keep(number, reply)
        return [replies[index] for index in range(len(requests))]

    def _key(self, request: ChatRequest) -> str:
        return hashlib.sha256(f"{self.judge.fingerprint}\x00{request.fingerprint()}".encode()).hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def _read(self, key: str) -> str | None:
        """The answer under a key, or None if there is none that is whole."""
        try:
            entry = json.loads(self._path(key).read_bytes())
            text = entry["text"]
            whole = isinstance(text, str) and entry["check"] == _check(key, text)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return text if whole else None

    def _write(self, key: str, text: str) -> None:
        path = self._path(key)
        aside = path.with_name(f".{uuid.uuid4().hex}.tmp")
        entry = {"judge": self.name, "text": text, "check": _check(key, text)}
        try:
            path.parent.mkdir(exist_ok=True)
            aside.write_text(json.dumps(entry), encoding="utf-8")
            aside.replace(path)
        except OSError as exc:  # a full disk must not cost the answer that has just been paid for
            _log.warning("an answer could not be cached in %s: %s", self.folder, exc)
            with contextlib.suppress(OSError):
                aside.unlink()


def _check(key: str, text: str) -> str:
    """Ties an answer to its key, so that damaged, truncated and misplaced files are seen."""
    return hashlib.sha256(f"{key}\x00{text}".encode("utf-8", "surrogatepass")).hexdigest()
