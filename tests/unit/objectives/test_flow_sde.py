import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.objectives import clipped_surrogate, sde_step

KINDS = ["sde", "cps"]
SIGMAS = [1.0, 0.9, 0.7, 0.45, 0.2, 0.0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def latents(seed=0, shape=(3, 4, 2), dtype=torch.float32):
    return [torch.randn(shape, generator=seeded(seed + i)).to(dtype) for i in range(2)]


def closed_form(v, x, sigma, sigma_next, eta, kind):
    """Mean and std as method.md writes the SDE, and as a rotation of noise for CPS; numpy, float64."""
    if kind == "sde":
        dt = sigma_next - sigma
        s = eta * math.sqrt(sigma / (1 - (sigma_next if sigma == 1 else sigma)))
        mean = x * (1 + s**2 * dt / (2 * sigma)) + v * (1 + s**2 * (1 - sigma) / (2 * sigma)) * dt
        return mean, s * math.sqrt(-dt)
    x0, noise = x - sigma * v, x + (1 - sigma) * v
    std = sigma_next * math.sin(eta * math.pi / 2)
    return (1 - sigma_next) * x0 + math.sqrt(sigma_next**2 - std**2) * noise, std


def log_density(value, mean, std):
    return np.mean(-((value - mean) ** 2) / (2 * std**2) - np.log(std) - 0.5 * np.log(2 * np.pi), axis=(1, 2))


def test_sde_by_hand():
    """sigma 0.8 -> 0.6, eta 0.5: s^2 = 0.25 * 4 = 1, dt = -0.2, std = sqrt(0.2).

    mean = 2 (1 - 0.2 / 1.6) + 1 (1 + 0.2 / 1.6) (-0.2) = 1.75 - 0.225 = 1.525.
    """
    step = sde_step(torch.ones(1, 1), torch.full((1, 1), 2.0), 0.8, 0.6, noise_level=0.5, generator=seeded())
    assert step.mean.item() == pytest.approx(1.525)
    assert step.std.tolist() == pytest.approx([math.sqrt(0.2)])
    noise = torch.randn(1, 1, generator=seeded()).item()
    assert step.prev_sample.item() == pytest.approx(1.525 + math.sqrt(0.2) * noise)
    assert step.log_prob.item() == pytest.approx(-(noise**2) / 2 - math.log(0.2) / 2 - math.log(2 * math.pi) / 2)


def test_first_step_by_hand():
    """sigma 1 -> 0.8: the next sigma stands in the denominator, s^2 = 1 / 0.2 = 5; std = 1, mean = x / 2 - v / 5."""
    step = sde_step(torch.ones(1, 1), torch.full((1, 1), 2.0), 1.0, 0.8, noise_level=1.0)
    assert step.mean.item() == pytest.approx(2 * (1 - 5 * 0.2 / 2) - 0.2)
    assert step.std.item() == pytest.approx(1)


def test_cps_by_hand():
    """sigma 0.8 -> 0.6, eta 1/3 (30 degrees): x0^ = 2 - 0.8 = 1.2, e^ = 2 + 0.2 = 2.2; std = 0.6 / 2.

    mean = 0.4 * 1.2 + 0.6 cos(30 degrees) 2.2 = 0.48 + 1.32 * 0.8660 = 1.6232.
    """
    step = sde_step(torch.ones(1, 1), torch.full((1, 1), 2.0), 0.8, 0.6, noise_level=1 / 3, kind="cps")
    assert step.mean.item() == pytest.approx(0.48 + 1.32 * math.sqrt(0.75))
    assert step.std.item() == pytest.approx(0.3)


@settings(deadline=None)
@given(
    st.sampled_from(KINDS),
    st.floats(0.01, 1),
    st.floats(0.05, 0.99).flatmap(lambda low: st.tuples(st.just(low), st.floats(low + 0.005, 1))),
    st.integers(0, 100),
)
def test_equals_closed_form(kind, eta, sigmas, seed):
    sigma_next, sigma = sigmas
    v, x = latents(seed, dtype=torch.float64)
    step = sde_step(v, x, sigma, sigma_next, noise_level=eta, generator=seeded(seed), kind=kind)
    mean, std = closed_form(v.numpy(), x.numpy(), sigma, sigma_next, eta, kind)
    assert step.mean.dtype == torch.float64
    np.testing.assert_allclose(step.mean.numpy(), mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(step.std.numpy(), std, rtol=1e-9)
    # (x' - mean) / std divides a rounding error of 1e-16 by the std.
    expected = log_density(step.prev_sample.numpy(), mean, std)
    np.testing.assert_allclose(step.log_prob.numpy(), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_replay_scores_what_was_drawn_exactly(kind, dtype):
    """Along a whole trajectory with the model in low precision: the ratio at old = new is 1, to the last bit."""
    x = torch.randn(2, 3, 8, 8, generator=seeded(1))
    model = torch.nn.Conv2d(3, 3, 3, padding=1).to(dtype)
    for sigma, sigma_next in pairwise(SIGMAS):
        with torch.no_grad():
            drawn = sde_step(model(x.to(dtype)), x, sigma, sigma_next, noise_level=0.9, generator=seeded(2), kind=kind)
        replayed = sde_step(
            model(x.to(dtype)), x, sigma, sigma_next, noise_level=0.9, prev_sample=drawn.prev_sample, kind=kind
        )
        assert drawn.prev_sample.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.equal(replayed.log_prob, drawn.log_prob)
        assert torch.equal(replayed.prev_sample, drawn.prev_sample)
        assert replayed.log_prob.requires_grad
        x = drawn.prev_sample
    assert torch.equal(x, drawn.mean)  # the last step left no noise


def test_a_latent_stored_in_bf16_would_bias_the_ratio():
    """Why latents stay in float32: the same policy would seem to have moved, by more than usual clip ranges."""
    v, x = latents()
    drawn = sde_step(v, x, 0.7, 0.45, noise_level=0.9, generator=seeded())
    rounded = sde_step(v, x, 0.7, 0.45, noise_level=0.9, prev_sample=drawn.prev_sample.bfloat16())
    assert (rounded.log_prob - drawn.log_prob).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_noise_level_zero_is_euler(kind):
    v, x = latents()
    state = torch.get_rng_state()
    step = sde_step(v, x, 0.7, 0.45, noise_level=0, kind=kind)
    assert torch.equal(step.prev_sample, x + (torch.tensor(0.45) - torch.tensor(0.7)) * v)
    assert not step.log_prob.any()
    assert not step.std.any()
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_the_last_step_is_deterministic(kind, sigma):
    v, x = latents()
    v.requires_grad_()
    step = sde_step(v, x, sigma, 0.0, noise_level=0.9, kind=kind)
    torch.testing.assert_close(step.prev_sample, (x - sigma * v).detach())
    assert step.std.tolist() == [0, 0, 0]
    elsewhere = sde_step(v, x, sigma, 0.0, noise_level=0.9, prev_sample=x + 1, kind=kind)
    assert elsewhere.log_prob.tolist() == [0, 0, 0]
    elsewhere.log_prob.sum().backward()
    assert not v.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sigma_for_each_sample(kind):
    """The first step, one in the middle and the last in one batch, each as by itself."""
    v, x = latents()
    sigma, sigma_next = torch.tensor([1.0, 0.7, 0.2]), torch.tensor([0.9, 0.45, 0.0])
    generators = [seeded(i) for i in range(3)]
    together = sde_step(v, x, sigma, sigma_next, noise_level=0.8, generator=generators, kind=kind)
    assert together.std.shape == together.log_prob.shape == (3,)
    for i in range(3):
        one = slice(i, i + 1)
        alone = sde_step(
            v[one], x[one], float(sigma[i]), float(sigma_next[i]), noise_level=0.8, generator=[seeded(i)], kind=kind
        )
        for name in ("prev_sample", "log_prob", "mean", "std"):
            torch.testing.assert_close(getattr(together, name)[one], getattr(alone, name))


def variance_after(sigmas, eta, kind, samples=200_000):
    """All data at one point c: the exact velocity is (x - c) / sigma, and the marginal is N((1 - sigma) c, sigma^2)."""
    generator, c = seeded(0), 2.0
    x = torch.randn(samples, 1, generator=generator, dtype=torch.float64) * sigmas[0] + (1 - sigmas[0]) * c
    for sigma, sigma_next in pairwise(sigmas):
        x = sde_step((x - c) / sigma, x, sigma, sigma_next, noise_level=eta, generator=generator, kind=kind).prev_sample
    return x.mean().item(), x.var().item()


@pytest.mark.parametrize("eta", [0.3, 0.9, 1.0])
def test_cps_keeps_the_marginal(eta):
    """Over four steps. A variance estimated from n normal values is off by sqrt(2 / n) = 0.3 % (one deviation); the
    bound is 5 of them. A mean is off by sigma / sqrt(n)."""
    mean, variance = variance_after(SIGMAS[:5], eta, "cps")
    assert variance == pytest.approx(0.2**2, rel=5 * math.sqrt(2 / 200_000))
    assert mean == pytest.approx(0.8 * 2.0, abs=5 * 0.2 / math.sqrt(200_000))


def test_sde_leaves_too_much_noise():
    """One step 0.7 -> 0.45 at eta 0.9, by the formula: s^2 = 0.81 * 0.7 / 0.3 = 1.89, std^2 = 0.4725,

    the old noise's coefficient 0.45 - 0.4725 / 1.4 = 0.1125, the variance 0.1125^2 + 0.4725 = 0.485 > 0.2025.
    """
    _, variance = variance_after([0.7, 0.45], 0.9, "sde")
    assert variance == pytest.approx(0.1125**2 + 0.4725, rel=5 * math.sqrt(2 / 200_000))


def test_kinds_agree_in_the_limit():
    """At equal small std both remove about std^2 / (2 sigma) of the old noise: the difference vanishes with dt."""
    v, x = latents(dtype=torch.float64)
    gaps = []
    for dt in (1e-2, 1e-3):
        sde = sde_step(v, x, 0.5, 0.5 - dt, noise_level=0.5)
        angle = math.asin(sde.std[0].item() / (0.5 - dt))
        cps = sde_step(v, x, 0.5, 0.5 - dt, noise_level=2 * angle / math.pi, kind="cps")
        torch.testing.assert_close(cps.std, sde.std)
        gaps.append((cps.mean - sde.mean).abs().max().item())
    assert gaps[1] < gaps[0] / 50  # of second order in dt


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_a_training_step_equals_finite_differences(kind):
    """Loss of a clipped surrogate on one step of a small model, float64; derivatives along every parameter."""
    x = torch.randn(4, 3, generator=seeded(0), dtype=torch.float64)
    weight = torch.randn(3, 3, generator=seeded(1), dtype=torch.float64)
    advantages = torch.tensor([1.0, -0.5, 0.7, -1.2], dtype=torch.float64)

    def step(w, prev_sample=None):
        velocity = torch.tanh(x @ w)
        return sde_step(
            velocity, x, 0.8, 0.55, noise_level=0.7, prev_sample=prev_sample, generator=seeded(2), kind=kind
        )

    old = step(weight)
    shifted = (weight + 0.01).requires_grad_()  # off the sampling policy, but within the clip

    def loss(w):
        return clipped_surrogate(step(w, old.prev_sample).log_prob - old.log_prob, advantages, 0.5)[0]

    loss(shifted).backward()
    h = 1e-6
    for i in range(3):
        for j in range(3):
            nudge = torch.zeros_like(weight)
            nudge[i, j] = h
            with torch.no_grad():
                slope = (loss(shifted + nudge) - loss(shifted - nudge)) / (2 * h)
            assert shifted.grad[i, j].item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-9)


def test_a_gradient_step_makes_good_samples_likelier():
    v, x = latents()
    drawn = sde_step(v, x, 0.7, 0.45, noise_level=0.9, generator=seeded())
    parameter = v.clone().requires_grad_()
    replayed = sde_step(parameter, x, 0.7, 0.45, noise_level=0.9, prev_sample=drawn.prev_sample)
    advantages = torch.tensor([1.0, -1.0, 0.0])
    clipped_surrogate(replayed.log_prob - drawn.log_prob, advantages, 0.2)[0].backward()
    moved = sde_step(v - 0.1 * parameter.grad, x, 0.7, 0.45, noise_level=0.9, prev_sample=drawn.prev_sample)
    change = moved.log_prob - drawn.log_prob
    assert change[0] > 0 > change[1]
    assert change[2] == 0


def test_what_was_drawn_has_no_gradient():
    v, x = latents()
    assert not sde_step(v.requires_grad_(), x, 0.7, 0.45, noise_level=0.9).prev_sample.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": torch.zeros(3, 4)}, r"velocity \(3, 4, 2\), sample \(3, 4\)"),
        ({"prev_sample": torch.zeros(1, 4, 2)}, r"prev_sample \(1, 4, 2\)"),
        ({"kind": "dance"}, "'dance': choose from sde, cps"),
        ({"noise_level": -0.1}, "noise_level is -0.1"),
        ({"noise_level": 1.2, "kind": "cps"}, "at most 1"),
        ({"sigma": 700.0}, r"sigma is \[700.0\]"),
        ({"sigma_next": 0.7}, "fall with every step"),
        ({"sigma": torch.tensor([0.7, 0.6])}, r"sigma has shape \(2,\): give a number or one per sample, \(3,\)"),
        ({"generator": [seeded()]}, "1 generators for 3 samples"),
    ],
)
def test_refuses(changes, message):
    v, x = latents()
    arguments = {"velocity": v, "sample": x, "sigma": 0.7, "sigma_next": 0.45, "noise_level": 0.9} | changes
    with pytest.raises(ValueError, match=message):
        sde_step(**arguments)
