import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from editr1.objectives import (
    clipped_surrogate,
    gcpo_advantages,
    gcpo_loss,
    gcpo_metrics,
    weighted_advantage,
    win_loss_ratios,
)

NAN = math.nan
SCORES = st.one_of(st.integers(0, 10).map(float), st.floats(0, 10, width=32), st.just(NAN))


@st.composite
def pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5))
    return tuple(draw(hnp.arrays(np.float64, shape, elements=SCORES)) for _ in range(2))


def by_loops(tau_w, tau_l):
    """Counting, as the formula is written; NaN compares false with everything."""
    pairs, rollouts = tau_w.shape
    r_w, r_l = np.zeros_like(tau_w), np.zeros_like(tau_l)
    for p in range(pairs):
        for j in range(rollouts):
            r_w[p, j] = sum(bool(tau_w[p, j] > other) for other in tau_l[p]) / rollouts
            r_l[p, j] = sum(bool(tau_l[p, j] < other) for other in tau_w[p]) / rollouts
    return r_w, r_l


def test_by_hand():
    """8 beats 5, 6 and 7; 6 beats 5 only (6 ties); 5 beats nothing. 5 lies below 8 and 6, 6 and 7 below 8 alone."""
    r_w, r_l = win_loss_ratios(torch.tensor([[8.0, 6.0, 5.0]]), torch.tensor([[5.0, 6.0, 7.0]]))
    assert r_w[0].tolist() == pytest.approx([1, 1 / 3, 0])
    assert r_l[0].tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3])


def test_advantages_by_hand():
    """The ratios above have the mean 4/9 in both halves."""
    a_w, a_l = gcpo_advantages(torch.tensor([[8.0, 6.0, 5.0]]), torch.tensor([[5.0, 6.0, 7.0]]))
    assert a_w[0].tolist() == pytest.approx([5 / 9, -1 / 9, -4 / 9])
    assert a_l[0].tolist() == pytest.approx([2 / 9, -1 / 9, -1 / 9])


def test_ties_give_nothing():
    r_w, r_l = win_loss_ratios(torch.full((1, 4), 5.0), torch.full((1, 4), 5.0))
    assert not r_w.any()
    assert not r_l.any()


def test_a_missing_score_wins_nothing_and_is_no_opponent():
    """w = (9, none), l = (none, 4): 9 beats 4, one of N = 2, and nothing else counts."""
    tau_w, tau_l = torch.tensor([[9.0, NAN]]), torch.tensor([[NAN, 4.0]])
    r_w, r_l = win_loss_ratios(tau_w, tau_l)
    assert (r_w.tolist(), r_l.tolist()) == ([[0.5, 0]], [[0, 0.5]])
    a_w, a_l = gcpo_advantages(tau_w, tau_l)
    assert (a_w.tolist(), a_l.tolist()) == ([[0.25, -0.25]], [[-0.25, 0.25]])


def test_infinite_scores_are_none():
    """Otherwise a score that overflowed would beat everything."""
    r_w, r_l = win_loss_ratios(torch.tensor([[math.inf, 2.0]]), torch.tensor([[-math.inf, 1.0]]))
    assert (r_w.tolist(), r_l.tolist()) == ([[0, 0.5]], [[0, 0.5]])


