"""A judge of whose answer only the final score is read: a model that was taught to think or to rate, without checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from editr1.evaluation.judgements import Edit, Judgement, OnJudgement, combine_passes
from editr1.evaluation.judging import Questions, judge_many
from editr1.evaluation.scorers import describe_judge, served_versions
from editr1.images import prepare_pair
from editr1.types import VerdictStatus
from editr1.verifier.asking import Ask, Outcome
from editr1.verifier.render import render_score
from editr1.verifier.score import Verifier
from editr1.verifier.score_text import read_final_score


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
        v = self.verifier
        judge_many(v.judge, edits, self._questions, max_tries=v.max_tries, on_judgement=on_judgement)

    def _questions(self, edit: Edit) -> Questions[float]:
        v = self.verifier
        source, edited, notes = prepare_pair(edit.source, edit.edited)
        messages = render_score(v.template, source, edited, edit.instruction, edit.principles or ())
        asks = [
            Ask(messages, self.sampling, read_final_score, fresh=number, stride=v.passes) for number in range(v.passes)
        ]

        def judgement(outcomes: Sequence[Outcome[float]]) -> Judgement:
            passes = [_judgement(edit.id, outcome) for outcome in outcomes]
            return replace(combine_passes(passes), preprocessing=notes)

        return Questions(asks, judgement)


def _judgement(identity: str, outcome: Outcome[float]) -> Judgement:
    spent = Judgement(identity, VerdictStatus.OK, reasoning=outcome.text, usage=outcome.usage, seconds=outcome.seconds)
    if outcome.value is None:
        return replace(spent, status=outcome.status, error=outcome.error)
    return replace(spent, score=outcome.value)
