"""Over ten thousand mutated answers: a change of form never changes a verdict, and no verdict is ever made up."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from editr1.types import Category, Check, Principle
from editr1.verifier.parse import VerdictParseError, parse_verdict
from editr1.verifier.render import format_answer

QUESTIONS = (
    "Is the hat on the man's head red?",
    'Does the sign read "OPEN"?',
    "Are there exactly two birds above the roof?",
    "Is the woman's face the same as before?",
    "Is the background street unchanged?",
    "Are the colours of the car {body} kept?",
    "Is the picture free of artefacts?",
    "Ist das Bild [rechts] scharf?",
    "Is the lighting believable, i.e. do shadows fall to the left?",
    "猫还在沙发上吗？",
)
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
FAST = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}

texts = st.text(st.characters(codec="utf-8", exclude_characters="<>[]{}"), max_size=40)
reasons = st.one_of(
    texts,
    st.sampled_from(
        ['says "STOP", now', "the dog's tail", "back\\slash", "a {b} [c]", "two\nlines", "<score>3</score>"]
    ),
)


@st.composite
def verdicts(draw):
    """Checks and a score as `format_answer` writes it."""
    questions = draw(st.lists(st.sampled_from(QUESTIONS), min_size=1, max_size=len(QUESTIONS), unique=True))
    checks = tuple(
        Check(Principle(q, draw(st.sampled_from(Category))), draw(st.booleans()), draw(reasons)) for q in questions
    )
    return checks, draw(st.integers(0, 100)) / 10


def principles_of(checks):
    return tuple(check.principle for check in checks)


def items_of(checks):
    return [
        {"id": i, "question": c.principle.question, "reason": c.reason, "score": int(c.met)}
        for i, c in enumerate(checks, 1)
    ]


def value_form(draw, met):
    return draw(st.sampled_from([int(met), met, float(met), str(int(met)), "yes" if met else "No"]))


@st.composite
def list_form(draw, checks):
    """The checks, written in one of the ways that models write lists."""
    key = draw(st.sampled_from(["score", "met", "answer", "result"]))
    rows = []
    for item, check in zip(items_of(checks), checks):
        row = {k: v for k, v in item.items() if k != "score"} | {key: value_form(draw, check.met)}
        rows.append(dict(draw(st.permutations(list(row.items())))))
    rows = draw(st.permutations(rows))
    identity = draw(st.sampled_from(["both", "id", "question", "renumbered"]))
    if identity == "renumbered":
        rows = [{**row, "id": i} for i, row in enumerate(rows, 1)]
    elif identity != "both":
        rows = [{k: v for k, v in row.items() if k != {"id": "question", "question": "id"}[identity]} for row in rows]
    style = draw(st.sampled_from(["json", "indented", "python", "trailing", "lines", "wrapped", "unclosed"]))
    if style == "python":
        return str(rows)
    if style == "lines":
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    body = json.dumps(rows, ensure_ascii=draw(st.booleans()), indent=2 if style == "indented" else None)
    if style == "trailing":
        return body[:-2] + ",},\n]"
    if style == "wrapped":
        return f'{{"checks": {body}, "average_score": 0.5}}'
    return body[:-1] if style == "unclosed" else body


@st.composite
def score_form(draw, score):
    """The score, written in one of the ways that models write it."""
    plain = f"{score:.1f}"
    numbers = [plain, plain.replace(".", ","), f"{plain}/10", f"{plain} out of 10", f"**{plain}**", f" {plain}\n"]
    if score == int(score):
        numbers += [f"{score:.0f}", f"{score:.0f}/10", WORDS[int(score)], WORDS[int(score)].title() + " out of ten"]
    elif score % 1 == 0.5:
        numbers.append(f"{WORDS[int(score)]} and a half")
    number = draw(st.sampled_from(numbers))
    opening = draw(st.sampled_from(["<score>", "<Score>", "< score >", "**<score>"]))
    return (
        opening + number + draw(st.sampled_from(["</score>", "</SCORE>**", "<score>", "</ score>", "<\\/score>", "\n"]))
    )


@settings(max_examples=4000, **FAST)
@given(st.data())
def test_a_change_of_form_changes_nothing(data):
    checks, score = data.draw(verdicts())
    body = data.draw(list_form(checks))
    fence = data.draw(st.sampled_from(["{}", "```json\n{}\n```", "```\n{}```", "My checks:\n{}\nThat is all."]))
    reasoning = data.draw(texts)
    draft = data.draw(
        st.sampled_from(["", "<think>[{'id': 1, 'score': 0}] <score>1</score></think>\n", "<score>9</think>"])
    )
    text = draft + reasoning + "\n" + fence.replace("{}", body) + "\n" + data.draw(score_form(score))
    verdict = parse_verdict(text, principles_of(checks))
    assert verdict.score == score
    assert [(c.principle, c.met) for c in verdict.checks] == [(c.principle, c.met) for c in checks]


def _drop(draw, items):
    items.pop(draw(st.integers(0, len(items) - 1)))


def _contradict(draw, items):
    item = draw(st.sampled_from(items))
    items.insert(draw(st.integers(0, len(items))), {**item, "score": 1 - item["score"]})


def _add_unknown(draw, items):
    question = draw(st.sampled_from(["Is a zebra to be seen in the far distance?", "Was anything else asked for?"]))
    items.append({"id": draw(st.integers(1, 20)), "question": question, "reason": "", "score": 1})


def _spoil_value(draw, items):
    bad = [2, -1, 0.5, 10, None, "maybe", "unsure", "0/1", "", [1], {}, float("nan"), float("inf"), "1 or 0"]
    draw(st.sampled_from(items))["score"] = draw(st.sampled_from(bad))


def _change_question(draw, items):
    item = draw(st.sampled_from(items))
    item["question"] = "Is it not so that " + item["question"]


@settings(max_examples=2000, **FAST)
@given(st.data(), st.sampled_from([_drop, _contradict, _add_unknown, _spoil_value, _change_question]))
def test_a_change_of_substance_in_the_checks_is_a_fault(data, spoil):
    checks, score = data.draw(verdicts())
    items = items_of(checks)
    spoil(data.draw, items)
    text = f"So.\n{json.dumps(items)}\n<score>{score:.1f}</score>"
    with pytest.raises(VerdictParseError):
        parse_verdict(text, principles_of(checks))


@settings(max_examples=1000, **FAST)
@given(verdicts(), st.one_of(st.floats(allow_nan=True), st.integers(), st.floats(0, 10)))
def test_another_score_is_taken_as_it_is_or_refused(verdict, other):
    checks, score = verdict
    whole = format_answer("So.", checks, score, echo_question=True)
    replaced = whole[: whole.rindex("<score>")] + f"<score>{other}</score>"
    if 0 <= other <= 10 and "e" not in str(other):
        assert parse_verdict(replaced, principles_of(checks)).score == other
    else:
        with pytest.raises(VerdictParseError):
            parse_verdict(replaced, principles_of(checks))
    if other != score:
        with pytest.raises(VerdictParseError):
            parse_verdict(f"{whole} <score>{other}</score>", principles_of(checks))


def numbers_in(text):
    """All numbers that a text states, found without the parser's help."""
    values = {
        float(n.replace(",", ".")) for n in re.findall(r"(?=((?<![0-9])[0-9]{1,3}(?:[.,][0-9]+)?|\.[0-9]+))", text)
    }
    values |= {float(n) for n in re.findall(r"[0-9]{1,3}", text)}
    lowered = text.lower()
    values |= {float(v) for v, word in enumerate(WORDS) if word in lowered}
    values |= {v + 0.5 for v, word in enumerate(WORDS) if f"{word} and a half" in lowered}
    return values


FRAGMENTS = [*"[]{}\"',:\\\n017.-", "<score>", "</score>", "<think>", "</think>", "null", "NaN", "/10", "```"]
FRAGMENTS += ['"score": 1', '{"id": 1, "score": 0}', "<score>4</score>", " and a half"]


@settings(max_examples=4000, **FAST)
@given(st.data())
def test_whatever_is_damaged_no_score_is_made_up(data):
    checks, score = data.draw(verdicts())
    text = data.draw(texts) + "\n" + data.draw(list_form(checks)) + "\n" + data.draw(score_form(score))
    for _ in range(data.draw(st.integers(1, 5))):
        at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.one_of(st.just(""), st.sampled_from(FRAGMENTS), texts)) + text[at + length :]
    try:
        verdict = parse_verdict(text, principles_of(checks))
    except VerdictParseError:
        return
    assert verdict.score in numbers_in(text)
    assert [c.principle for c in verdict.checks] == list(principles_of(checks))
    assert verdict.average_score == sum(c.met for c in verdict.checks) / len(checks)
