"""The judge protocol: a chat with images in, text and usage out.

A judge answers many requests at once, in order, and never raises for a single one: what became of each call is in
its reply's status. That keeps a failed judgement from ever turning into a number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from PIL import Image

from editr1.types import Usage


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An RGB picture in a message."""

    image: Image.Image


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `role` is "system", "user" or "assistant"."""

    role: str
    content: tuple[Text | Picture, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. `temperature` 0 is greedy; `max_tokens` bounds the answer."""

    max_tokens: int = 2048
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat to continue with one assistant turn.

    `fresh` tells repeated draws of one request apart (passes, tries): it enters the cache key, and it offsets the
    seed of judges that sample.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    fresh: int = 0

    def fingerprint(self) -> str:
        """SHA-256 over everything that can change the answer: roles, texts, image bytes, sampling, `fresh`."""
        digest = hashlib.sha256()
        for message in self.messages:
            digest.update(f"\x00role:{message.role}".encode())
            for part in message.content:
                if isinstance(part, Text):
                    digest.update(f"\x00text:{len(part.text)}:{part.text}".encode())
                else:
                    digest.update(f"\x00image:{part.image.mode}:{part.image.size}".encode())
                    digest.update(part.image.tobytes())
        digest.update(json.dumps([asdict(self.sampling), self.fresh]).encode())
        return digest.hexdigest()


class ReplyStatus(StrEnum):
    """What became of one call."""

    OK = "ok"
    REFUSED = "refused"  # the model or the service's filter declined
    TIMEOUT = "timeout"
    EMPTY = "empty"
    TRUNCATED = "truncated"  # the answer hit max_tokens
    ERROR = "error"  # the service failed or could not be reached, after retries


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One answer, or the record of its failure. Usage and seconds are kept for failures too.

    `seconds` is the wall-clock time that this request took, its retries included; for a batched judge, the
    batch's time divided by its size.
    """

    status: ReplyStatus
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a whole answer."""
        return self.status is ReplyStatus.OK


OnReply = Callable[[int, ChatReply], None]


@runtime_checkable
class Judge(Protocol):
    """Anything that answers chats with images.

    Attributes:
        name: for people, e.g. "Qwen/Qwen2.5-VL-7B-Instruct".
        fingerprint: everything about the judge that can change an answer (model, revision, adapter, endpoint);
            part of every cache key and result manifest.
    """

    name: str
    fingerprint: str

    def chat(self, requests: Sequence[ChatRequest], *, on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer all requests: same length, same order.

        Args:
            requests: the chats to continue.
            on_reply: called in the calling thread as `on_reply(index, reply)` as soon as a reply is there, so that
                finished work can be kept while the rest is under way.

        Raises:
            JudgeError: only if the judge as a whole cannot work (no such model, no such host).
        """
        ...
