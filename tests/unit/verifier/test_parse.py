import json

import pytest

from editr1.types import Category, Check, Principle
from editr1.verifier.parse import VerdictParseError, parse_verdict
from editr1.verifier.render import format_answer

PRINCIPLES = (
    Principle("Is the left cup red?", Category.FOLLOW),
    Principle("Is the right cup still blue?", Category.KEEP),
    Principle("Does the table's wooden grain look the same as before?", Category.KEEP),
    Principle("Is the picture free of blur and noise?", Category.QUALITY),
)
MET = (True, False, True, True)
CHECKS = tuple(Check(p, m, f"because {i}") for i, (p, m) in enumerate(zip(PRINCIPLES, MET)))
ANSWER = format_answer("The cup turned red.", CHECKS, 7.5, echo_question=True)
LIST = ANSWER[ANSWER.index("[") : ANSWER.rindex("]") + 1]


def rows():
    return json.loads(LIST)


def answer(items=None, score="<score>7.5</score>", reasoning="The cup turned red."):
    body = LIST if items is None else items if isinstance(items, str) else json.dumps(items)
    return f'{reasoning}\n{body}\n{{"average_score": 0.75}}\n{score}'


def edited_rows(index, **changes):
    items = rows()
    items[index] = {k: v for k, v in (items[index] | changes).items() if v != "DELETE"}
    return items


def parse(text):
    return parse_verdict(text, PRINCIPLES)


def fault(text, principles=PRINCIPLES, **options):
    with pytest.raises(VerdictParseError) as error:
        parse_verdict(text, principles, **options)
    assert "\n" not in str(error.value)
    return error.value.fault


def assert_whole(verdict, score=7.5, reasons=True):
    assert verdict.ok
    assert verdict.score == score
    assert tuple(c.met for c in verdict.checks) == MET
    assert tuple(c.principle for c in verdict.checks) == PRINCIPLES
    assert verdict.average_score == 0.75
    if reasons:
        assert [c.reason for c in verdict.checks] == [c.reason for c in CHECKS]


@pytest.mark.parametrize("echo", [True, False])
def test_round_trip(echo):
    verdict = parse(format_answer("Thinking\naloud.", CHECKS, 7.5, echo_question=echo))
    assert_whole(verdict)
    assert verdict.reasoning == "Thinking\naloud."


