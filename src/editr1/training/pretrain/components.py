"""Principal components of small squares of pictures: what an autoencoder's latents are drawn towards.

A transformer learns to make latents from the coarse to the fine if the coarse is where their variance is: noise covers
the fine first. The latents of an autoencoder that has reconstruction alone in mind spread the fine over all channels,
with as much variance as the coarse, and a small transformer learns next to nothing on them
(`docs/decisions/0007-latents-from-coarse-to-fine.md`). The coefficients of a square's principal components fall off
by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Components:
    """The first principal components of squares of `side` x `side` pixels.

    Attributes:
        mean: of the squares, (3 side side,).
        basis: (3 side side, C), orthonormal columns, those of the largest variance first.
        scale: that brings the coefficients' mean square, over all C, to 1.
    """

    side: int
    mean: Tensor
    basis: Tensor
    scale: float

    @classmethod
    def of(cls, pixels: Tensor, side: int, number: int) -> Components:
        """Found in pictures.

        Args:
            pixels: (B, 3, H, W), H and W multiples of `side`.
            side: of a square.
            number: C, at most 3 side side.
        """
        rows = _squares(pixels, side).flatten(0, 2)
        mean = rows.mean(0)
        centred = (rows - mean).double()
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
        kept = vectors.flip(1)[:, :number]
        kept = torch.where(kept.sum(0) < 0, -kept, kept)  # of the two signs, always the same
        scale = float(variances.flip(0)[:number].clamp_min(0).mean().clamp_min(1e-12).rsqrt())
        return cls(side, mean, kept.float(), scale)

    def coefficients(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / side, W / side), of mean square 1 over pictures like those they were found in."""
        squares = _squares(pixels, self.side) - self.mean.to(pixels.device)
        return self.scale * (squares @ self.basis.to(pixels.device)).permute(0, 3, 1, 2)

    def pictures(self, coefficients: Tensor) -> Tensor:
        """The pictures nearest to the given coefficients: the inverse, as far as C components hold them."""
        rows = (coefficients / self.scale).permute(0, 2, 3, 1) @ self.basis.T.to(coefficients.device)
        down, across = coefficients.shape[2:]
        rows = (rows + self.mean.to(rows.device)).reshape(-1, down, across, 3, self.side, self.side)
        return rows.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, down * self.side, across * self.side)


def _squares(pixels: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) -> (B, H / side, W / side, 3 side side)."""
    number, channels, height, width = pixels.shape
    cut = pixels.reshape(number, channels, height // side, side, width // side, side)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(number, height // side, width // side, -1)
