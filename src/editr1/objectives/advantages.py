"""Advantages relative to a group: the rollouts of one context compete with each other (GRPO; paper, section 3)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from editr1.objectives._tensors import working_dtype

Scale = Literal["none", "std", "global_std"]


def group_advantages(rewards: Tensor, scale: Scale = "none", clamp: float | None = None, eps: float = 1e-4) -> Tensor:
    """How much better each rollout is than the others of its group.

    `none` is the paper's choice for GCPO, `std` its choice for editors: A_i = (r_i - mean) / (std + eps). All standard
    deviations are of the population (divided by the number of scores, not by one less), so that |A_i| is at most
    sqrt(G - 1). `global_std` divides by that of all scores in the batch, about their common mean: gather the whole
    batch first if it is spread over processes.

    A reward that is NaN or infinite is no score: it takes no part in any mean or deviation, and its advantage is 0.
    Groups in which nothing can be learnt (see `flat_groups`) have advantages of exactly 0. Otherwise the advantages
    of a group sum to 0 up to rounding; a clamp that bites breaks that.

    Args:
        rewards: (groups, G).
        scale: what deviations from the group's mean are divided by.
        clamp: bound on the size of an advantage, applied last.
        eps: added to the deviation, in units of the reward; unused with "none".

    Returns:
        (groups, G); float64 for float64 rewards, otherwise float32.

    Raises:
        ValueError: for rewards of another shape, an unknown scale, or a clamp that is not positive.
    """
    if rewards.ndim != 2:
        raise ValueError(f"rewards have shape {tuple(rewards.shape)}: give (groups, rollouts in each group)")
    if scale not in get_args(Scale):
        raise ValueError(f"unknown scale {scale!r}: choose from {', '.join(get_args(Scale))}")
    if clamp is not None and not clamp > 0:
        raise ValueError(f"clamp is {clamp}: give a positive bound, or None for no bound")
    scored = rewards.isfinite()
    values = torch.where(scored, rewards, 0).to(working_dtype(rewards))
    advantages = _deviations(values, scored, dim=-1)
    if scale == "std":
        advantages = advantages / (_population_std(advantages, scored, dim=-1) + eps)
    elif scale == "global_std":
        spread = _deviations(values.flatten(), scored.flatten(), dim=0)
        advantages = advantages / (_population_std(spread, scored.flatten(), dim=0) + eps)
    advantages = torch.where(flat_groups(rewards)[:, None], 0, advantages)
    return advantages if clamp is None else advantages.clamp(-clamp, clamp)


def flat_groups(rewards: Tensor) -> Tensor:
    """Which groups teach nothing: all their scores are equal, or fewer than two rollouts have a score.

    Compares scores, not a computed deviation, which rounding can lift above 0. Skip these groups, and count them.

    Args:
        rewards: (groups, G), NaN or infinite where there is no score.

    Returns:
        (groups,), bool.
    """
    scored = rewards.isfinite()
    values = rewards.to(working_dtype(rewards))
    highest = torch.where(scored, values, -torch.inf).amax(dim=-1)
    lowest = torch.where(scored, values, torch.inf).amin(dim=-1)
    return ~(highest > lowest)


def _deviations(values: Tensor, scored: Tensor, dim: int) -> Tensor:
    """Differences from the mean of what has a score; 0 where there is none."""
    mean = values.sum(dim, keepdim=True) / scored.sum(dim, keepdim=True).clamp(min=1)
    return torch.where(scored, values - mean, 0)


def _population_std(deviations: Tensor, scored: Tensor, dim: int) -> Tensor:
    return (deviations.square().sum(dim, keepdim=True) / scored.sum(dim, keepdim=True).clamp(min=1)).sqrt()
