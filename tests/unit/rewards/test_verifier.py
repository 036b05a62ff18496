import pytest
from PIL import Image
from reward_fakes import sample, samples

from editr1 import Category, Check, Principle, Verifier
from editr1.errors import ConfigError, JudgeError
from editr1.judges import ChatReply, ReplyStatus, ScriptedJudge
from editr1.rewards import VerifierReward
from editr1.types import VerdictStatus
from editr1.verifier.render import format_answer, format_principles

PRINCIPLES = (
    Principle("Is it red?", Category.FOLLOW),
    Principle("Is the sky as before?", Category.KEEP),
    Principle("Is the picture sharp?", Category.QUALITY),
)


def answer(score):
    return format_answer("Looked.", [Check(p, True, "it is") for p in PRINCIPLES], score, echo_question=True)


def judge_of(score):
    """Splits every instruction the same way, and scores by `score(request)`."""

    def reply(request):
        pictures = sum(1 for m in request.messages for p in m.content if hasattr(p, "image"))
        return format_principles(PRINCIPLES) if pictures == 1 else score(request)

    return ScriptedJudge(reply)


@pytest.mark.parametrize(("scale", "value"), [("unit", 0.65), ("score", 6.5)])
def test_the_value_is_the_score(scale, value):
    reward = VerifierReward(Verifier(judge_of(lambda r: answer(6.5))), scale=scale)
    [result] = reward.score([sample("x", principles=PRINCIPLES)])
    assert result.value == pytest.approx(value)
    assert (result.verdict.score, result.verdict.id) == (6.5, "x")


def test_an_unknown_scale():
    with pytest.raises(ConfigError, match="percent"):
        VerifierReward(Verifier(judge_of(lambda r: answer(1))), scale="percent")


def test_a_context_is_decomposed_once_by_its_content():
    """Five samples in two calls, the source loaded anew each time: one question to split, five to score."""
    judge = judge_of(lambda r: answer(5.0))
    reward = VerifierReward(Verifier(judge))
    fresh = lambda: Image.new("RGB", (8, 6), "blue")  # noqa: E731
    reward.score([sample(source=fresh()) for _ in range(3)])
    reward.score([sample(source=fresh()) for _ in range(2)])
    assert len(judge.requests) == 1 + 5
    reward.score([sample(source=Image.new("RGB", (8, 6), "green"))])  # another picture, the same words
    assert len(judge.requests) == 6 + 2


def test_failures_keep_their_kind():
    lines = iter([ChatReply(ReplyStatus.REFUSED, error="no"), answer(3.0), "nonsense", ChatReply(ReplyStatus.TIMEOUT)])
    reward = VerifierReward(Verifier(judge_of(lambda r: next(lines)), max_tries=1))
    batch = [sample(f"s{i}", principles=PRINCIPLES, edited=Image.new("RGB", (8, 6), (i, 0, 0))) for i in range(4)]
    results = reward.score(batch)
    assert [r.status.value for r in results] == ["refused", "ok", "unparseable", "timeout"]
    assert [r.value for r in results] == [None, pytest.approx(0.3), None, None]
    assert all(r.error for r in results if not r.ok)


def test_a_picture_that_cannot_be_read_fails_alone():
    reward = VerifierReward(Verifier(judge_of(lambda r: answer(5.0))))
    bad, good = reward.score([sample("a", edited="missing.png"), sample("b")])
    assert (bad.status, good.value) == (VerdictStatus.ERROR, 0.5)
    assert "missing.png" in bad.error


def test_a_judge_that_never_worked_is_raised():
    with pytest.raises(JudgeError, match="breaks down"):
        VerifierReward(Verifier(ScriptedJudge(["x"], fail_after=0))).score(samples(2))


def test_a_judge_that_breaks_down_later_gives_failures_and_loses_nothing():
    judge = ScriptedJudge(lambda r: answer(5.0), fail_after=3)
    reward = VerifierReward(Verifier(judge))
    kept = {}
    batch = [sample(f"s{i}", principles=PRINCIPLES) for i in range(5)]
    results = reward.score(batch, on_result=kept.__setitem__)
    assert [r.ok for r in results] == [True] * 3 + [False] * 2
    assert kept == dict(enumerate(results))
    assert "breaks down after 3" in results[4].error
    assert [r.ok for r in reward.score(batch)] == [False] * 5  # it did work once: no reason to stop a run at once
