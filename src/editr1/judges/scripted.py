"""A judge for tests: it says what it was told to say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from editr1.errors import JudgeError
from editr1.judges.base import ChatReply, ChatRequest, OnReply, ReplyStatus, Text
from editr1.types import Usage

Line: TypeAlias = str | ChatReply


class ScriptedJudge:
    """Answers from a script: a list of lines, or a function of the request.

    A line is a text (an empty one makes an `EMPTY` reply) or a whole `ChatReply`, which scripts a failure. A list is
    used up in order over all calls. `fail_after` and `error` script a judge that breaks down as a whole.

    Attributes:
        requests: every request that was seen, in order.

    Args:
        replies: the lines, or a function that makes one from each request.
        name: also enters the fingerprint: give judges that answer differently different names before caching them.
        latency: seconds that each reply takes.
        fail_after: `chat` raises `JudgeError` when it has answered this many requests; None: never.
    """

    def __init__(
        self,
        replies: Sequence[Line] | Callable[[ChatRequest], Line],
        *,
        name: str = "scripted",
        latency: float = 0.0,
        fail_after: int | None = None,
    ) -> None:
        if isinstance(replies, str):
            raise TypeError(f"replies must be a list of texts or a function, got the text {replies!r}: wrap it in []")
        self.name = name
        self.fingerprint = f"scripted:{name}"
        self.latency = latency
        self.fail_after = fail_after
        self.requests: list[ChatRequest] = []
        self._replies = replies
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ScriptedJudge(name={self.name!r}, seen={len(self.requests)})"

    def chat(self, requests: Sequence[ChatRequest], *, on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer all requests from the script.

        Raises:
            JudgeError: if the list of lines is used up, or `fail_after` requests were answered.
        """
        replies = []
        for index, request in enumerate(requests):
            reply = self._answer(request)
            replies.append(reply)
            if on_reply is not None:
                on_reply(index, reply)
        return replies

    def _answer(self, request: ChatRequest) -> ChatReply:
        with self._lock:
            seen = len(self.requests)
            if self.fail_after is not None and seen >= self.fail_after:
                raise JudgeError(f"{self.name} breaks down after {seen} replies, as it was told to")
            if callable(self._replies):
                line = self._replies(request)
            elif seen < len(self._replies):
                line = self._replies[seen]
            else:
                raise JudgeError(f"{self.name} has {len(self._replies)} lines and was asked once more: script more")
            self.requests.append(request)
        if self.latency:
            time.sleep(self.latency)
        reply = line if isinstance(line, ChatReply) else _spoken(request, line)
        return replace(reply, seconds=reply.seconds or self.latency)


def _spoken(request: ChatRequest, text: str) -> ChatReply:
    """A whole answer; a token is a word here."""
    asked = sum(len(p.text.split()) for m in request.messages for p in m.content if isinstance(p, Text))
    usage = Usage(prompt_tokens=asked, completion_tokens=len(text.split()), calls=1)
    return ChatReply(ReplyStatus.OK if text.strip() else ReplyStatus.EMPTY, text, usage)
