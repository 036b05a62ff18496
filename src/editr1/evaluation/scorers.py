"""Judges of single edits: the verifier, and rating prompts (holistic, SC/PQ, ImgEdit's) put to any chat judge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from statistics import fmean
from typing import Any

from PIL import Image

from editr1.errors import ImageError, VerdictParseError
from editr1.evaluation.judgements import Edit, Judgement, OnJudgement, combine_passes
from editr1.evaluation.judging import Questions, judge_many
from editr1.evaluation.prompts import Call, RatingPrompt, fill
from editr1.images import load_image, prepare_pair
from editr1.judges.base import ChatReply, Judge, Message, Picture, ReplyStatus, Sampling, Text
from editr1.types import EditVerdict, Usage, VerdictStatus
from editr1.verifier.asking import Ask, Outcome
from editr1.verifier.scan import scan
from editr1.verifier.score import Verifier

PASSES_TEMPERATURE = 0.7
"""For several passes of a judge whose temperature is 0: greedy passes would be equal."""


class VerifierScorer:
    """The reasoning reward model: principles, checks, a score from 0 to 10."""

    kind = "verifier"

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    def score_many(self, edits: Sequence[Edit], *, on_judgement: OnJudgement) -> None:
        """Judge all edits."""
        items = [
            {
                "id": e.id,
                "source": e.source,
                "edited": e.edited,
                "instruction": e.instruction,
                "principles": e.principles,
            }
            for e in edits
        ]
        self.verifier.score_many(
            items, on_verdict=lambda index, verdict: on_judgement(index, _judgement_of(edits[index], verdict))
        )

    def describe(self) -> dict[str, Any]:
        """Judge, prompt, sampling, passes."""
        v = self.verifier
        return describe_judge(self.kind, v.judge, v.template.hash, v.sampling, v.passes, v.max_tries) | {
            "prompt": v.template.name,
            "passes_temperature": v.passes_temperature,
        }

    def versions(self) -> list[str]:
        """See `served_versions`."""
        return served_versions(self.verifier.judge)


def _judgement_of(edit: Edit, verdict: EditVerdict) -> Judgement:
    """From a verdict; an error because of a picture is final."""
    judgement = from_verdict(edit.id, verdict)
    if not judgement.service_failed:
        return judgement
    try:
        for picture in (edit.source, edit.edited):
            load_image(picture)
    except ImageError:
        return replace(judgement, final=True)
    return judgement


def from_verdict(identity: str, verdict: EditVerdict) -> Judgement:
    """A verdict in the form that all judges share; its parts are the shares of principles met, by family."""
    parts = {}
    checks = sorted(verdict.checks or (), key=lambda c: c.principle.category.short)
    for family, group in groupby(checks, key=lambda c: c.principle.category.short):
        parts[family] = fmean(float(c.met) for c in group)
    return Judgement(
        id=identity,
        status=verdict.status,
        score=verdict.score,
        parts=parts,
        reasoning=verdict.reasoning,
        usage=verdict.usage,
        seconds=verdict.seconds,
        error=verdict.error,
        checks=verdict.checks or (),
        spread=verdict.passes.spread if verdict.passes else None,
        passes=len(verdict.passes.scores) if verdict.passes else 1,
        preprocessing=verdict.preprocessing,
    )


class RatingScorer:
    """Numbers asked for directly, without principles: VIEScore's way, with prompts of our own.

    Args:
        judge: answers the chats.
        prompt: which numbers, and what becomes of them.
        sampling: of an answer; with several passes a temperature of 0 becomes `PASSES_TEMPERATURE`.
        passes: answers that make a judgement.
        max_tries: how often an answer is asked for that cannot be read.
        seed: of sampling, unless `sampling` has its own.
    """

    def __init__(
        self,
        judge: Judge,
        prompt: RatingPrompt,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        passes: int = 1,
        max_tries: int = 3,
        seed: int = 0,
    ) -> None:
        self.judge = judge
        self.prompt = prompt
        self.kind = prompt.name
        self.passes = passes
        self.max_tries = max_tries
        warm = PASSES_TEMPERATURE if passes > 1 and sampling.temperature == 0 else sampling.temperature
        self.sampling = replace(sampling, temperature=warm, seed=seed if sampling.seed is None else sampling.seed)

    def describe(self) -> dict[str, Any]:
        """Judge, prompt, sampling, passes."""
        given = describe_judge(self.kind, self.judge, self.prompt.hash, self.sampling, self.passes, self.max_tries)
        return given | {"prompt": self.prompt.name}

    def versions(self) -> list[str]:
        """See `served_versions`."""
        return served_versions(self.judge)

    def score_many(self, edits: Sequence[Edit], *, on_judgement: OnJudgement) -> None:
        """Judge all edits; the edited picture is brought to the source's size first."""
        judge_many(self.judge, edits, self._questions, max_tries=self.max_tries, on_judgement=on_judgement)

    def _questions(self, edit: Edit) -> Questions[list[float]]:
        source, edited, notes = prepare_pair(edit.source, edit.edited)
        asks = list(self._asks(edit, {"source": source, "edited": edited}))
        return Questions(asks, lambda outcomes: replace(self._judgement(edit.id, outcomes), preprocessing=notes))

    def _asks(self, edit: Edit, pictures: dict[str, Image.Image]) -> Iterator[Ask[list[float]]]:
        """Pass by pass, call by call."""
        criterion = self.prompt.criterion(edit.kind)
        for number in range(self.passes):
            for call in self.prompt.calls:
                words = fill(call.text, instruction=edit.instruction, criterion=criterion)
                shown = [Picture(pictures[name]) for name in call.pictures]
                messages = (Message("system", (Text(call.system),)), Message("user", (*shown, Text(words))))
                yield Ask(messages, self.sampling, self._reader(call), fresh=number, stride=self.passes)

    def _reader(self, call: Call) -> Any:
        low, high, number = self.prompt.low, self.prompt.high, len(call.parts)
        return lambda reply: read_ratings(reply, number, low, high)

    def _judgement(self, identity: str, outcomes: Sequence[Outcome[list[float]]]) -> Judgement:
        calls = self.prompt.calls
        starts = range(0, len(outcomes), len(calls))
        return combine_passes([self._one_pass(identity, outcomes[i : i + len(calls)]) for i in starts])

    def _one_pass(self, identity: str, outcomes: Sequence[Outcome[list[float]]]) -> Judgement:
        """One answer to each call; without one of them there is no score."""
        usage, seconds = sum((o.usage for o in outcomes), Usage()), sum(o.seconds for o in outcomes)
        reasoning = "\n\n".join(o.text for o in outcomes)
        spent = Judgement(identity, VerdictStatus.OK, reasoning=reasoning, usage=usage, seconds=seconds)
        failed = next((o for o in outcomes if o.value is None), None)
        if failed is not None:
            return replace(spent, status=failed.status, error=failed.error)
        parts: dict[str, float] = {}
        figures = []
        for call, outcome in zip(self.prompt.calls, outcomes, strict=True):
            values = outcome.value or []
            figures.append(min(values) if self.prompt.within == "min" else fmean(values))
            parts |= dict(zip(call.parts, values, strict=True)) | {call.name: figures[-1]}
        score = figures[0] if len(figures) == 1 else math.prod(figures) ** (1 / len(figures))
        return replace(spent, score=score, parts=parts)


