"""Trace, verify and choose, each alone, by scripted judges and hand-derived expectations."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from editr1.curation.choose import choose_traces
from editr1.curation.prompts import load_prompt, load_variants, vary
from editr1.curation.records import Verified
from editr1.curation.trace import Ways, trace
from editr1.curation.verify import parse_gold, verify
from editr1.errors import ConfigError, JudgeError, VerdictParseError
from editr1.judges import ChatReply, ChatRequest, Picture, ReplyStatus, Sampling, ScriptedJudge, Text
from editr1.stickers.annotators import JUDGES, STRICT, choose_trace
from editr1.stickers.examples import sample_edit
from editr1.types import Check, VerdictStatus
from editr1.verifier.choose import Answered, choose
from editr1.verifier.template import load_template

COMPACT = load_template("compact")


def words(request: ChatRequest) -> str:
    return "\n".join(p.text for m in request.messages for p in m.content if isinstance(p, Text))


def ways(**changes):
    return Ways(**({"template": COMPACT, "variants": {"plain": ""}, "temperatures": (0.7,)} | changes))


def test_traces_come_by_judge_variant_temperature_and_sample(make) -> None:
    seen: list[tuple[str, bool, float, int]] = []

    def reply(name):
        def answer(request):
            seen.append((name, "sceptic" in words(request), request.sampling.temperature, request.fresh))
            return make.answer("111", 7)

        return answer

    judges = [ScriptedJudge(reply("a"), name="a"), ScriptedJudge(reply("b"), name="b")]
    variants = load_variants(["plain", "sceptic"])
    result = trace([make.edit()], judges=judges, ways=ways(variants=variants, temperatures=(0.3, 0.9), samples=2))
    (record,) = result.records
    assert [(t.judge, t.variant, t.temperature) for t in record.traces] == [
        (judge, variant, temperature)
        for judge in "ab"
        for variant in ("plain", "sceptic")
        for temperature in (0.3, 0.3, 0.9, 0.9)
    ]
    expected = [(s, t, n) for s in (False, True) for t in (0.3, 0.9) for n in (0, 1)]
    assert [s[1:] for s in seen if s[0] == "a"] == expected
    # the pictures are the edit's own, the edited one last
    pictures = [p.image.getpixel((0, 0)) for p in judges[0].requests[0].messages[1].content if isinstance(p, Picture)]
    assert pictures == [(0, 0x40, 0x80), (0, 0, 0)]


def test_failures_are_counted_by_kind_and_kept_and_give_no_number(make) -> None:
    replies = [
        make.answer("110", 6.5),
        "no idea",
        make.answer("110").replace('"id": 2', '"id": 9'),
        ChatReply(ReplyStatus.TIMEOUT),
        ChatReply(ReplyStatus.REFUSED, "I would rather not."),
        ChatReply(ReplyStatus.TRUNCATED, make.answer("111", 9)),
    ]
    result = trace([make.edit()], judges=[ScriptedJudge(replies)], ways=ways(samples=6))
    (record,) = result.records
    assert record.whole == [0]
    assert [t.verdict.score for t in record.traces] == [6.5, None, None, None, None, None]
    assert result.failures == {
        "unparseable: no checks": 1,
        "unparseable: unknown question": 1,
        "timeout": 1,
        "refused": 1,
        "unparseable: truncated": 1,
    }
    assert record.traces[4].text == "I would rather not."


def test_an_edit_without_any_verdict_is_rejected(make) -> None:
    judge = ScriptedJudge([make.answer("111"), ChatReply(ReplyStatus.TIMEOUT)])
    result = trace([make.edit(0), make.edit(1)], judges=[judge], ways=ways())
    assert [r.edit.id for r in result.records] == ["e0"]
    assert [(r.id, r.kind, r.detail) for r in result.rejects] == [("e1", "no verdict", "1 timeout")]


def test_a_broken_judge_stops_the_stage_after_the_others_finished(make) -> None:
    good = ScriptedJudge(lambda request: make.answer("111"), name="good")
    broken = ScriptedJudge(lambda request: make.answer("111"), name="broken", fail_after=1)
    with pytest.raises(JudgeError, match="broken"):
        trace([make.edit(0), make.edit(1)], judges=[broken, good], ways=ways())
    assert len(good.requests) == 2


def test_ids_change_with_the_fingerprint_and_with_nothing_else(make) -> None:
    def run(fingerprint):
        return trace(
            [make.edit()],
            judges=[ScriptedJudge([make.answer("111")])],
            ways=ways(),
            fingerprint=fingerprint,
        )

    assert run("x").records[0].id == run("x").records[0].id != run("y").records[0].id


def test_variants_add_to_the_rubric_and_an_unknown_one_is_named() -> None:
    (sceptic,) = load_variants(["sceptic"]).values()
    varied = vary(COMPACT, "sceptic", sceptic)
    assert varied.score_system.startswith(COMPACT.score_system)
    assert varied.hash != COMPACT.hash
    assert vary(COMPACT, "plain", "") is COMPACT
    with pytest.raises(ConfigError, match="scpetic"):
        load_variants(["scpetic"])


def test_gold_is_read_with_its_reasons(make) -> None:
    gold = parse_gold(f"```json\n{make.gold('101')}\n```", make.principles)
    assert [(c.met, c.reason) for c in gold] == [(True, "saw 1"), (False, "saw 0"), (True, "saw 1")]


ROWS = [{"id": n, "reason": "seen", "gold": 1} for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (ROWS[:2], "missing question"),
        ([*ROWS, ROWS[0]], "unknown question"),
        ([ROWS[1], ROWS[0], ROWS[2]], "unknown question"),
        ([ROWS[0], ROWS[0], ROWS[2]], "unknown question"),
        ([{"reason": "seen", "gold": 1}, *ROWS[1:]], "missing question"),
        ([{"question": "Is the dog still there?", "reason": "seen", "gold": 1}, *ROWS[1:]], "unknown question"),
        ([ROWS[0] | {"gold": 0.5}, *ROWS[1:]], "bad check value"),
        ([ROWS[0] | {"gold": None}, *ROWS[1:]], "bad check value"),
        ([ROWS[0] | {"gold": "yes"}, *ROWS[1:]], "bad check value"),
        ([ROWS[0] | {"reason": " "}, *ROWS[1:]], "no checks"),
        (["fine", *ROWS[1:]], "bad json"),
    ],
)
def test_gold_of_other_length_order_or_value_is_an_error(make, rows, fault: str) -> None:
    with pytest.raises(VerdictParseError) as caught:
        parse_gold(json.dumps(rows), make.principles)
    assert caught.value.fault == fault


def test_gold_by_question_instead_of_number_is_read(make) -> None:
    rows = [{"question": p.question.upper(), "reason": "seen", "gold": 0} for p in make.principles]
    assert [c.met for c in parse_gold(json.dumps(rows), make.principles)] == [False] * 3


def run_verify(make, replies, *traced, **options):
    judge = ScriptedJudge(replies)
    result = verify(traced, judge=judge, prompt=load_prompt("verify"), sampling=Sampling(256), **options)
    return result, judge


def test_the_strict_judge_sees_pictures_questions_and_distinct_notes(make) -> None:
    traces = [
        make.trace("111", 9, reasoning="FIRST"),
        make.failed_trace(),
        make.trace("111", 9, reasoning="FIRST"),
        make.trace("000", 0, reasoning="SECOND"),
        make.trace("010", 1, reasoning="THIRD"),
    ]
    result, judge = run_verify(make, [make.gold("011")], make.traced(*traces), max_hints=2)
    (record,) = result.records
    assert [c.met for c in record.gold] == [False, True, True]
    shown = words(judge.requests[0])
    assert shown.count("FIRST") == 1
    assert "SECOND" in shown
    assert "THIRD" not in shown
    assert "Is the dog still there?" in shown
    assert "Paint star 0 red." in shown
    kinds = [type(p).__name__ for p in judge.requests[0].messages[1].content]
    assert kinds == ["Text", "Picture", "Text", "Picture", "Text"]  # notes behind the edited picture


def test_an_answer_in_another_order_is_asked_for_again(make) -> None:
    wrong = json.dumps([ROWS[1], ROWS[0], ROWS[2]])
    result, judge = run_verify(make, [wrong, make.gold("110")], make.traced(make.trace("111")))
    assert [c.met for c in result.records[0].gold] == [True, True, False]
    assert [r.fresh for r in judge.requests] == [0, 1]


def test_when_tries_are_used_up_the_edit_is_rejected_by_its_fault(make) -> None:
    records = [make.traced(make.trace("111"), number=n) for n in range(3)]
    replies = [make.gold("11"), ChatReply(ReplyStatus.TIMEOUT), make.gold("111"), make.gold("1111")]
    result, _ = run_verify(make, replies, *records, max_tries=2)
    assert [r.traced.id for r in result.records] == ["t2"]
    assert [(r.id, r.kind) for r in result.rejects] == [("t0", "unparseable: unknown question"), ("t1", "timeout")]


def verified(make, gold: str, *traces) -> Verified:
    checks = tuple(Check(p, m == "1", "seen") for p, m in zip(make.principles, gold))
    return Verified("v0", make.traced(*traces), checks)


@pytest.mark.parametrize(
    ("gold", "traces", "index", "accuracy"),
    [
        ("110", [("111", 9), ("110", 2), ("100", 8)], 1, 1.0),  # accuracy beats score
        ("100", [("110", 9), ("000", 9), ("101", 3)], 0, 2 / 3),  # equal accuracy: higher average, then score
        ("100", [("101", 3), ("110", 9)], 1, 2 / 3),  # equal average: higher score
        ("100", [("101", 3), ("110", 3)], 0, 2 / 3),  # all equal: smaller index
    ],
)
def test_the_rule_and_its_ties(make, gold: str, traces, index: int, accuracy: float) -> None:
    record = verified(make, gold, *(make.trace(met, score) for met, score in traces))
    (chosen,) = choose_traces([record]).records
    assert (chosen.index, chosen.accuracy) == (index, pytest.approx(accuracy))


def test_failed_traces_are_never_chosen_but_keep_their_index(make) -> None:
    record = verified(make, "111", make.failed_trace(VerdictStatus.REFUSED), make.trace("000", 0))
    (chosen,) = choose_traces([record]).records
    assert chosen.index == 1
    assert chosen.trace.verdict.score == 0


def test_an_edit_that_nobody_judged_well_can_be_left_out(make) -> None:
    record = verified(make, "111", make.trace("000", 0), make.trace("100", 0))
    result = choose_traces([record], least_accuracy=0.5)
    assert not result.records
    assert [(r.id, r.kind) for r in result.rejects] == [("v0", "inaccurate")]
    assert "33%" in result.rejects[0].detail


def test_a_share_of_the_edits_that_meet_everything_is_kept_by_their_ids(make) -> None:
    """400 edits that meet everything and one that does not: a share of 0.25 keeps about 100 of the former."""
    record = verified(make, "111", make.trace("111", 9))
    records = [verified(make, "110", make.trace("110", 5))]
    for number in range(400):
        edit = replace(record.traced.edit, id=f"e{number}")
        records.append(replace(record, id=f"v{number}", traced=replace(record.traced, edit=edit)))
    result = choose_traces(records, keep_all_met=0.25)
    assert 75 < len(result.records) - 1 < 125
    assert [c.met for c in result.records[0].verified.gold] == [True, True, False]
    assert {r.kind for r in result.rejects} == {"all met"}
    assert len(result.records) + len(result.rejects) == 401
    backwards = choose_traces(records[::-1], keep_all_met=0.25)
    assert {c.verified.traced.edit.id for c in backwards.records} == {c.verified.traced.edit.id for c in result.records}
    assert not choose_traces(records[1:], keep_all_met=0.0).records
    assert len(choose_traces(records).records) == 401


def test_the_embedded_domain_chooses_by_the_same_rule() -> None:
    for index in range(25):
        edit = sample_edit("choose", index)
        answers = [judge.trace(edit, n) for judge in JUDGES.values() for n in range(2)]
        gold = [c.met for c in STRICT.trace(edit, 0).checks]
        seen = [Answered(tuple(c.met for c in a.checks), sum(c.met for c in a.checks), a.score) for a in answers]
        assert answers[choose(seen, gold)] == choose_trace(edit)
