"""A judge of whose answer only the final score is read: a model that was taught to think or to rate, without checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from editr1.errors import ImageError, VerdictParseError
from editr1.evaluation.judgements import Edit, Judgement, OnJudgement, combine_passes
from editr1.evaluation.scorers import describe_judge, served_versions
from editr1.images import prepare_pair
from editr1.judges.base import ChatReply, ReplyStatus
from editr1.types import VerdictStatus
from editr1.verifier.asking import Ask, Outcome, ask
from editr1.verifier.render import render_score
from editr1.verifier.scan import scan
from editr1.verifier.score import Verifier
from editr1.verifier.score_text import tagged_scores


class FinalScoreScorer:
    """Asks with a verifier's template, reads the score between `<score>` tags, and nothing else.

    For the modes "think" and "viescore" of the paper's ablation, whose answers hold no checks.

    Args:
        verifier: brings judge, template, sampling, passes and tries along.
    """

    kind = "score"

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        warm = verifier.passes > 1 and verifier.sampling.temperature == 0
        temperature = verifier.passes_temperature if warm else verifier.sampling.temperature
        self.sampling = replace(verifier.sampling, temperature=temperature)

    def describe(self) -> dict[str, Any]:
        """Judge, prompt, sampling, passes."""
        v = self.verifier
        given = describe_judge(self.kind, v.judge, v.template.hash, self.sampling, v.passes, v.max_tries)
        return given | {"prompt": v.template.name}

    def versions(self) -> list[str]:
        """See `served_versions`."""
        return served_versions(self.verifier.judge)

    def score_many(self, edits: Sequence[Edit], *, on_judgement: OnJudgement) -> None:
        """Judge all edits; the edited picture is brought to the source's size first."""
        v, asks, owners = self.verifier, list[Ask[float]](), list[int]()
        notes: dict[int, tuple[str, ...]] = {}
        for index, edit in enumerate(edits):
            try:
                source, edited, notes[index] = prepare_pair(edit.source, edit.edited)
            except ImageError as exc:
                on_judgement(index, Judgement(edit.id, VerdictStatus.ERROR, error=str(exc)))
                continue
            messages = render_score(v.template, source, edited, edit.instruction, edit.principles or ())
            for number in range(v.passes):
                asks.append(Ask(messages, self.sampling, read_final_score, fresh=number, stride=v.passes))
                owners.append(index)
        waiting: dict[int, list[Judgement]] = {index: [] for index in notes}

        def on_outcome(position: int, outcome: Outcome[float]) -> None:
            index = owners[position]
            waiting[index].append(_judgement(edits[index].id, outcome))
            if len(waiting[index]) == v.passes:
                on_judgement(index, replace(combine_passes(waiting[index]), preprocessing=notes[index]))

        ask(v.judge, asks, max_tries=v.max_tries, on_outcome=on_outcome)


def read_final_score(reply: ChatReply) -> float:
    """The one score in [0, 10] that an answer states between `<score>` tags.

    Raises:
        VerdictParseError: if the answer is cut off, states no score, or several.
    """
    if reply.status is ReplyStatus.TRUNCATED:
        raise VerdictParseError("truncated", "the answer hit the token limit")
    if not reply.text.strip():
        raise VerdictParseError("empty")
    stated = {score for _, score in tagged_scores(reply.text, scan(reply.text).tags)}
    if len(stated) != 1:
        raise VerdictParseError("conflicting scores" if stated else "no score", f"{len(stated)} scores are stated")
    return stated.pop()


def _judgement(identity: str, outcome: Outcome[float]) -> Judgement:
    spent = Judgement(identity, VerdictStatus.OK, reasoning=outcome.text, usage=outcome.usage, seconds=outcome.seconds)
    if outcome.value is None:
        return replace(spent, status=outcome.status, error=outcome.error)
    return replace(spent, score=outcome.value)
