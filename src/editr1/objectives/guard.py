"""Ratios that clip alike at every step of the sampler, after GRPO-Guard (arXiv 2510.22319, equation 8).

With x' = mu_old + std z, a step's log-ratio is (mean over elements, D = mu - mu_old)

    log rho = mean(z D) / std - mean(D^2) / (2 std^2)

Its second term lies below 0 for any change of the policy, and both scale with the step's noise: a clip range that is
right for one step is never reached in another, and good samples are clipped later than bad ones. GRPO-Guard takes the
bias away and the scale out:

    log rho~ = std (log rho + mean(D^2) / (2 std^2)) = mean(z D)
"""

from __future__ import annotations

import torch
from torch import Tensor

from editr1.objectives._tensors import check_same_shape, mean_per_sample, per_sample, working_dtype


def guarded_log_ratio(prev_sample: Tensor, mean: Tensor, old_mean: Tensor, std: float | Tensor) -> Tensor:
    """The normalised log-ratio, in place of the difference of log-probs in `clipped_surrogate`.

    Computed as mean(z D), without the two subtractions of nearly equal numbers that the definition has: clip ranges
    of this method are about 1e-6, close to what float32 resolves next to 1.

    Args:
        prev_sample: (B, ...) the latent that was drawn.
        mean: (B, ...) under the policy that is trained; the gradient goes through it.
        old_mean: (B, ...) under the policy that drew it, kept from the rollout.
        std: of the whole step as in `SdeStep`, one number or (B,).

    Returns:
        (B,); 0 where std is 0.

    Raises:
        ValueError: for shapes that differ.
    """
    check_same_shape(prev_sample=prev_sample, mean=mean, old_mean=old_mean)
    dtype = working_dtype(prev_sample, mean, old_mean)
    prev_sample, mean, old_mean = (t.to(dtype) for t in (prev_sample.detach(), mean, old_mean.detach()))
    std = per_sample(std, mean, "std")
    noisy = std > 0
    noise = (prev_sample - old_mean) / torch.where(noisy, std, 1)
    return mean_per_sample(torch.where(noisy, noise * (mean - old_mean), 0))


def step_weight(dt: float | Tensor) -> Tensor:
    """1 / |dt|: evens out the gradients of steps of different length, since mu depends on the velocity through v dt.

    The surrogate is linear in scale: multiply the advantages of a step's samples by this.

    Args:
        dt: sigma' - sigma of each sample's step, never 0.
    """
    return 1 / torch.as_tensor(dt).abs()
