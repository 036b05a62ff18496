"""Agreement with the gold, against numbers found by hand, and how held-out edits are judged."""

from __future__ import annotations

import pytest

from editr1.errors import DataError
from editr1.judges.scripted import ScriptedJudge
from editr1.training.sft.data import find_files, open_rows
from editr1.training.sft.evaluate import HeldOutEdit, Judged, agreement, choose_edits, judge_edits
from editr1.types import Category, Principle
from editr1.verifier.modes import mode_template
from editr1.verifier.template import load_template

QUESTION = Principle("Is it?", Category.FOLLOW)


def edit(name: str, context: str, gold: str) -> HeldOutEdit:
    return HeldOutEdit(name, context, b"", b"", "Do it.", (QUESTION,) * len(gold), tuple(g == "1" for g in gold))


def met(text: str) -> tuple[bool, ...]:
    return tuple(t == "1" for t in text)


def test_agreement_by_hand():
    """Four edits of context a (worths 1, 1/2, 1/2, 0) and two of b (worths 1/2 and 1).

    Checks of the five parsed edits: gold 11 10 01 10 11 against 11 11 01 00 11, right 2 + 1 + 2 + 1 + 2 = 8 of 10.
    Gold is met in 2 + 1 + 1 + 1 + 2 = 7, of which 6 are said to be; not met in 3, of which 2 are said to be.
    Balanced: (6/7 + 2/3) / 2.

    Pairs of different worth: in a, a1 with a2, a3, a4, then a2 with a4 and a3 with a4; in b one. a4 has no score, so 3
    fail. Left: a1-a2 9 > 4 right, a1-a3 9 = 9 a tie, b2-b1 7 > 3 right: accuracy 2/3, ties 1/3.
    """
    edits = [
        edit("a1", "a", "11"), edit("a2", "a", "10"), edit("a3", "a", "01"), edit("a4", "a", "00"),
        edit("b1", "b", "10"), edit("b2", "b", "11"),
    ]  # fmt: skip
    said = [
        Judged("a1", 9.0, met("11")), Judged("a2", 4.0, met("11")), Judged("a3", 9.0, met("01")), Judged("a4", None),
        Judged("b1", 3.0, met("00")), Judged("b2", 7.0, met("11")),
    ]  # fmt: skip
    figures = agreement(edits, said)
    assert figures == pytest.approx(
        {
            "judged": 6,
            "parsed": 5 / 6,
            "principle_accuracy": 8 / 10,
            "principle_balanced_accuracy": (6 / 7 + 2 / 3) / 2,
            "pairs": 3,
            "pairs_failed": 3,
            "pair_accuracy": 2 / 3,
            "pair_ties": 1 / 3,
        }
    )


def test_figures_over_nothing_are_left_out():
    assert agreement([], []) == {"judged": 0, "pairs": 0, "pairs_failed": 0}
    assert agreement([edit("a", "a", "1")], [Judged("a", None)]) == {
        "judged": 1,
        "parsed": 0.0,
        "pairs": 0,
        "pairs_failed": 0,
    }


def test_edits_are_chosen_by_whole_contexts(sft_export):
    rows = open_rows(find_files([sft_export])[1], for_judging=True)  # contexts c6 and c7, two edits each
    assert [e.id for e in choose_edits(rows, 1)] == ["e12", "e13"]
    assert [e.id for e in choose_edits(rows, 3)] == ["e12", "e13", "e14", "e15"]
    assert len(choose_edits(rows, 100)) == 4
    assert choose_edits(rows, 1)[1].gold == (True, False, True)  # 13 is 1101 in binary, the lowest bits first


def test_a_row_without_gold_is_an_error(sft_row):
    row = sft_row(1)
    row["gold"] = row["gold"][:2]
    with pytest.raises(DataError, match="'e1' has 2 gold answers to 3 principles"):
        HeldOutEdit.from_row(row)


def scripted(answers: list[str]) -> ScriptedJudge:
    return ScriptedJudge(answers)


@pytest.mark.parametrize("mode", ["think", "verify", "think+verify", "viescore"])
def test_the_answers_that_are_taught_can_be_read(sft_export, sft_row, mode):
    """A judge that says what it should have learnt agrees wholly; one answer of garbage is a failure, no number."""
    edits = choose_edits(open_rows(find_files([sft_export])[1], for_judging=True), 4)
    rows = [sft_row(n) for n in range(12, 16)]
    answers = [next(c["answer"] for c in row["chats"] if c["mode"] == mode) for row in rows]
    asked = mode_template(load_template("compact"), mode)
    said = judge_edits(scripted(answers), asked, mode, edits, max_tokens=50)
    assert [j.id for j in said] == ["e12", "e13", "e14", "e15"]
    assert None not in [j.score for j in said]
    if mode in ("verify", "think+verify"):
        figures = agreement(edits, said)
        assert figures["principle_accuracy"] == figures["principle_balanced_accuracy"] == 1.0
        assert [j.score for j in said] == [row["score"] for row in rows]
    else:
        assert all(j.met is None for j in said)
    spoilt = judge_edits(scripted([*answers[:3], "no idea"]), asked, mode, edits, max_tokens=50)
    assert [j.score is None for j in spoilt] == [False, False, False, True]
