import math

import pytest
import torch

from editr1.objectives import clipped_surrogate, guarded_log_ratio, sde_step, step_weight


def two_policies(change, sigma=0.7, sigma_next=0.45, samples=4, size=64, dtype=torch.float64):
    """A step drawn by one policy and scored by another whose velocity differs by `change` times a random field."""
    generator = torch.Generator().manual_seed(0)
    x, v, field = torch.randn(3, samples, size, generator=generator, dtype=dtype).unbind(0)
    old = sde_step(v, x, sigma, sigma_next, noise_level=0.7, generator=generator)
    new = sde_step(v + change * field, x, sigma, sigma_next, noise_level=0.7, prev_sample=old.prev_sample)
    return old, new


@pytest.mark.parametrize("sigmas", [(1.0, 0.8), (0.7, 0.45), (0.3, 0.2)])
def test_equals_the_published_equation(sigmas):
    """std (log rho + mean((mu - mu_old)^2) / (2 std^2))."""
    old, new = two_policies(0.1, *sigmas)
    bias = (new.mean - old.mean).square().mean(dim=1) / (2 * old.std**2)
    expected = old.std * (new.log_prob - old.log_prob + bias)
    torch.testing.assert_close(guarded_log_ratio(old.prev_sample, new.mean, old.mean, old.std), expected)


def test_by_hand():
    """x' = 3, mu_old = 1, std = 2: z = 1; mu = 1.5: log rho~ = 0.5."""
    one = torch.ones(1, 1)
    assert guarded_log_ratio(3 * one, 1.5 * one, one, 2.0).tolist() == [0.5]


def test_zero_at_the_sampling_policy():
    old, _ = two_policies(0.1)
    assert not guarded_log_ratio(old.prev_sample, old.mean, old.mean, old.std).any()


def test_takes_the_bias_out():
    """Over 20,000 samples of one element, of which each has D = -dt field: plain log-ratios average to less than 0

    (-mean(D^2) / (2 std^2)); guarded ones to 0, with the deviation mean|D| / sqrt(n).
    """
    old, new = two_policies(0.5, samples=20_000, size=1)
    plain = new.log_prob - old.log_prob
    guarded = guarded_log_ratio(old.prev_sample, new.mean, old.mean, old.std)
    error = 5 / math.sqrt(20_000)
    assert plain.mean() < -error * plain.std()
    assert guarded.mean().abs() < error * guarded.std()


def test_small_changes_survive_float32():
    """A change of the velocity by 1e-5, as with clip ranges of 1e-6: the direct form keeps it, log-probs lose it."""
    exact_old, exact_new = two_policies(1e-5)
    exact = guarded_log_ratio(exact_old.prev_sample, exact_new.mean, exact_old.mean, exact_old.std)
    x, old_mean, new_mean, std = (
        t.float() for t in (exact_old.prev_sample, exact_old.mean, exact_new.mean, exact_old.std)
    )
    found = guarded_log_ratio(x, new_mean, old_mean, std)
    assert (found - exact).abs().max() < 3e-8  # below a quarter of what float32 resolves next to 1


def test_gradient_reaches_the_new_mean_only():
    old, new = two_policies(0.1)
    mean, old_mean = new.mean.clone().requires_grad_(), old.mean.clone().requires_grad_()
    guarded_log_ratio(old.prev_sample, mean, old_mean, old.std).sum().backward()
    torch.testing.assert_close(mean.grad, (old.prev_sample - old.mean) / old.std[:, None] / 64)
    assert old_mean.grad is None


def test_deterministic_steps_have_none():
    one = torch.ones(2, 1)
    assert guarded_log_ratio(3 * one, 2 * one, one, torch.tensor([0.0, 2.0])).tolist() == [0, 1]


def test_step_weight_scales_the_surrogate():
    """Multiplying advantages by a positive number multiplies the loss, clipped or not."""
    log_ratio, advantages = torch.tensor([0.5, -0.5, 0.1]), torch.tensor([1.0, -1.0, 2.0])
    weight = step_weight(-0.25)
    assert weight == 4
    plain, weighted = (clipped_surrogate(log_ratio, a, 0.2)[0] for a in (advantages, weight * advantages))
    torch.testing.assert_close(weighted, 4 * plain)
    assert step_weight(torch.tensor([-0.5, 0.1])).tolist() == pytest.approx([2, 10])
