"""What the objectives share: the precision they compute in, and values that belong to samples."""

from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any of the tensors is, otherwise float32: half precision never enters a likelihood ratio."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def per_sample(value: float | Tensor, like: Tensor, name: str) -> Tensor:
    """A number, or one per sample (B,), in the shape that broadcasts over `like` (B, ...), its dtype and device.

    Raises:
        ValueError: if `value` is neither.
    """
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if value.ndim == 0:
        return value
    if value.shape != like.shape[:1]:
        raise ValueError(f"{name} has shape {tuple(value.shape)}: give a number or one per sample, ({like.shape[0]},)")
    return value.reshape(-1, *[1] * (like.ndim - 1))


def mean_per_sample(values: Tensor) -> Tensor:
    """(B, ...) -> (B,): the mean over all but the first dimension."""
    return values.reshape(values.shape[0], -1).mean(dim=1)


def check_same_shape(**tensors: Tensor) -> None:
    """Refuse to broadcast where it could only be a mistake.

    Raises:
        ValueError: if the shapes differ.
    """
    if len({t.shape for t in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise ValueError(f"shapes differ: {shapes}; give tensors of one shape")
