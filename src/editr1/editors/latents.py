"""Where tokens are and how large pictures get: the geometry that the editors share, as pure functions.

The transformers see a latent picture as a row of tokens, each a square of 2x2 latent pixels.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

Grid: TypeAlias = tuple[int, int]
"""Tokens down and across."""


def pack(latents: Tensor) -> Tensor:
    """(B, C, 2h, 2w) -> (B, h w, 4C): one token for each square of 2x2, row by row."""
    size, channels, height, width = latents.shape
    squares = latents.reshape(size, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(size, height // 2 * (width // 2), 4 * channels)


def unpack(tokens: Tensor, grid: Grid) -> Tensor:
    """(B, h w, 4C) -> (B, C, 2h, 2w), the inverse of `pack`."""
    size, _, channels = tokens.shape
    squares = tokens.reshape(size, *grid, channels // 4, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(size, channels // 4, 2 * grid[0], 2 * grid[1])


def position_ids(grid: Grid, picture: int) -> Tensor:
    """(h w, 3): for each token the number of its picture, its row and its column."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([torch.full_like(rows, picture), rows, columns], dim=-1).reshape(-1, 3).float()


def sides(area: float, aspect: float, multiple: int = 1) -> tuple[int, int]:
    """Height and width of a picture with about this area, each rounded to the nearest multiple, at least one.

    Args:
        area: in pixels.
        aspect: width over height.
        multiple: of which both sides are.
    """
    width = math.sqrt(area * aspect)
    height = width / aspect
    return max(round(height / multiple), 1) * multiple, max(round(width / multiple), 1) * multiple


def cut(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Both sides brought down to a multiple, at least one of it."""
    return max(size[0] // multiple, 1) * multiple, max(size[1] // multiple, 1) * multiple
