"""Judges of whose answers only the final score is read."""

import pytest

from editr1.evaluation.final_score import FinalScoreScorer
from editr1.evaluation.judgements import Edit
from editr1.judges import ChatReply, ReplyStatus, ScriptedJudge
from editr1.types import VerdictStatus
from editr1.verifier import Verifier
from editr1.verifier.modes import mode_template
from editr1.verifier.template import load_template


@pytest.fixture
def edit(kit, tmp_path):
    def make(number):
        paths = []
        for name in ("source", "edited"):
            paths.append(tmp_path / f"{name}{number}.png")
            paths[-1].write_bytes(kit.picture(number, number))
        return Edit(str(number), *paths, "do it")

    return make


def judge_all(scorer, edits):
    found = {}
    scorer.score_many(edits, on_judgement=lambda index, judgement: found.setdefault(index, judgement))
    return [found[i] for i in range(len(edits))]


def scorer(answer, **settings):
    template = mode_template(load_template("compact"), "viescore")
    return FinalScoreScorer(Verifier(ScriptedJudge(answer), template=template, max_tries=1, **settings))


def test_the_score_is_read_and_the_instruction_asked(edit, kit):
    found = scorer(lambda r: f"{kit.said(r).count('do it')} times\n<score>{kit.worth(kit.shown(r)[-1]):.1f}</score>")
    first, second = judge_all(found, [edit(3), edit(7)])
    assert (first.score, second.score) == (3.0, 7.0)
    assert first.reasoning == "1 times\n<score>3.0</score>"


def test_passes_are_averaged_and_drawn_warm(edit):
    """2, 4 and 9 make 5; the pass closest to it is the one that said 4."""
    answers = iter((2, 4, 9))
    one = scorer(lambda r: f"<score>{next(answers)}</score>", passes=3)
    (judgement,) = judge_all(one, [edit(1)])
    assert (judgement.score, judgement.passes, judgement.reasoning) == (5.0, 3, "<score>4</score>")
    assert {r.sampling.temperature for r in one.verifier.judge.requests} == {0.7}
    assert one.describe()["passes"] == 3


def test_a_failure_is_no_number_and_leaves_the_others_alone(edit, tmp_path):
    replies = iter(("no idea", ChatReply(ReplyStatus.REFUSED, error="no"), "<score>5</score>"))
    torn = edit(4)
    torn.edited.write_bytes(b"torn")
    found = judge_all(scorer(lambda r: next(replies)), [edit(1), torn, edit(2), edit(3)])
    assert [j.status for j in found] == [
        VerdictStatus.UNPARSEABLE,
        VerdictStatus.ERROR,
        VerdictStatus.REFUSED,
        VerdictStatus.OK,
    ]
    assert [j.score for j in found] == [None, None, None, 5.0]
