"""The rule that chooses a trace, against its definition."""

from __future__ import annotations

from functools import cmp_to_key

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editr1.verifier.choose import Answered, accuracy, choose

answers = st.lists(
    st.builds(
        Answered,
        st.tuples(st.booleans(), st.booleans(), st.booleans()),
        st.sampled_from([0.0, 0.33, 0.67, 1.0]),
        st.sampled_from([0.0, 5.0, 5.5, 10.0]),
    ),
    min_size=1,
    max_size=8,
)


@given(answers, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_it_is_the_paper_s_order(given_answers: list[Answered], gold: tuple[bool, ...]) -> None:
    def better(i: int, j: int) -> int:
        a, b = given_answers[i], given_answers[j]
        for x, y in ((accuracy(a.met, gold), accuracy(b.met, gold)), (a.average, b.average), (a.score, b.score)):
            if x != y:
                return -1 if x > y else 1
        return i - j

    assert choose(given_answers, gold) == sorted(range(len(given_answers)), key=cmp_to_key(better))[0]


def test_answers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no answer"):
        choose([], [True])
    with pytest.raises(ValueError, match="2 principles cannot be held against 1"):
        choose([Answered((True, False), 0.5, 5.0)], [True])
    with pytest.raises(ValueError, match="0 principles"):
        accuracy([], [])
