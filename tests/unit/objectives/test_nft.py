import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.objectives import nft_loss, noised, optimality

NAN = math.nan


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fields(seed=0, shape=(3, 4, 2), dtype=torch.float64):
    return torch.randn(3, *shape, generator=seeded(seed), dtype=dtype).unbind(0)


def as_published(v, v_old, x0, noise, sigma, r, beta, weighting):
    """Each picture by itself, through predictions of x0 where they are weighted; numpy, float64."""
    losses = []
    for i in range(len(r)):
        x, target = (1 - sigma[i]) * x0[i] + sigma[i] * noise[i], noise[i] - x0[i]
        terms = []
        for velocity in (beta * v[i] + (1 - beta) * v_old[i], (1 + beta) * v_old[i] - beta * v[i]):
            if weighting == "none":
                terms.append(np.mean((velocity - target) ** 2))
            else:
                error = (x - sigma[i] * velocity) - x0[i]
                terms.append(np.mean(error**2) / max(np.mean(np.abs(error)), 1e-5))
        losses.append((r[i] * terms[0] + (1 - r[i]) * terms[1]) / beta)
    return np.mean(losses)


def test_by_hand():
    """v_old = 1, v = 2, target = 4, beta = 1/2: v+ = 1.5, v- = 0.5; errors 6.25 and 12.25.

    r = 0.8: (0.8 * 6.25 + 0.2 * 12.25) / 0.5 = 14.9.
    """
    v, old, target = (torch.full((1, 1), value) for value in (2.0, 1.0, 4.0))
    loss, metrics = nft_loss(v, old, target, torch.tensor([0.8]), beta=0.5)
    assert loss.item() == pytest.approx(14.9)
    found = {name: value.item() for name, value in metrics.items()}
    assert found == {"positive_loss": 6.25, "negative_loss": 12.25, "old_drift": 1, "unscored": 0}


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.5, 1.0, 2.0]), st.sampled_from(["none", "x0"]))
def test_equals_the_published_form(seed, beta, weighting):
    rng = np.random.default_rng(seed)
    v, v_old, x0, noise = rng.normal(size=(4, 3, 2, 5))
    sigma, r = rng.uniform(0.05, 1, 3), rng.random(3)
    expected = as_published(v, v_old, x0, noise, sigma, r, beta, weighting)
    _, target = noised(torch.from_numpy(x0), torch.from_numpy(noise), torch.from_numpy(sigma))
    loss, _ = nft_loss(
        torch.from_numpy(v),
        torch.from_numpy(v_old),
        target,
        torch.from_numpy(r),
        beta=beta,
        weighting=weighting,
        sigma=torch.from_numpy(sigma),
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_first_gradient_is_that_of_the_reward_and_free_of_beta(beta):
    """At v = v_old: 2 (2r - 1)(v_old - target) over B = 3 samples of 8 elements."""
    _, old, target = fields()
    v = old.clone().requires_grad_()
    r = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)
    nft_loss(v, old, target, r, beta=beta)[0].backward()
    expected = 2 * (2 * r - 1)[:, None, None] * (old - target) / 24
    torch.testing.assert_close(v.grad, expected)
    assert not v.grad[1].any()


def test_the_minimum_is_where_the_docstring_says():
    """v = v_old + (2r - 1)(target - v_old) / beta."""
    _, old, target = fields()
    r, beta = torch.tensor([0.9, 0.5, 0.3], dtype=torch.float64), 0.4
    v = (old + (2 * r - 1)[:, None, None] * (target - old) / beta).requires_grad_()
    loss, _ = nft_loss(v, old, target, r, beta=beta)
    loss.backward()
    assert v.grad.abs().max() < 1e-12
    assert nft_loss(v + 0.01, old, target, r, beta=beta)[0] > loss


def test_a_sure_reward_at_beta_one_is_flow_matching():
    v, old, target = fields()
    loss, _ = nft_loss(v, old, target, torch.ones(3))
    torch.testing.assert_close(loss, (v - target).square().mean())


