"""A judge of pairs: which of two edits is better, asked in both orders, since judges favour a place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from editr1.errors import VerdictParseError
from editr1.evaluation.benchmarks.base import Pair
from editr1.evaluation.judgements import Judgement, OnJudgement
from editr1.evaluation.judging import Questions, judge_many
from editr1.evaluation.metrics import Choice
from editr1.evaluation.prompts import PairPrompt, fill
from editr1.evaluation.scorers import describe_judge, served_versions
from editr1.images import prepare_pair
from editr1.judges.base import ChatReply, Judge, Message, Picture, ReplyStatus, Sampling, Text
from editr1.types import Usage, VerdictStatus
from editr1.verifier.asking import Ask, Outcome
from editr1.verifier.scan import scan

_ANSWERS = {"a": Choice.FIRST, "b": Choice.SECOND, "tie": Choice.SAME, "same": Choice.SAME, "equal": Choice.SAME}


class PairwiseScorer:
    """Compares two edits of one context.

    With `both_orders`, each pair is asked twice, with the edits in either place: the same answer twice is the choice,
    two different ones are inconsistent and make a tie. Without, the order is drawn from the seed and the pair, so that
    the published order, which in some benchmarks is the answer, is never what the judge sees throughout.

    Args:
        judge: answers the chats.
        prompt: the words.
        sampling: of an answer.
        both_orders: see above.
        max_tries: how often an answer is asked for that cannot be read.
        seed: of the order, and of sampling unless `sampling` has its own.
    """

    kind = "pairwise"

    def __init__(
        self,
        judge: Judge,
        prompt: PairPrompt,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        both_orders: bool = True,
        max_tries: int = 3,
        seed: int = 0,
    ) -> None:
        self.judge = judge
        self.prompt = prompt
        self.both_orders = both_orders
        self.max_tries = max_tries
        self.seed = seed
        self.sampling = replace(sampling, seed=seed if sampling.seed is None else sampling.seed)

    def describe(self) -> dict[str, Any]:
        """Judge, prompt, sampling, orders."""
        given = describe_judge(self.kind, self.judge, self.prompt.hash, self.sampling, 1, self.max_tries)
        return given | {"prompt": self.prompt.name, "both_orders": self.both_orders, "order_seed": self.seed}

    def versions(self) -> list[str]:
        """See `served_versions`."""
        return served_versions(self.judge)

    def compare_many(self, pairs: Sequence[Pair], *, on_judgement: OnJudgement) -> None:
        """Judge all pairs."""
        judge_many(self.judge, pairs, self._questions, max_tries=self.max_tries, on_judgement=on_judgement)

    def _questions(self, pair: Pair) -> Questions[Choice]:
        """In one order, or in both."""
        source, first, _ = prepare_pair(pair.source.path, pair.first.path)
        _, second, _ = prepare_pair(pair.source.path, pair.second.path)
        start = second_shown_first(pair.id, self.seed)
        orders = (start, not start) if self.both_orders else (start,)
        asks = []
        for swapped in orders:
            shown = (second, first) if swapped else (first, second)
            asks.append(Ask(self._messages(pair, source, *shown), self.sampling, read_choice))
        return Questions(asks, lambda outcomes: _judgement(pair.id, dict(zip(orders, outcomes, strict=True))))

    def _messages(
        self, pair: Pair, source: Image.Image, first: Image.Image, second: Image.Image
    ) -> tuple[Message, ...]:
        criterion = self.prompt.criteria.get(pair.dimension, self.prompt.criteria.get("overall", ""))
        content = (
            Text(self.prompt.source_label),
            Picture(source),
            Text(fill(self.prompt.first_label, instruction=pair.instruction, criterion=criterion)),
            Picture(first),
            Text(self.prompt.second_label),
            Picture(second),
        )
        return (Message("system", (Text(self.prompt.system),)), Message("user", content))


def second_shown_first(identity: str, seed: int) -> bool:
    """A fair coin that depends on the seed and the pair alone."""
    return bool(hashlib.sha256(f"order/{seed}/{identity}".encode("utf-8", "replace")).digest()[0] & 1)


def read_choice(reply: ChatReply) -> Choice:
    """The choice of an answer: that of the last JSON object with "choice" in it, A being the edit shown first.

    Raises:
        VerdictParseError: if there is none, or it is neither A, B nor a tie.
    """
    if reply.status is ReplyStatus.TRUNCATED:
        raise VerdictParseError("truncated", "the answer hit the token limit")
    if not reply.text.strip():
        raise VerdictParseError("empty")
    stated = [v.data["choice"] for v in scan(reply.text).values if isinstance(v.data, dict) and "choice" in v.data]
    if not stated:
        raise VerdictParseError("no score", 'the answer has no JSON object with "choice"')
    key = str(stated[-1]).strip().strip("\"'.").lower().removeprefix("result ").strip()
    if key not in _ANSWERS:
        raise VerdictParseError("no score", f"{stated[-1]!r} is neither A, B nor tie")
    return _ANSWERS[key]


def _judgement(identity: str, outcomes: dict[bool, Outcome[Choice]]) -> Judgement:
    """From the answers by order to one judgement; a failure in either order is a failure."""
    usage = sum((o.usage for o in outcomes.values()), Usage())
    seconds = sum(o.seconds for o in outcomes.values())
    reasoning = "\n\n".join(outcomes[key].text for key in sorted(outcomes))
    answers: list[Choice | None] = []
    for swapped in (False, True):
        value = outcomes[swapped].value if swapped in outcomes else None
        answers.append(value.swapped if swapped and value is not None else value)
    failed = next((outcomes[key] for key in sorted(outcomes) if outcomes[key].value is None), None)
    spent = Judgement(
        identity, VerdictStatus.OK, orders=tuple(answers), reasoning=reasoning, usage=usage, seconds=seconds
    )
    if failed is not None:
        return replace(spent, status=failed.status, error=failed.error)
    given = {a for a in answers if a is not None}
    return replace(spent, choice=given.pop() if len(given) == 1 else Choice.SAME)
