"""The clipped surrogate of PPO and GRPO, for tokens of text and for steps of a sampler alike."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from editr1.objectives._tensors import working_dtype

Clip: TypeAlias = float | tuple[float, float]
Metrics: TypeAlias = dict[str, Tensor]
Normalise = Literal["grpo", "token"]


def clipped_surrogate(
    log_ratio: Tensor,
    advantages: Tensor,
    clip: Clip,
    *,
    mask: Tensor | None = None,
    normalise: Normalise = "grpo",
) -> tuple[Tensor, Metrics]:
    """The negated mean of min(rho A, clip(rho, 1 - low, 1 + high) A), rho = exp(log_ratio).

    Either one ratio per sample (a step of an editor's sampler) or one per token (a verifier's text). Means:

    - `grpo`: over the tokens of each rollout, then over the rollouts (the paper's 1/G sum_i 1/T_i sum_t). One whose
      tokens are all masked adds 0 and still counts, so that equal micro-batches average to the whole batch.
    - `token`: over all tokens that are not masked; long rollouts weigh more.

    What is masked may hold anything, NaN included. A value that is not finite and not masked makes the loss so too:
    skip that step.

    Args:
        log_ratio: (...) as `advantages`, or (..., T) with tokens: log-likelihood less that under the sampling policy.
        advantages: (...), taken as constants.
        clip: how far the ratio may leave 1, or (down, up).
        mask: as `log_ratio`, true (or 1) for what counts.
        normalise: the kind of mean.

    Returns:
        The loss, a scalar to minimise, and over what is not masked, detached: `clip_fraction` (where the clip holds
        the gradient back), `ratio_mean`, `approx_kl` (mean of rho - 1 - log rho, an estimate of KL(old, new)), and
        `nonfinite`, the number of ratios that are not finite; these enter no other metric.

    Raises:
        ValueError: if shapes do not fit, the clip is negative, or `normalise` is unknown.
    """
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    _check(log_ratio, advantages, mask, low, high, normalise)
    log_ratio = log_ratio.to(working_dtype(log_ratio, advantages))
    counts = torch.ones_like(log_ratio, dtype=torch.bool) if mask is None else mask.bool()
    if log_ratio.ndim == advantages.ndim:  # a step of a sampler is a rollout of one token
        log_ratio, counts = log_ratio[..., None], counts[..., None]
    advantages = advantages.detach().to(log_ratio.dtype)[..., None]

    # Masked before it is used: zeroing a NaN's loss would leave a NaN in its gradient.
    log_ratio = torch.where(counts, log_ratio, 0)
    ratio = log_ratio.exp()
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    gain = torch.where(counts, gain, 0)
    if normalise == "grpo":
        loss = -(gain.sum(dim=-1) / counts.sum(dim=-1).clamp(min=1)).mean()
    else:
        loss = -gain.sum() / counts.sum().clamp(min=1)

    with torch.no_grad():
        finite = counts & log_ratio.isfinite() & ratio.isfinite()
        held = ((ratio > 1 + high) & (advantages > 0)) | ((ratio < 1 - low) & (advantages < 0))
        metrics = {
            "clip_fraction": _mean_where(held.to(ratio.dtype), finite),
            "ratio_mean": _mean_where(ratio, finite),
            "approx_kl": _mean_where(log_ratio.expm1() - log_ratio, finite),
            "nonfinite": (counts & ~finite).sum(),
        }
    return loss, metrics


def _mean_where(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0).sum() / where.sum().clamp(min=1)


def _check(log_ratio: Tensor, advantages: Tensor, mask: Tensor | None, low: float, high: float, normalise: str) -> None:
    if log_ratio.shape != advantages.shape and log_ratio.shape[:-1] != advantages.shape:
        raise ValueError(
            f"log_ratio has shape {tuple(log_ratio.shape)} and advantages {tuple(advantages.shape)}: "
            "give one ratio per advantage, or tokens in one further dimension"
        )
    if log_ratio.numel() == 0:
        raise ValueError(f"log_ratio has shape {tuple(log_ratio.shape)}: there is nothing to learn from")
    if mask is not None and mask.shape != log_ratio.shape:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}: give that of log_ratio, {tuple(log_ratio.shape)}")
    if not (low >= 0 and high >= 0):
        raise ValueError(f"clip is ({low}, {high}): give how far the ratio may fall below and rise above 1")
    if normalise not in get_args(Normalise):
        raise ValueError(f"unknown normalise {normalise!r}: choose from {', '.join(get_args(Normalise))}")
