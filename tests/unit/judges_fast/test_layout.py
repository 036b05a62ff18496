"""Positions and windows against transformers' own, over many shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fast_helpers import Tiny
from hypothesis import given
from hypothesis import strategies as st

from editr1.judges.fast.layout import rope_positions, tokens_of, window_layout

GRIDS = st.lists(
    st.tuples(st.just(1), st.integers(1, 11).map(lambda n: 2 * n), st.integers(1, 11).map(lambda n: 2 * n)),
    max_size=4,
)


@given(grids=GRIDS, gaps=st.lists(st.integers(1, 6), min_size=5, max_size=5), tail=st.booleans())
def test_positions_equal_the_models(tiny: Tiny, grids: list[tuple[int, int, int]], gaps: list[int], tail: bool) -> None:
    kinds: list[int] = []
    for grid, gap in zip(grids, gaps):
        kinds += [0] * gap + [1] * tokens_of(grid, 2)
    kinds += [0] * (gaps[-1] if tail or not grids else 0)
    positions, answer_at = rope_positions(np.array(kinds, dtype=bool), grids, 2)
    theirs, delta = tiny.model.model.get_rope_index(
        torch.zeros(1, len(kinds), dtype=torch.long),
        mm_token_type_ids=torch.tensor([kinds]),
        image_grid_thw=torch.tensor(grids).reshape(-1, 3),
    )
    assert positions.tolist() == theirs[:, 0].tolist()
    assert answer_at == len(kinds) + int(delta)


@pytest.mark.parametrize("window", [1, 2, 3, 4])
@given(rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_windows_are_a_partition_into_squares(window: int, rows: int, columns: int) -> None:
    layout = window_layout((1, 2 * rows, 2 * columns), 2, window)
    assert sorted(layout.order.tolist()) == list(range(rows * columns))
    expected = {}
    for token in range(rows * columns):
        expected.setdefault((token // columns // window, token % columns // window), set()).add(token)
    found, end = [], 0
    for first, count, size in layout.runs:
        assert first == end
        for start in range(first // 4, (first + count * size) // 4, size // 4):
            found.append(frozenset(layout.order[start : start + size // 4].tolist()))
        end = first + count * size
    assert end == 4 * rows * columns
    assert set(found) == {frozenset(members) for members in expected.values()}
    assert len(found) == len(expected)
