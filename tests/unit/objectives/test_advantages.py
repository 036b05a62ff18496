import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from editr1.objectives import flat_groups, group_advantages

NAN = math.nan


def by_loops(rewards, scale, clamp, eps=1e-4):
    """The definition once more, with plain floats."""
    every = [r for group in rewards for r in group if np.isfinite(r)]
    result = []
    for group in rewards:
        scores = [float(r) for r in group if np.isfinite(r)]
        row = []
        for r in group:
            if not np.isfinite(r) or len(set(scores)) < 2:
                row.append(0.0)
                continue
            deviation = float(r) - np.mean(scores)
            divisor = {"none": 1, "std": np.std(scores) + eps, "global_std": np.std(every) + eps}[scale]
            row.append(deviation / divisor if clamp is None else np.clip(deviation / divisor, -clamp, clamp))
        result.append(row)
    return np.array(result)


def groups(low=-10, high=10):
    scores = st.one_of(st.floats(low, high, width=32), st.sampled_from([0.0, 5.0, NAN, math.inf]))
    return hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=scores)


def test_by_hand():
    """Mean 3, deviations -2, 0, 2; population std sqrt(8/3) = 1.6330; -2 / 1.6331 = -1.2247."""
    rewards = torch.tensor([[1.0, 3.0, 5.0]])
    assert group_advantages(rewards).tolist() == [[-2, 0, 2]]
    assert group_advantages(rewards, "std")[0].tolist() == pytest.approx([-2 / 1.633093, 0, 2 / 1.633093])


def test_global_std_is_shared_but_means_are_not():
    """Scores 0, 2, 10, 12 have the mean 6 and the variance (36 + 16 + 16 + 36) / 4 = 26; deviations are all 1."""
    advantages = group_advantages(torch.tensor([[0.0, 2.0], [10.0, 12.0]]), "global_std")
    assert advantages.abs().flatten().tolist() == pytest.approx([1 / (math.sqrt(26) + 1e-4)] * 4)


def test_a_missing_score_takes_no_part():
    """NaN in the middle: the mean of 1 and 5 is 3, the std 2."""
    assert group_advantages(torch.tensor([[1.0, NAN, 5.0]])).tolist() == [[-2, 0, 2]]
    assert group_advantages(torch.tensor([[1.0, math.inf, 5.0]]), "std", eps=0.0).tolist() == [[-1, 0, 1]]


def test_groups_that_teach_nothing():
    rewards = torch.tensor([[0.1, 0.1, 0.1], [NAN, 4, NAN], [NAN, NAN, NAN], [1, 1, 2]])
    assert flat_groups(rewards).tolist() == [True, True, True, False]
    for scale in ("none", "std", "global_std"):
        assert not group_advantages(rewards, scale)[:3].any()


def test_rounding_makes_no_group_informative():
    """In float32 the mean of 24 times 0.1 is not 0.1; a divided residue would be noise of the size of 1e-4."""
    rewards = torch.full((1, 24), 0.1)
    assert (rewards - rewards.mean()).any()
    assert not group_advantages(rewards, "std").any()


def test_groups_of_one():
    assert not group_advantages(torch.tensor([[3.0], [4.0]]), "global_std").any()


def test_clamp_comes_last():
    """23 scores of 0 and one of 1: it lies sqrt(23) = 4.796 deviations above the mean, the others 0.2085 below."""
    rewards = torch.zeros(1, 24)
    rewards[0, 0] = 1
    assert group_advantages(rewards, "std", eps=0.0).max().item() == pytest.approx(math.sqrt(23))
    clamped = group_advantages(rewards, "std", clamp=3.0, eps=0.0)
    assert clamped.max() == 3
    assert clamped.min().item() == pytest.approx(-1 / math.sqrt(23))


@settings(deadline=None)
@given(groups(), st.sampled_from(["none", "std", "global_std"]), st.sampled_from([None, 0.5, 5.0]))
def test_equals_loops(rewards, scale, clamp):
    found = group_advantages(torch.from_numpy(rewards), scale, clamp)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), by_loops(rewards, scale, clamp), rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(groups(), st.sampled_from(["none", "std", "global_std"]))
def test_sums_to_zero(rewards, scale):
    """Up to rounding of the mean: relative to the advantages' size, which a std near 0 blows up."""
    advantages = group_advantages(torch.from_numpy(rewards), scale)
    assert advantages.isfinite().all()
    assert (advantages.sum(dim=1).abs() <= 1e-9 * advantages.abs().sum(dim=1).clamp(min=1)).all()


def test_sums_to_zero_in_float32():
    """24 rewards up to 10: the mean is right to about 1e-6, so the sum of deviations to 24 times that."""
    rewards = 10 * torch.rand(50, 24, generator=torch.Generator().manual_seed(0))
    assert group_advantages(rewards).sum(dim=1).abs().max() < 3e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64])
def test_computes_in_float32(dtype):
    assert group_advantages(torch.tensor([[1, 4]], dtype=dtype)).tolist() == [[-1.5, 1.5]]
    assert group_advantages(torch.tensor([[1, 4]], dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rewards": torch.zeros(3)}, r"\(3,\): give \(groups"),
        ({"rewards": torch.zeros(1, 3), "scale": "group"}, "'group': choose from none, std, global_std"),
        ({"rewards": torch.zeros(1, 3), "clamp": 0.0}, "clamp is 0.0"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        group_advantages(**arguments)