@settings(deadline=None)
@given(pairs())
def test_equals_counting(scores):
    tau_w, tau_l = scores
    expected_w, expected_l = by_loops(tau_w, tau_l)
    r_w, r_l = win_loss_ratios(torch.from_numpy(tau_w), torch.from_numpy(tau_l))
    assert r_w.dtype == torch.float64
    np.testing.assert_allclose(r_w.numpy(), expected_w, atol=1e-15)
    np.testing.assert_allclose(r_l.numpy(), expected_l, atol=1e-15)
    a_w, a_l = gcpo_advantages(torch.from_numpy(tau_w), torch.from_numpy(tau_l))
    np.testing.assert_allclose(a_w.numpy(), expected_w - expected_w.mean(axis=1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(a_l.numpy(), expected_l - expected_l.mean(axis=1, keepdims=True), atol=1e-12)


@settings(deadline=None)
@given(pairs())
def test_both_halves_count_the_same_wins(scores):
    r_w, r_l = win_loss_ratios(*map(torch.from_numpy, scores))
    torch.testing.assert_close(r_w.mean(dim=1), r_l.mean(dim=1))


@settings(deadline=None)
@given(pairs())
def test_turning_the_scale_over_swaps_the_halves(scores):
    """If l were preferred and low scores good, l's rewards would be the same: the two formulas mirror each other."""
    tau_w, tau_l = map(torch.from_numpy, scores)
    r_w, r_l = win_loss_ratios(tau_w, tau_l)
    mirrored_w, mirrored_l = win_loss_ratios(-tau_l, -tau_w)
    torch.testing.assert_close(mirrored_w, r_l)
    torch.testing.assert_close(mirrored_l, r_w)


def test_metrics_by_hand():
    """Pair 1: 8 > 5, 6 = 6 and 6 > 5 of 4 (8 > 6 too): 3 wins, 1 tie. Pair 2: one score missing, the rest tie twice."""
    tau_w = torch.tensor([[8.0, 6.0], [3.0, NAN]])
    tau_l = torch.tensor([[5.0, 6.0], [3.0, 3.0]])
    metrics = {name: value.item() for name, value in gcpo_metrics(tau_w, tau_l).items()}
    assert metrics == {"win_ratio": 3 / 8, "tie_ratio": 3 / 8, "unscored": 1 / 8, "flat": 2 / 4}


def test_weighted_advantage_by_hand():
    """(1/100 - 1/50 + 0/10) / 3 = -1/300: the better rollout reasons longer. Length 0 adds nothing."""
    advantages = torch.tensor([[1.0, -1.0, 0.0], [2.0, -1.0, -1.0]])
    lengths = torch.tensor([[100, 50, 10], [0, 10, 10]])
    assert weighted_advantage(advantages, lengths).tolist() == pytest.approx([-1 / 300, -0.2 / 3])


def paper_objective(log_w, log_l, a_w, a_l, mask_w, mask_l, e):
    """The formula, in loops over one pair."""
    total, rollouts = 0.0, len(a_w)
    for log, advantages, mask in ((log_w, a_w, mask_w), (log_l, a_l, mask_l)):
        for j in range(rollouts):
            tokens = [t for t in range(log.shape[1]) if mask[j, t]]
            gains = []
            for t in tokens:
                rho = np.exp(log[j, t])
                gains.append(min(rho * advantages[j], np.clip(rho, 1 - e, 1 + e) * advantages[j]))
            total += sum(gains) / len(tokens)
    return total / (2 * rollouts)


def loss_inputs(seed, pairs=3, rollouts=4, tokens_w=6, tokens_l=9):
    rng = np.random.default_rng(seed)
    arrays = []
    for tokens in (tokens_w, tokens_l):
        lengths = rng.integers(1, tokens + 1, (pairs, rollouts, 1))
        mask = np.arange(tokens) < lengths
        log_ratio = np.where(mask, rng.normal(0, 0.3, (pairs, rollouts, tokens)), np.nan)  # padding may be anything
        arrays.append((log_ratio, rng.normal(size=(pairs, rollouts)), mask))
    (log_w, a_w, mask_w), (log_l, a_l, mask_l) = arrays
    return log_w, log_l, a_w, a_l, mask_w, mask_l


@pytest.mark.parametrize("seed", range(5))
def test_loss_equals_the_formula(seed):
    inputs = loss_inputs(seed)
    expected = -np.mean([paper_objective(*(x[p] for x in inputs), 0.2) for p in range(3)])
    loss, metrics = gcpo_loss(*map(torch.from_numpy, inputs), clip=0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert 0 < metrics["clip_fraction"] < 1
    assert metrics["nonfinite"] == 0


def test_loss_is_grpo_on_all_rollouts_in_any_order():
    """What a trainer sees: 24 rollouts padded to one length and shuffled."""
    log_w, log_l, a_w, a_l, mask_w, mask_l = map(torch.from_numpy, loss_inputs(7))
    padded = torch.nn.functional.pad
    log_ratio = torch.cat([padded(log_w, (0, 3)), log_l]).flatten(0, 1)
    mask = torch.cat([padded(mask_w, (0, 3)), mask_l]).flatten(0, 1)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    advantages = torch.cat([a_w, a_l]).flatten()
    flat, _ = clipped_surrogate(log_ratio[order], advantages[order], 0.2, mask=mask[order])
    paired, _ = gcpo_loss(log_w, log_l, a_w, a_l, mask_w, mask_l, clip=0.2)
    torch.testing.assert_close(flat, paired)


def test_gradient_raises_the_winner_and_lowers_the_loser():
    log_ratio = torch.zeros(1, 2, 3, requires_grad=True)
    a_w, a_l = gcpo_advantages(torch.tensor([[9.0, 1.0]]), torch.tensor([[5.0, 5.0]]))
    mask = torch.ones(1, 2, 3, dtype=torch.bool)
    loss, _ = gcpo_loss(log_ratio, torch.zeros(1, 2, 3), a_w, a_l, mask, mask)
    loss.backward()
    # A = +-1/2; each of 3 tokens of 2N = 4 rollouts: 1/2 / 12.
    assert log_ratio.grad[0].tolist() == [pytest.approx([-1 / 24] * 3), pytest.approx([1 / 24] * 3)]


def test_refuses():
    with pytest.raises(ValueError, match=r"tau_w \(1, 2\), tau_l \(1, 3\)"):
        win_loss_ratios(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"give \(pairs, rollouts\)"):
        win_loss_ratios(torch.zeros(2), torch.zeros(2))
