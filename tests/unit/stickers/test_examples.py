from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.judges.base import Picture
from editr1.stickers.examples import EXAMPLES, contrast_edit, sample_edit
from editr1.types import Category
from editr1.verifier.parse import parse_principles, parse_verdict


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(EXAMPLES)), st.integers(0, 10_000))
def test_examples_are_functions_of_split_and_index(name, index):
    first, second = EXAMPLES[name]("x", index), EXAMPLES[name]("x", index)
    assert first.answer == second.answer
    pictures = [
        [p.image.tobytes() for m in e.messages for p in m.content if isinstance(p, Picture)] for e in (first, second)
    ]
    assert pictures[0] == pictures[1]
    assert 1 <= len(pictures[0]) <= 2


def test_answers_are_what_the_parser_reads():
    decompositions = 0
    for index in range(70):
        answer = EXAMPLES["verify"]("parse", index).answer
        if answer.startswith("[{"):
            decompositions += 1
            assert len(parse_principles(answer)) >= 5
    assert decompositions == 7
    edit = contrast_edit("parse", 3)
    verdict = parse_verdict(EXAMPLES["verify"]("parse", 3).answer, edit.task.principles)
    assert len(verdict.checks) == len(edit.task.principles)


def share_met(edits):
    truths = [t for e in edits for t in e.task.truth(e.scene)]
    return sum(truths) / len(truths)


def test_contrast_edits_are_mostly_wrong_and_ask_for_what_went_wrong():
    edits = [contrast_edit("share", i) for i in range(300)]
    assert sum(bool(e.faults) for e in edits) / 300 > 0.8  # 0.88 in the mean
    assert 0.65 < share_met(edits) < 0.82
    assert share_met(sample_edit("share", i) for i in range(300)) > 0.85
    for edit in edits:
        questions = [p.question for p in edit.task.principles]
        assert len(set(questions)) == len(questions)
        assert {p.category for p in edit.task.principles} == set(Category)
