"""Which prompts share what: the cheapest partition, found without trying all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from fast_helpers import Tiny, chat, context, picture
from hypothesis import given
from hypothesis import strategies as st

from editr1.judges.fast.prompts import Prompt, group_by_prefix, make_prompt, tokenise
from editr1.judges.fast.runner import plan_batches


def prompt(ids: list[int]) -> Prompt:
    return make_prompt(np.array(ids, dtype=np.int64), [], [], -7, 2)


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for size in range(len(rest) + 1):
        for mates in itertools.combinations(rest, size):
            for others in partitions([i for i in rest if i not in mates]):
                yield [[first, *mates], *others]


def saved(rows: list[list[int]], group: list[int]) -> int:
    common = 0
    for column in zip(*(rows[i] for i in group)):
        if len(set(column)) > 1:
            break
        common += 1
    return (len(group) - 1) * common


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=7), min_size=1, max_size=5))
def test_no_partition_saves_more(rows: list[list[int]]) -> None:
    groups = group_by_prefix([prompt(row) for row in rows], least=1)
    assert sorted(m for g in groups for m in g.members) == list(range(len(rows)))
    ours = sum(saved(rows, list(g.members)) for g in groups)
    assert ours == max(sum(saved(rows, g) for g in parts) for parts in partitions(list(range(len(rows)))))


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=12), st.integers(1, 5))
def test_shared_tokens_are_the_same_and_leave_one(rows: list[list[int]], max_rows: int) -> None:
    for batch in plan_batches([prompt(row) for row in rows], max_rows):
        assert 0 < sum(len(g.members) for g in batch) <= max_rows
        for group in batch:
            beginnings = {tuple(rows[m][: group.shared]) for m in group.members}
            assert len(beginnings) == 1
            assert all(len(rows[m]) > group.shared for m in group.members)


def test_contexts_make_groups_though_all_share_the_system_prompt(tiny: Tiny) -> None:
    requests = [r for pair in zip(context(0, 4), context(1, 4)) for r in pair]
    prompts, _ = tokenise(requests, tiny.processor, 2)
    good = [p for p in prompts if isinstance(p, Prompt)]
    assert [g.members for g in group_by_prefix(good)] == [(0, 2, 4, 6), (1, 3, 5, 7)]


def test_pictures_are_told_apart_by_content(tiny: Tiny) -> None:
    """Equal pictures in different objects are one; different pictures of one size end the common beginning."""
    requests = [chat("a" * 30, picture(1), "b"), chat("a" * 30, picture(1), "b"), chat("a" * 30, picture(2), "b")]
    prompts, pictures = tokenise(requests, tiny.processor, 2)
    assert len(pictures.grids) == 2
    first, second, third = (p for p in prompts if isinstance(p, Prompt))
    assert (first.key == second.key).all()
    assert ((first.key != third.key) == (first.pictures >= 0)).all()
    assert (first.ids == third.ids).all()


def test_tokens_are_the_processors(tiny: Tiny) -> None:
    request = chat("Source: ", picture(1, 64, 128), "then", picture(2), "what?")
    ((made,), _) = tokenise([request], tiny.processor, 2)
    assert isinstance(made, Prompt)
    assert made.ids.tolist() == tiny.inputs(request)["input_ids"][0].tolist()