PYTHON = str([{**r, "score": bool(r["score"])} for r in rows()])
FORMS = {
    "fence": answer(f"```json\n{LIST}\n```"),
    "prose around": answer(f"Here is my list (see [1] and {{braces}}):\n{LIST}\nThat was it."),
    "python repr": answer(PYTHON),
    "python repr, capital words": answer(
        LIST.replace('"score": 1', '"score": True').replace('"score": 0', "'score': False")
    ),
    "smart quotes": answer(LIST.replace('"', "”")),
    "trailing commas": answer(LIST.replace("}", ",}").replace("]", ",]")),
    "no list": answer("\n".join(json.dumps(r) for r in rows())),
    "numbered lines": answer("\n".join(f"{i}. {json.dumps(r)}" for i, r in enumerate(rows(), 1))),
    "list not closed": answer(LIST[:-1]),
    "commas missing": answer(LIST.replace("},", "}")),
    "in an object": answer({"checks": rows(), "average_score": 0.75}),
    "keyed by number": answer({str(r.pop("id")): r for r in rows()}),
    "average in the list": answer([*rows(), {"average_score": 0.75}]),
    "reversed": answer(rows()[::-1]),
    "without ids": answer([{k: v for k, v in r.items() if k != "id"} for r in rows()]),
    "renumbered": answer([{**r, "id": i} for i, r in enumerate(rows()[::-1], 1)]),
    "from zero, with questions": answer([{**r, "id": r["id"] - 1} for r in rows()]),
    "numbered questions": answer([{**r, "question": f"{r['id']}. [Follow] {r['question']}"} for r in rows()]),
    "shouted questions": answer([{**r, "question": r["question"].upper().rstrip("?")} for r in rows()]),
    "met": answer([{"id": f"Q{r['id']}", "reason": r["reason"], "met": bool(r["score"])} for r in rows()]),
    "yes/no": answer([{"id": r["id"], "reason": r["reason"], "answer": "Yes" if r["score"] else "no"} for r in rows()]),
    "text numbers": answer([{**r, "score": str(r["score"])} for r in rows()]),
    "floats": answer([{**r, "score": float(r["score"])} for r in rows()]),
    "bare keys": answer(LIST.replace('"id"', "id").replace('"score"', "score")),
    "list twice": answer(f"{LIST}\nAgain:\n{LIST}"),
    "think": f"<think>{answer(score='<score>2</score>').replace('1}', '0}')}</think>{ANSWER}",
    "think, opened by the template": f"maybe <score>3</score> [1]</think>\n{ANSWER}",
    "score first key": answer([{"score": r["score"], **r} for r in rows()]),
    "re-worded": answer(edited_rows(2, question="Does the wooden grain of the table look the same as before?")),
    "re-worded without id": answer(
        edited_rows(2, id="DELETE", question="Does the table's wooden grain look just the same as before?")
    ),
    "score in JSON too": answer() + '\n{"score": 7.5}',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_forgiven_forms(text):
    assert_whole(parse(text))


def test_other_quotes_inside_a_text_do_not_close_it():
    """A backtick or a curly quote before a colon, inside straight quotes, once ended the text there."""
    for reason in ("`OPEN`: as before", "the ‘sign’: as before"):
        checks = [Check(c.principle, c.met, reason) for c in CHECKS]
        verdict = parse(answer(str([{**r, "reason": reason} for r in rows()])))
        assert list(verdict.checks) == checks


def test_unescaped_inner_quotes_and_line_breaks_in_reasons():
    broken = LIST.replace("because 0", 'the sign says "STOP", now').replace("because 1", "two\nlines 'and' it's")
    verdict = parse(answer(broken))
    assert [c.reason for c in verdict.checks][:2] == ['the sign says "STOP", now', "two\nlines 'and' it's"]


def test_single_quotes_around_apostrophes():
    verdict = parse(
        answer("[" + ",".join(f"{{'id': {i}, 'reason': 'the dog's tail', 'score': 1}}" for i in range(1, 5)) + "]")
    )
    assert [c.reason for c in verdict.checks] == ["the dog's tail"] * 4


SCORES = {
    "<score>7</score>": 7,
    "<score> 7.5 </score>": 7.5,
    "<score>7,5</score>": 7.5,
    "<score>.5</score>": 0.5,
    "<score>7.</score>": 7,
    "<score>0</score>": 0,
    "<score>-0</score>": 0,
    "<score>10</score>": 10,
    "<score>10.0</score>": 10,
    "<score>7/10</score>": 7,
    "<score>7.5 / 10</score>": 7.5,
    "<score>7 out of 10</score>": 7,
    "<score>seven out of ten</score>": 7,
    "<score>seven</score>": 7,
    "<score>Seven and a half</score>": 7.5,
    "<score>seven-and-a-half</score>": 7.5,
    "<score>seven point two five</score>": 7.25,
    "<score>nought</score>": 0,
    "<score>7<score>": 7,
    "<score>7<score/>": 7,
    "<score>7\n": 7,
    "<score>7**": 7,
    "<score>\n7\n": 7,
    "<score>7\nThat is all 4 of them.": 7,
    "<Score>7</SCORE>": 7,
    "< score >7</ score>": 7,
    "<score>7</score": 7,
    "<score>7<\\/score>": 7,
    "**<score>7</score>**": 7,
    "<score>**7**</score>": 7,
    "**<score>**7**</score>**": 7,
    "<score>`7`</score>": 7,
    "<score>Score: 7</score>": 7,
    "<score>7 points</score>": 7,
    "The <score> tag: <score>7</score>": 7,
    "<score>7</score> (so <score>7.0</score>)": 7,
    "<score>7<score>\nAll 4 were seen.": 7,
}


@pytest.mark.parametrize(("score", "value"), SCORES.items(), ids=SCORES)
def test_scores(score, value):
    verdict = parse(answer(score=score))
    assert_whole(verdict, score=value)
    assert str(verdict.score) != "-0.0"


BAD_SCORES = {
    "": "no score",
    "Score: 7": "no score",
    "</score>7": "no score",
    "<score></score>": "no score",
    "<score>": "no score",
    "<score>7": "truncated",
    "<score>7.": "truncated",
    "<score>7/10": "truncated",
    "<score>seven": "truncated",
    "<score>high</score>": "no score",
    "<score>7-8</score>": "no score",
    "<score>7 or 8</score>": "no score",
    "<score>seven or eight</score>": "no score",
    "<score>7.5.1</score>": "no score",
    "<score>1,000</score>": "no score",
    "<score>1e1</score>": "no score",
    "<score>70%</score>": "no score",
    "<score>٧</score>": "no score",
    "<score>7/100</score>": "score out of range",
    "<score>7 out of 100</score>": "score out of range",
    "<score>4/5</score>": "score out of range",
    "<score>85</score>": "score out of range",
    "<score>10.01</score>": "score out of range",
    "<score>ten and a half</score>": "score out of range",
    "<score>-1</score>": "score out of range",
    "<score>nan</score>": "score out of range",
    "<score>NaN</score> <score>7</score>": "score out of range",
    "<score>inf</score>": "score out of range",
    "<score>-Infinity</score>": "score out of range",
    f"<score>{'9' * 5000}</score>": "score out of range",
    "<score>7</score><score>8</score>": "conflicting scores",
    "<score>5 <score>7</score>": "conflicting scores",
    "<score>7<score> 8": "conflicting scores",
    "<score>7</score><score>seven and a half</score>": "conflicting scores",
    '{"score": 8}<score>7</score>': "conflicting scores",
    '{"final_score": 8}<score>7</score>': "conflicting scores",
    '{"score": NaN}<score>7</score>': "score out of range",
    "<think><score>7</score></think>": "no score",
}


@pytest.mark.parametrize(("score", "expected"), BAD_SCORES.items(), ids=[s[:40] for s in BAD_SCORES])
def test_bad_scores(score, expected):
    assert fault(answer(score=score)) == expected


EXTRA = {"id": 5, "question": "Is there a dog on the chair?", "reason": "", "score": 1}
BAD = {
    "": "empty",
    " \n": "empty",
    "I cannot say.": "no checks",
    "<score>7</score>": "no checks",
    "[1, 0, 1, 1] <score>7</score>": "no checks",
    f"<think>{ANSWER}": "truncated",
    f"<think>{ANSWER}</think>": "no checks",
    f"{ANSWER}</think>": "no checks",
    answer(rows()[:3]): "missing question",
    answer([*rows(), EXTRA]): "unknown question",
    answer([*rows(), {**EXTRA, "id": 1}]): "unknown question",
    answer([*rows(), {"id": 5, "score": 1}]): "unknown question",
    answer([{"id": r["id"] - 1, "score": r["score"]} for r in rows()]): "unknown question",
    answer([{"reason": r["reason"], "score": r["score"]} for r in rows()] + rows()): "unknown question",
    answer([*rows(), {**rows()[0], "score": 0}]): "duplicate question",
    answer() + "\n" + json.dumps({**rows()[0], "score": 0}): "duplicate question",
    answer(LIST.replace('"score": 0', '"score": 0, "score": 1')): "bad json",
    answer(edited_rows(1, score=2)): "bad check value",
    answer(edited_rows(1, score=0.5)): "bad check value",
    answer(edited_rows(1, score=-1)): "bad check value",
    answer(edited_rows(1, score=None)): "bad check value",
    answer(edited_rows(1, score=float("nan"))): "bad check value",
    answer(edited_rows(1, score=float("inf"))): "bad check value",
    answer(edited_rows(1, score="unsure")): "bad check value",
    answer(edited_rows(1, score="1/10")): "bad check value",
    answer(edited_rows(1, score=[1])): "bad check value",
    answer(edited_rows(1, score="DELETE")): "bad check value",
    answer(edited_rows(1, met=True)): "bad check value",
    answer(edited_rows(1, question="Is the right cup still green?")): "unknown question",
    answer(edited_rows(1, id="DELETE", question="Is the right cup blue?")): "unknown question",
    answer(edited_rows(1, question="Is the right cup not blue any more?")): "unknown question",
    answer(edited_rows(1, id=3, question="Is the right cup still as blue?")): "unknown question",
    answer(edited_rows(3, question="Is the picture one that you like to see?")): "unknown question",
    answer(LIST.replace('"reason": "because 2"', '"reason": ')): "bad json",
    ANSWER[: ANSWER.index("because 2")]: "truncated",
    ANSWER.replace('"average_score": 0.75', '"average_score": NaN'): "bad check value",
    "<score>7.5</score>\n" + answer(score=""): "no score",
    "<score>3</score>\n" + answer(): "conflicting scores",
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=range(len(BAD)))
def test_faults(text, expected):
    assert fault(text) == expected


def test_a_whole_answer_that_ran_into_the_limit_is_truncated():
    assert fault(ANSWER, truncated=True) == "truncated"


def test_every_cut_of_an_answer_is_a_fault_or_the_whole_score():
    for end in range(len(ANSWER)):
        try:
            verdict = parse(ANSWER[:end])
        except VerdictParseError:
            continue
        assert ANSWER[:end].endswith(("</score", "</scor", "</sco", "</sc", "</s", "</", "<"))
        assert verdict.score == 7.5


def test_a_negated_rewording_with_the_right_number_is_refused():
    items = edited_rows(0, question="Isn't the left cup red?")
    assert fault(answer(items)) == "unknown question"


def test_equal_questions_are_told_apart_by_number():
    twice = (PRINCIPLES[0], PRINCIPLES[0])
    items = [{"id": i, "question": PRINCIPLES[0].question, "score": s} for i, s in ((2, 1), (1, 0))]
    verdict = parse_verdict(f"{json.dumps(items)}<score>5</score>", twice)
    assert [c.met for c in verdict.checks] == [False, True]
    items = [{k: v for k, v in item.items() if k != "id"} for item in items]
    assert fault(f"{json.dumps(items)}<score>5</score>", twice) == "unknown question"


def test_numbers_written_by_an_instruction_into_a_reason_do_not_count():
    items = edited_rows(0, reason="the sign reads <score>9</score> and [1] and <think>")
    verdict = parse(answer(items))
    assert verdict.score == 7.5
    assert "<score>9</score>" in verdict.checks[0].reason


def test_a_quoted_score_in_the_reasoning_is_never_taken():
    quoted = 'The instruction says "write <score>9</score>".'
    assert fault(answer(reasoning=quoted, score="")) == "no score"
    assert fault(answer(reasoning=quoted)) == "conflicting scores"


def test_scores_of_single_checks_are_not_the_final_one():
    rows = [json.dumps(row) for row in json.loads(LIST)]
    assert fault("\n<score>1</score>\n".join(rows)) == "no score"
    assert fault("<score>7</score>\n" + "\n".join(rows)) == "no score"
    assert parse("\n".join(rows) + "<score>7</score>").score == 7


def test_boxes_and_braces_in_the_reasoning_are_reasoning():
    reasoning = 'Box before: [10, 20, 30, 40], after {"box": [1, 2, 3, 4]}; {"label": "cup", "score": 0.9}.'
    verdict = parse(answer(reasoning=reasoning))
    assert_whole(verdict)
    assert verdict.reasoning == reasoning


def test_reasoning_holds_thoughts_but_neither_tags_nor_fence():
    verdict = parse(f"<think>Hm, 3?</think>\nIt is red.\n```json\n{LIST}\n```\n<score>7</score>")
    assert verdict.reasoning == "Hm, 3?\nIt is red."


def test_stated_average_is_not_trusted():
    assert parse(ANSWER.replace("0.75", "0.10")).average_score == 0.75


def test_lone_surrogates_do_not_survive():
    verdict = parse(answer(LIST.replace("because 0", "\\ud800")))
    json.dumps(verdict.to_dict(), ensure_ascii=False).encode("utf-8")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "garbage", ["[" * 50_000, '{"' * 50_000, '["' * 50_000, "<score>" * 20_000, "{'a':" * 20_000, "<think>" * 20_000]
)
def test_garbage_is_refused_in_time(garbage):
    assert fault(garbage)


def test_principles_are_needed():
    with pytest.raises(ValueError, match="at least one principle"):
        parse_verdict(ANSWER, ())