def test_gradient_equals_finite_differences():
    v, old, target = fields(shape=(2, 2))
    r = torch.tensor([0.9, 0.2], dtype=torch.float64)
    v.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: nft_loss(u, old[:2], target[:2], r, beta=0.7)[0], (v,))


def test_adaptive_weights_are_constants():
    """sigma 0.5, one element, r = 1, error e of v: loss = 0.5 e^2 / |e|, its gradient 2 * 0.5 e / |e| = +-1."""
    v = torch.tensor([[3.0], [-1.0]], requires_grad=True)
    zero = torch.zeros(2, 1)
    loss, _ = nft_loss(v, zero, zero, torch.ones(2), weighting="x0", sigma=0.5)
    loss.backward()
    assert loss.item() == pytest.approx((1.5 + 0.5) / 2)
    assert v.grad.flatten().tolist() == pytest.approx([0.5, -0.5])


def test_adaptive_weight_of_a_perfect_prediction_is_finite():
    v = torch.zeros(1, 2, requires_grad=True)
    loss, _ = nft_loss(v, v.detach(), torch.zeros(1, 2), torch.ones(1), weighting="x0", sigma=0.5)
    loss.backward()
    assert loss == 0
    assert v.grad.isfinite().all()


def test_pictures_without_a_score_teach_nothing():
    v, old, target = fields()
    v.requires_grad_()
    loss, metrics = nft_loss(v, old, target, torch.tensor([1.0, NAN, 0.0]))
    loss.backward()
    assert not v.grad[1].any()
    assert v.grad[0].any()
    assert metrics["unscored"] == 1
    positive = (v - target).square().mean(dim=(1, 2))
    torch.testing.assert_close(metrics["positive_loss"], (positive[0] + positive[2]).detach() / 2)
    assert nft_loss(v, old, target, torch.full((3,), NAN))[0] == 0


def test_no_gradient_to_old_policy_and_target():
    v, old, target = (t.requires_grad_() for t in fields())
    nft_loss(v, old, target, torch.ones(3))[0].backward()
    assert (old.grad, target.grad) == (None, None)


def test_bf16_velocities_are_compared_in_float32():
    v, old, target = (t.bfloat16() for t in fields())
    loss, _ = nft_loss(v, old, target.float(), torch.rand(3, generator=seeded()))
    assert loss.dtype == torch.float32


def test_optimality_by_hand():
    """Clamp 2: -4 and -2 -> 0, -1 -> 0.25, 0 -> 0.5, 3 -> 1."""
    r = optimality(torch.tensor([-4.0, -2.0, -1.0, 0.0, 3.0, NAN]), clamp=2.0)
    assert r[:5].tolist() == [0, 0, 0.25, 0.5, 1]
    assert r[5].isnan()


def test_noised_by_hand():
    """x0 = 4, noise = 2, sigma 1/4: 3 + 0.5 and 2 - 4; x - sigma v gives x0 back."""
    x, target = noised(torch.full((1, 1), 4.0), torch.full((1, 1), 2.0), 0.25)
    assert (x.item(), target.item()) == (3.5, -2)
    assert (x - 0.25 * target).item() == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": torch.zeros(2)}, r"\(2,\): give one per sample, \(3,\)"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"weighting": "snr"}, "'snr': choose from none, x0"),
        ({"target": torch.zeros(1)}, r"target \(1,\)"),
    ],
)
def test_refuses(changes, message):
    v, old, target = fields()
    arguments = {"velocity": v, "old_velocity": old, "target": target, "reward": torch.zeros(3)} | changes
    with pytest.raises(ValueError, match=message):
        nft_loss(**arguments)


def test_optimality_refuses():
    with pytest.raises(ValueError, match="clamp is -1"):
        optimality(torch.zeros(1), clamp=-1)
