"""One step of a flow-matching sampler as a stochastic policy: draw it, or score what was drawn (paper, section 3).

A latent at noise level sigma is x = (1 - sigma) x0 + sigma e, and the model's velocity v estimates e - x0. So it also
estimates the noise, e^ = x + (1 - sigma) v, and the picture, x0^ = x - sigma v. Both kinds of step are Euler's plus
fresh noise z, for which they take away some of the noise that was there (dt = sigma' - sigma < 0):

    x' = x + v dt + shift e^ + std z

**sde** (Flow-GRPO). The reverse SDE that shares the ODE's marginals in continuous time, with the noise schedule
s = eta sqrt(sigma / (1 - sigma)), discretised by Euler-Maruyama:

    shift = s^2 dt / (2 sigma)        std = s sqrt(-dt)

usually written mean = x (1 + s^2 dt / (2 sigma)) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt, which is the same. Where
sigma is 1, sigma' stands for it in the denominator of s. A step of finite length leaves too much noise behind: its
variance becomes (sigma' - std^2 / (2 sigma))^2 + std^2 > sigma'^2, and the decoded picture is grainy.

**cps** (coefficients-preserving). What the marginal at sigma' asks for is (1 - sigma') x0 + sigma' e with unit noise e.
Build it from the estimates, with e replaced by a rotation of old and fresh noise, which stays of unit variance:

    x' = (1 - sigma') x0^ + sigma' (cos(a) e^ + sin(a) z),    a = eta pi / 2
       = x + v dt + sigma' (cos(a) - 1) e^ + sigma' sin(a) z

    shift = sigma' (cos(a) - 1)       std = sigma' sin(a)

Wherever the estimates are right, mean and variance are those of the marginal, for steps of any size. To first order
in std^2 its shift is -std^2 / (2 sigma'), the other's -std^2 / (2 sigma): the same sampler in the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from editr1.objectives._tensors import check_same_shape, mean_per_sample, per_sample, working_dtype

Kind = Literal["sde", "cps"]
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None


@dataclass(frozen=True, slots=True)
class SdeStep:
    """A step from sigma to sigma'. All are float32 (float64 if an input was): keep them so.

    Attributes:
        prev_sample: (B, ...) the latent at sigma', as drawn or as given; without a gradient.
        log_prob: (B,) log N(prev_sample; mean, std), its *mean* over the elements of a sample; 0 where std is 0.
        mean: (B, ...).
        std: (B,) standard deviation of the whole step, s sqrt(-dt); 0 where the step is deterministic.
    """

    prev_sample: Tensor
    log_prob: Tensor
    mean: Tensor
    std: Tensor


def sde_step(
    velocity: Tensor,
    sample: Tensor,
    sigma: float | Tensor,
    sigma_next: float | Tensor,
    *,
    noise_level: float,
    prev_sample: Tensor | None = None,
    generator: Generators = None,
    kind: Kind = "sde",
) -> SdeStep:
    """Draw the next latent, or score one that was drawn before: the arithmetic is the same, so replay is exact.

    A step to sigma' = 0, and every step at noise level 0, is Euler's: deterministic, `log_prob` 0 whatever
    `prev_sample` is. Its ratio is 1 and nothing can be learnt from it; leave it out of the window that is trained.

    Args:
        velocity: (B, ...) the model's output, guidance included, in any precision.
        sample: (B, ...) the latent at sigma.
        sigma: in (0, 1], one number or (B,).
        sigma_next: in [0, sigma), one number or (B,).
        noise_level: eta. 0 is the ODE; about 0.7 to 1 is usual; at most 1 for "cps".
        prev_sample: (B, ...) what to score, in the precision in which it was drawn; drawn here if None.
        generator: of the noise; or one for each sample, whose noise then does not depend on the batch it comes in.
        kind: "sde" or "cps", see above.

    Raises:
        ValueError: for shapes that differ, sigmas (looked at on the CPU only: looking would stall a GPU) or noise
            levels out of range, or an unknown kind.
    """
    check_same_shape(velocity=velocity, sample=sample, **({} if prev_sample is None else {"prev_sample": prev_sample}))
    if kind not in TRANSITIONS:
        raise ValueError(f"unknown kind of step {kind!r}: choose from {', '.join(TRANSITIONS)}")
    if not 0 <= noise_level <= (1 if kind == "cps" else math.inf):
        raise ValueError(f"noise_level is {noise_level}: give 0 or more, and for 'cps' at most 1")
    dtype = working_dtype(velocity, sample)
    velocity, sample = velocity.to(dtype), sample.to(dtype)
    sigma, sigma_next = per_sample(sigma, sample, "sigma"), per_sample(sigma_next, sample, "sigma_next")
    _check_sigmas(sigma, sigma_next)

    shift, std = TRANSITIONS[kind](sigma, sigma_next, noise_level)
    mean = sample + (sigma_next - sigma) * velocity + shift * (sample + (1 - sigma) * velocity)
    if prev_sample is not None:
        prev_sample = prev_sample.detach().to(dtype)
    elif noise_level == 0:
        prev_sample = mean.detach()
    else:
        prev_sample = mean.detach() + std * _noise(sample, generator)
    return SdeStep(prev_sample, _log_prob(prev_sample, mean, std), mean, std.flatten().expand(len(sample)))


def _sde(sigma: Tensor, sigma_next: Tensor, noise_level: float) -> tuple[Tensor, Tensor]:
    dt = sigma_next - sigma
    s_squared = noise_level**2 * sigma / (1 - torch.where(sigma == 1, sigma_next, sigma))
    s_squared = torch.where(sigma_next > 0, s_squared, 0)  # noise on the last step would stay in the picture
    return s_squared * dt / (2 * sigma), (s_squared * -dt).sqrt()


def _cps(sigma: Tensor, sigma_next: Tensor, noise_level: float) -> tuple[Tensor, Tensor]:
    angle = noise_level * math.pi / 2
    return sigma_next * (math.cos(angle) - 1), sigma_next * math.sin(angle)


TRANSITIONS: dict[str, Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]] = {"sde": _sde, "cps": _cps}
"""From sigma, sigma' and eta to the shift along the estimated noise and the deviation of the fresh one."""


def _log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    noisy = std > 0
    safe = torch.where(noisy, std, 1)
    density = -((value - mean) / safe).square() / 2 - safe.log() - math.log(2 * math.pi) / 2
    return mean_per_sample(torch.where(noisy, density, 0))


def _noise(like: Tensor, generator: Generators) -> Tensor:
    if isinstance(generator, Sequence):
        if len(generator) != len(like):
            raise ValueError(f"{len(generator)} generators for {len(like)} samples: give one, or one for each sample")
        return torch.stack([_noise(sample, one) for sample, one in zip(like, generator, strict=True)])
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def _check_sigmas(sigma: Tensor, sigma_next: Tensor) -> None:
    if sigma.device.type == "cpu" and not bool(((sigma_next >= 0) & (sigma_next < sigma) & (sigma <= 1)).all()):
        raise ValueError(
            f"sigma is {sigma.flatten().tolist()} and sigma_next {sigma_next.flatten().tolist()}: "
            "sigmas lie in [0, 1] and fall with every step"
        )
