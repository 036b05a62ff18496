"""Divergence from the reference policy: exact between steps of a sampler, estimated between tokens."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from editr1.objectives._tensors import check_same_shape, mean_per_sample, per_sample, working_dtype

KlForm = Literal["exact", "flow_grpo"]
KlEstimator = Literal["k1", "k2", "k3"]


def gaussian_kl(
    mean: Tensor, ref_mean: Tensor, std: float | Tensor, dt: float | Tensor, form: KlForm = "exact"
) -> Tensor:
    """KL of two Gaussian steps with one standard deviation, as a mean over the elements of a sample.

        exact:      mean((mean - ref_mean)^2) / (2 std^2)            std = s sqrt(-dt), as in `SdeStep`
        flow_grpo:  mean((mean - ref_mean)^2) / (2 s^2) = |dt| exact

    The field's code divides by s^2 where the KL has s^2 |dt|; here, that form is |dt| times the exact one for every
    kind of step. A coefficient beta means something only together with its form: at 10 steps the same beta pulls about
    ten times harder under `exact`. Values that come from Flow-GRPO, such as the paper's 0.04, go with `flow_grpo`.

    Args:
        mean: (B, ...) of the policy; the gradient goes through it.
        ref_mean: (B, ...) of the reference, for the same latent.
        std: of the whole step, one number or (B,).
        dt: sigma' - sigma, one number or (B,); its sign does not matter, and "exact" does not use it.
        form: which of the two.

    Returns:
        (B,), at least 0; 0 where std is 0: a deterministic step has no likelihood, here as in its `log_prob`.

    Raises:
        ValueError: for shapes that differ or an unknown form.
    """
    check_same_shape(mean=mean, ref_mean=ref_mean)
    if form not in get_args(KlForm):
        raise ValueError(f"unknown form {form!r} of the KL: choose from {', '.join(get_args(KlForm))}")
    dtype = working_dtype(mean, ref_mean)
    mean, ref_mean = mean.to(dtype), ref_mean.to(dtype)
    std, dt = per_sample(std, mean, "std"), per_sample(dt, mean, "dt")
    noisy = std > 0
    weight = 0.5 if form == "exact" else dt.abs() / 2
    distance = (mean - ref_mean) / torch.where(noisy, std, 1)
    return mean_per_sample(torch.where(noisy, weight * distance.square(), 0))


def token_kl(log_prob: Tensor, ref_log_prob: Tensor, estimator: KlEstimator = "k3") -> Tensor:
    """Estimates of KL(policy, reference) from what the policy sampled, with d = log_prob - ref_log_prob.

        k1 = d                   unbiased, may be negative
        k2 = d^2 / 2             biased, never negative
        k3 = exp(-d) - 1 + d     unbiased, never negative; TRL's

    Args:
        log_prob: of each sampled token, any shape.
        ref_log_prob: the same under the reference.
        estimator: which of the three.

    Returns:
        One value per token, not yet averaged.

    Raises:
        ValueError: for shapes that differ or an unknown estimator.
    """
    check_same_shape(log_prob=log_prob, ref_log_prob=ref_log_prob)
    if estimator not in get_args(KlEstimator):
        raise ValueError(f"unknown estimator {estimator!r}: choose from {', '.join(get_args(KlEstimator))}")
    dtype = working_dtype(log_prob, ref_log_prob)
    difference = log_prob.to(dtype) - ref_log_prob.to(dtype)
    if estimator == "k1":
        return difference
    return difference.square() / 2 if estimator == "k2" else (-difference).expm1() + difference
