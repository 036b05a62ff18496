import re
from collections import Counter

import pytest

from editr1.types import Category, EditKind
from editr1.verifier.exemplars import draw, load_exemplars, render_exemplars
from editr1.verifier.matching import normalise
from editr1.verifier.parse import parse_principles

ALL = load_exemplars()
ids = [e.instruction[:40] for e in ALL]


def test_sixty_and_at_least_five_of_each_kind():
    assert len(ALL) == 60
    counts = Counter(e.kind for e in ALL)
    assert set(counts) == set(EditKind)
    assert min(counts.values()) >= 5
    assert sum(e.multi_step for e in ALL) >= 10


def test_no_scene_or_instruction_comes_twice():
    assert len({e.instruction for e in ALL}) == len({e.scene for e in ALL}) == 60


@pytest.mark.parametrize("exemplar", ALL, ids=ids)
def test_proportions_and_form(exemplar):
    counts = Counter(p.category for p in exemplar.principles)
    assert counts[Category.FOLLOW] in (3, 4)
    assert counts[Category.KEEP] in (3, 4)
    assert counts[Category.QUALITY] in (2, 3)
    assert 8 <= len(exemplar.principles) <= 12
    questions = [p.question for p in exemplar.principles]
    assert len({normalise(q) for q in questions}) == len(questions)
    opening = r"(Is|Are|Does|Do|Has|Have|Can) .{10,140}\?"
    assert [q for q in questions if not re.fullmatch(opening, q)] == []
    assert exemplar.scene.endswith(".")


def test_questions_are_specific():
    """A question that many exemplars share would be a template's, not this picture's."""
    counts = Counter(p.question for e in ALL for p in e.principles)
    assert max(counts.values()) <= 3
    assert sum(n for n in counts.values() if n > 1) < 0.06 * counts.total()


def test_draw_is_fixed_by_seed_and_query():
    first = draw(4, 0, "a")
    assert first == draw(4, 0, "a")
    assert len(set(first)) == 4
    assert first != draw(4, 1, "a")
    assert first != draw(4, 0, "b")
    assert draw(0, 0, "a") == ()


def test_every_exemplar_is_drawn_some_time():
    assert {e for query in range(300) for e in draw(4, 0, str(query))} == set(ALL)


def test_rendered_principles_can_be_read_again():
    chosen = draw(4, 3, "q")
    blocks = render_exemplars(chosen).split("Example ")[1:]
    assert [parse_principles(block) for block in blocks] == [e.principles for e in chosen]
    assert render_exemplars(()) == ""
