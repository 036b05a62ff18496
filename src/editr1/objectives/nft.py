"""DiffusionNFT: reinforcement on the forward process, without likelihoods (arXiv 2509.16117).

Only finished pictures and their rewards are needed. Each is noised again as in pretraining, and the policy v is split
into an implicit positive and an implicit negative one, mirror images about the policy that sampled:

    v+ = (1 - beta) v_old + beta v        v- = (1 + beta) v_old - beta v
    loss = r |v+ - target|^2 + (1 - r) |v- - target|^2

A good picture (r near 1) pulls v+ towards its target; a bad one pulls v- there, which pushes v away. At v = v_old the
gradient is 2 beta (2r - 1)(v_old - target): pictures of the group's mean have none. The minimum lies at
v = v_old + (2r - 1)(target - v_old) / beta, averaged over pictures: a small beta asks for more.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from editr1.objectives._tensors import check_same_shape, mean_per_sample, per_sample, working_dtype
from editr1.objectives.policy_gradient import Metrics

Weighting = Literal["none", "x0"]

_LEAST_ERROR = 1e-5
"""Below this mean error of x0, the adaptive weight stops growing."""


def optimality(advantages: Tensor, clamp: float = 5.0) -> Tensor:
    """The probability r in [0, 1] that a picture is a good one: 1/2 + clip(A / clamp, -1, 1) / 2.

    Args:
        advantages: any shape, as of `group_advantages`; 0 gives 0.5, NaN stays NaN.
        clamp: the advantage at which r reaches 1; less makes good and bad pictures more different.

    Raises:
        ValueError: if the clamp is not positive.
    """
    if not clamp > 0:
        raise ValueError(f"clamp is {clamp}: give the advantage at which a picture counts as surely good")
    return 0.5 + (advantages / clamp).clamp(-1, 1) / 2


def noised(x0: Tensor, noise: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
    """The forward process: what the model is shown, and the velocity that it should then have.

    Args:
        x0: (B, ...) latents of finished pictures.
        noise: (B, ...) standard normal.
        sigma: in [0, 1], one number or (B,).

    Returns:
        (1 - sigma) x0 + sigma noise, and noise - x0, in float32 (float64 if an input is).
    """
    check_same_shape(x0=x0, noise=noise)
    dtype = working_dtype(x0, noise)
    x0, noise = x0.to(dtype), noise.to(dtype)
    sigma = per_sample(sigma, x0, "sigma")
    return (1 - sigma) * x0 + sigma * noise, noise - x0


def nft_loss(
    velocity: Tensor,
    old_velocity: Tensor,
    target: Tensor,
    reward: Tensor,
    *,
    beta: float = 1.0,
    weighting: Weighting = "none",
    sigma: float | Tensor = 1.0,
) -> tuple[Tensor, Metrics]:
    """The loss above over beta, averaged over elements and samples.

    The division makes the gradient at v = v_old, and so the first step, independent of beta.

    `x0` weighs each picture's two terms by its own error, in the space of pictures: with x0^ = x - sigma v, the error
    there is sigma times that of the velocity, and the term is mean(error^2) / mean(|error|), the divisor a constant.
    Otherwise steep noise levels outweigh the rest.

    Args:
        velocity: (B, ...) of the policy that is trained, at the noised picture.
        old_velocity: (B, ...) of the policy that sampled, at the same point.
        target: (B, ...) noise - x0, see `noised`.
        reward: (B,) r in [0, 1], see `optimality`; NaN for a picture without a score, which then adds 0 to the mean.
        beta: how much of v - v_old the implicit policies have, above 0; 1 for v itself and its mirror image.
        weighting: "none" or "x0".
        sigma: in (0, 1], one number or (B,); for "x0" only.

    Returns:
        The loss, and over pictures with a score: `positive_loss`, `negative_loss`, `old_drift` (mean squared
        difference from the old velocity); and `unscored`, the number of pictures without.

    Raises:
        ValueError: for shapes that do not fit, a beta that is not positive, or an unknown weighting.
    """
    check_same_shape(velocity=velocity, old_velocity=old_velocity, target=target)
    if reward.shape != velocity.shape[:1]:
        raise ValueError(f"reward has shape {tuple(reward.shape)}: give one per sample, ({velocity.shape[0]},)")
    if not beta > 0:
        raise ValueError(f"beta is {beta}: give a positive number; 1 makes the positive policy v itself")
    if weighting not in get_args(Weighting):
        raise ValueError(f"unknown weighting {weighting!r}: choose from {', '.join(get_args(Weighting))}")
    dtype = working_dtype(velocity, old_velocity, target)
    velocity, old, target = velocity.to(dtype), old_velocity.detach().to(dtype), target.detach().to(dtype)
    scored = ~reward.isnan()
    good = torch.where(scored, reward, 0).to(dtype)
    scale = per_sample(sigma, velocity, "sigma") if weighting == "x0" else None

    step = beta * (velocity - old)
    positive, negative = _error(old + step - target, scale), _error(old - step - target, scale)
    losses = torch.where(scored, (good * positive + (1 - good) * negative) / beta, 0)
    with torch.no_grad():
        number = scored.sum().clamp(min=1)
        kept = {
            "positive_loss": positive,
            "negative_loss": negative,
            "old_drift": mean_per_sample((velocity - old).square()),
        }
        metrics = {name: torch.where(scored, values, 0).sum() / number for name, values in kept.items()}
        metrics["unscored"] = (~scored).sum()
    return losses.mean(), metrics


def _error(error: Tensor, scale: Tensor | None) -> Tensor:
    """(B, ...) errors of the velocity -> (B,) losses, adaptively weighted if there is a scale to the error of x0."""
    if scale is None:
        return mean_per_sample(error.square())
    error = error * scale
    return mean_per_sample(error.square()) / mean_per_sample(error.detach().abs()).clamp(min=_LEAST_ERROR)
