"""Tokens, positions and sizes, by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editr1.editors.latents import cut, pack, position_ids, sides, unpack


def test_a_token_is_a_square_of_four() -> None:
    """One channel, 2x4: rows 0 1 2 3 / 4 5 6 7 are the tokens 0 1 4 5 and 2 3 6 7."""
    latents = torch.arange(8.0).reshape(1, 1, 2, 4)
    assert pack(latents).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]


def test_channels_are_the_slow_part_of_a_token() -> None:
    latents = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])[None]
    assert pack(latents).tolist() == [[[0, 0, 0, 0, 1, 1, 1, 1]]]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_unpack_undoes_pack(size: int, channels: int, down: int, across: int) -> None:
    latents = torch.rand(size, channels, 2 * down, 2 * across)
    assert torch.equal(unpack(pack(latents), (down, across)), latents)


def test_position_ids() -> None:
    assert position_ids((2, 2), 1).tolist() == [[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("area", "aspect", "multiple", "expected"),
    [
        (1024**2, 1.0, 32, (1024, 1024)),
        (1024**2, 1.5, 32, (832, 1248)),
        (96 * 96, 1.0, 1, (96, 96)),
        (4, 144.0, 8, (8, 24)),
    ],
)
def test_sides(area: int, aspect: float, multiple: int, expected: tuple[int, int]) -> None:
    """At 3:2, 1024^2 is 836.1 x 1254.1, i.e. 26.13 and 39.19 times 32; no side is ever less than one multiple."""
    assert sides(area, aspect, multiple) == expected


def test_cut() -> None:
    assert cut((95, 33), 16) == (80, 32)
    assert cut((3, 33), 16) == (16, 32)
