import math

import pytest
import torch

from editr1.objectives import gaussian_kl, sde_step, token_kl


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_by_hand():
    """Differences 1 and 3: mean square 5; std 0.5: 5 / 0.5 = 10; times |dt| = 0.1: 1."""
    mean, ref = torch.tensor([[1.0, 3.0]]), torch.zeros(1, 2)
    assert gaussian_kl(mean, ref, 0.5, -0.1).tolist() == pytest.approx([10])
    assert gaussian_kl(mean, ref, 0.5, -0.1, form="flow_grpo").tolist() == pytest.approx([1])


@pytest.mark.parametrize("form", ["exact", "flow_grpo"])
def test_zero_at_the_reference_and_nowhere_else(form):
    mean = torch.randn(4, 3, 2, generator=seeded())
    assert not gaussian_kl(mean, mean.clone(), 0.3, -0.1, form).any()
    assert (gaussian_kl(mean, mean + 0.1, 0.3, -0.1, form) > 0).all()


def test_forms_differ_by_dt():
    mean, ref = torch.randn(2, 3, 5, generator=seeded()).unbind(0)
    std, dt = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([-0.1, -0.25, -0.02])
    exact, peers = (gaussian_kl(mean, ref, std, dt, form) for form in ("exact", "flow_grpo"))
    torch.testing.assert_close(peers, exact * dt.abs())


def test_forms_are_those_of_the_method():
    """From s and dt themselves: mean((mu - mu_ref)^2) / (2 s^2 |dt|), and without |dt|."""
    v, v_ref, x = torch.randn(3, 2, 4, generator=seeded(), dtype=torch.float64).unbind(0)
    step, ref = (sde_step(u, x, 0.8, 0.6, noise_level=0.7) for u in (v, v_ref))
    s, dt = 0.7 * math.sqrt(0.8 / 0.2), -0.2
    distance = (step.mean - ref.mean).square().mean(dim=1)
    torch.testing.assert_close(gaussian_kl(step.mean, ref.mean, step.std, dt), distance / (2 * s**2 * 0.2))
    torch.testing.assert_close(gaussian_kl(step.mean, ref.mean, step.std, dt, "flow_grpo"), distance / (2 * s**2))


def test_exact_is_the_divergence_of_the_distributions():
    mean, ref = torch.randn(2, 3, 4, generator=seeded()).unbind(0)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, 0.7), normal(ref, 0.7)).mean(dim=1)
    torch.testing.assert_close(gaussian_kl(mean, ref, 0.7, -0.1), expected)


def test_exact_is_the_mean_log_ratio_of_samples():
    """E[log p - log p_ref] under p. One term has the deviation |mean - ref| / std = 0.2 (per element mean of one)."""
    x = torch.zeros(100_000, 1, dtype=torch.float64)
    policy = sde_step(x + 1, x, 0.7, 0.5, noise_level=0.7, generator=seeded())
    ref = sde_step(x + 0.5, x, 0.7, 0.5, noise_level=0.7, prev_sample=policy.prev_sample)
    kl = gaussian_kl(policy.mean, ref.mean, policy.std, -0.2)
    spread = ((policy.mean - ref.mean)[0] / policy.std[0]).abs().item()
    estimate = (policy.log_prob - ref.log_prob).mean().item()
    assert estimate == pytest.approx(kl[0].item(), abs=5 * spread / math.sqrt(100_000))


def test_deterministic_steps_have_none():
    mean = torch.tensor([[1.0], [1.0]], requires_grad=True)
    kl = gaussian_kl(mean, torch.zeros(2, 1), torch.tensor([0.0, 1.0]), -0.1)
    kl.sum().backward()
    assert kl.tolist() == [0, 0.5]
    assert mean.grad.tolist() == [[0], [1]]


def test_bf16_inputs_do_not_round_the_result():
    mean = torch.full((1, 4), 1.0078125, dtype=torch.bfloat16)
    kl = gaussian_kl(mean, torch.ones(1, 4, dtype=torch.bfloat16), 0.1, -0.1)
    assert kl.item() == pytest.approx(0.0078125**2 / 0.02, rel=1e-6)


def test_token_estimators_by_hand():
    """d = log 2: log 2, (log 2)^2 / 2, 1/2 - 1 + log 2."""
    log_prob, ref = torch.tensor([math.log(0.8)]), torch.tensor([math.log(0.4)])
    found = [token_kl(log_prob, ref, estimator).item() for estimator in ("k1", "k2", "k3")]
    assert found == pytest.approx([math.log(2), math.log(2) ** 2 / 2, math.log(2) - 0.5])


def test_token_estimators_in_expectation():
    """Summed over a vocabulary of 5 with the policy's probabilities, k1 and k3 are the KL itself; k2 is near it."""
    logits, ref_logits = torch.randn(2, 5, generator=seeded(), dtype=torch.float64).unbind(0)
    log_p, log_ref = logits.log_softmax(0), (logits + 0.1 * ref_logits).log_softmax(0)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=log_p), torch.distributions.Categorical(logits=log_ref)
    ).item()
    expected = {e: (log_p.exp() * token_kl(log_p, log_ref, e)).sum().item() for e in ("k1", "k2", "k3")}
    assert expected["k1"] == pytest.approx(kl, rel=1e-9)
    assert expected["k3"] == pytest.approx(kl, rel=1e-9)
    assert expected["k2"] == pytest.approx(kl, rel=0.1)
    assert expected["k2"] != pytest.approx(kl, rel=1e-6)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_token_kl_is_zero_at_the_reference(estimator):
    log_prob = -torch.rand(3, 7, generator=seeded())
    assert not token_kl(log_prob, log_prob.clone(), estimator).any()


def test_k3_keeps_small_values():
    """d = 2^-13 in float32: d^2 / 2 = 7.45e-9 would drown if 1 were taken from exp(-d), which is right to 6e-8."""
    ref = torch.tensor([-10.0])
    assert token_kl(ref + 2**-13, ref, "k3").item() == pytest.approx(2**-27, rel=1e-2)


def test_refuses():
    with pytest.raises(ValueError, match="'kl' of the KL: choose from exact, flow_grpo"):
        gaussian_kl(torch.zeros(1, 1), torch.zeros(1, 1), 1.0, 1.0, "kl")
    with pytest.raises(ValueError, match=r"mean \(1, 2\), ref_mean \(1, 1\)"):
        gaussian_kl(torch.zeros(1, 2), torch.zeros(1, 1), 1.0, 1.0)
    with pytest.raises(ValueError, match="'k4': choose from k1, k2, k3"):
        token_kl(torch.zeros(1), torch.zeros(1), "k4")