def read_ratings(reply: ChatReply, number: int, low: float, high: float) -> list[float]:
    """The numbers of an answer: those of the last JSON object with "scores" (or "score") in it.

    Raises:
        VerdictParseError: if there is none, it holds another number of numbers, or one is out of range.
    """
    if reply.status is ReplyStatus.TRUNCATED:
        raise VerdictParseError("truncated", "the answer hit the token limit")
    if not reply.text.strip():
        raise VerdictParseError("empty")
    found = [v.data for v in scan(reply.text).values if isinstance(v.data, dict)]
    stated = [d[key] for d in found for key in ("scores", "score") if key in d]
    if not stated:
        raise VerdictParseError("no score", 'the answer has no JSON object with "scores"')
    values = stated[-1] if isinstance(stated[-1], list) else [stated[-1]]
    if len(values) != number:
        raise VerdictParseError("no score", f"{number} numbers were asked for, got {values!r}")
    numbers = [_number(v) for v in values]
    for value in numbers:
        if not low <= value <= high:  # written so that NaN fails
            raise VerdictParseError("score out of range", f"{value:g} is not in [{low:g}, {high:g}]")
    return numbers


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise VerdictParseError("no score", f"{value!r} is no number")
    try:
        return float(value)
    except ValueError:
        raise VerdictParseError("no score", f"{value!r} is no number") from None


def served_versions(judge: Judge) -> list[str]:
    """What a server said it is, over the answers so far: "gpt-4.1" may answer as "gpt-4.1-2025-04-14".

    Empty for judges whose fingerprint says it all (weights on disk), and before the first answer.
    """
    return sorted(getattr(judge, "versions", ()))


def describe_judge(
    kind: str, judge: Judge, prompt_hash: str, sampling: Sampling, passes: int, max_tries: int
) -> dict[str, Any]:
    """What manifests say of any judge."""
    return {
        "scorer": kind,
        "judge": judge.name,
        "fingerprint": judge.fingerprint,
        "prompt_hash": prompt_hash,
        "sampling": asdict(sampling),
        "passes": passes,
        "max_tries": max_tries,
    }
