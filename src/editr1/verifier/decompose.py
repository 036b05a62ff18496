"""Decompose: split an instruction, seen with its picture, into yes/no principles (section 3.1)."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from editr1.errors import DecomposeError
from editr1.judges.base import ChatReply, Judge, ReplyStatus, Sampling
from editr1.types import Principle, Usage, VerdictStatus
from editr1.verifier.asking import Ask, Outcome, ask
from editr1.verifier.exemplars import draw, render_exemplars
from editr1.verifier.parse import parse_principles
from editr1.verifier.render import render_decompose
from editr1.verifier.template import PromptTemplate

_CACHE_SIZE = 4096
_MIN_TOKENS = 1024
"""Ten principles take about 500 tokens, whatever a verdict's own limit is."""


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The principles of a context, or the record of why there are none."""

    status: VerdictStatus
    principles: tuple[Principle, ...] | None = None
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there are principles."""
        return self.principles is not None


@dataclass(frozen=True, slots=True)
class Context:
    """A loaded picture and what is to be done with it; `digest` identifies the picture's pixels."""

    source: Image.Image
    digest: str
    instruction: str

    @property
    def key(self) -> str:
        """Identifies the context by its content."""
        return hashlib.sha256(f"{self.digest}\x00{self.instruction}".encode()).hexdigest()


class Decomposer:
    """Splits instructions, each distinct context once: results are kept in memory.

    Args:
        judge: who is asked.
        template: its decomposition part is used.
        sampling: its token limit and seed are used; decompositions are greedy.
        max_tries: how often an answer is asked for that cannot be read.
        seed: draws the exemplars.
    """

    def __init__(
        self, judge: Judge, template: PromptTemplate, sampling: Sampling, *, max_tries: int = 3, seed: int = 0
    ) -> None:
        self.judge = judge
        self.template = template
        self.sampling = replace(sampling, temperature=0.0, max_tokens=max(sampling.max_tokens, _MIN_TOKENS))
        self.max_tries = max_tries
        self.seed = seed
        self._known: OrderedDict[str, tuple[Principle, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, contexts: Sequence[Context]) -> dict[str, Decomposition]:
        """Split each distinct context, by its key; one that was split before costs nothing.

        Raises:
            JudgeError: if the judge as a whole cannot work.
        """
        results: dict[str, Decomposition] = {}
        new: dict[str, Context] = {}
        for context in contexts:
            known = self._recall(context.key)
            if known is None:
                new.setdefault(context.key, context)
            else:
                results[context.key] = Decomposition(VerdictStatus.OK, known)
        keys = list(new)

        def keep(index: int, outcome: Outcome[tuple[Principle, ...]]) -> None:
            if outcome.value is not None:
                self._remember(keys[index], outcome.value)

        outcomes = ask(self.judge, [self._ask(c) for c in new.values()], max_tries=self.max_tries, on_outcome=keep)
        for key, o in zip(keys, outcomes, strict=True):
            results[key] = Decomposition(o.status, o.value, o.error, o.usage, o.seconds)
        return results

    def _ask(self, context: Context) -> Ask[tuple[Principle, ...]]:
        exemplars = render_exemplars(draw(self.template.exemplars, self.seed, context.key))
        messages = render_decompose(self.template, context.source, context.instruction, exemplars)
        return Ask(messages, self.sampling, _read)

    def _recall(self, key: str) -> tuple[Principle, ...] | None:
        with self._lock:
            return self._known.get(key)

    def _remember(self, key: str, principles: tuple[Principle, ...]) -> None:
        with self._lock:
            self._known[key] = principles
            while len(self._known) > _CACHE_SIZE:
                self._known.popitem(last=False)


def _read(reply: ChatReply) -> tuple[Principle, ...]:
    if reply.status is ReplyStatus.EMPTY or not reply.text.strip():
        raise DecomposeError("the answer is empty")
    if reply.status is ReplyStatus.TRUNCATED:
        raise DecomposeError("the answer ran into the token limit")
    return parse_principles(reply.text)
