import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.objectives import clipped_surrogate

LOG2 = math.log(2)


def by_loops(log_ratio, advantages, mask, low, high, normalise):
    """Rollouts and tokens one by one, in float64."""
    means, every = [], []
    for logs, advantage, counts in zip(log_ratio, advantages, mask, strict=True):
        gains = []
        for log, count in zip(logs, counts, strict=True):
            if count:
                rho = math.exp(log)
                gains.append(min(rho * advantage, min(max(rho, 1 - low), 1 + high) * advantage))
        means.append(sum(gains) / max(len(gains), 1))
        every += gains
    return -(np.mean(means) if normalise == "grpo" else sum(every) / max(len(every), 1))


def test_by_hand_per_sample():
    """Ratios 2, 2, 1/2, 1/2; A 1, -1, 1, -1; clip 0.2: gains 1.2, -2, 0.5, -0.8; the mean is -1.1 / 4."""
    log_ratio = torch.tensor([LOG2, LOG2, -LOG2, -LOG2])
    loss, metrics = clipped_surrogate(log_ratio, torch.tensor([1.0, -1, 1, -1]), 0.2)
    assert loss.item() == pytest.approx(1.1 / 4)
    assert metrics["clip_fraction"] == 0.5  # the first and the last: the others are pulled back, unclipped
    assert metrics["ratio_mean"].item() == pytest.approx(1.25)
    assert metrics["approx_kl"].item() == pytest.approx(0.25)  # the logs cancel
    assert metrics["nonfinite"] == 0


def test_clip_higher_by_hand():
    """(0.2, 0.5): the ratio 2 with A = 1 gains 1.5, the ratio 1/2 with A = -1 loses 0.8."""
    loss, _ = clipped_surrogate(torch.tensor([LOG2, -LOG2]), torch.tensor([1.0, -1.0]), (0.2, 0.5))
    assert loss.item() == pytest.approx(-(1.5 - 0.8) / 2)


def test_clip_fraction_by_hand():
    """The ratio 2 is held back by A > 0 (two of three), the ratio 1/2 by A < 0; the masked one is not asked."""
    log_ratio = torch.tensor([LOG2, LOG2, LOG2, -LOG2, LOG2])
    advantages, mask = torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0]), torch.tensor([1, 1, 1, 1, 0])
    assert clipped_surrogate(log_ratio, advantages, 0.2, mask=mask)[1]["clip_fraction"] == 3 / 4


def test_normalisations_by_hand():
    """Rollout 1 has one token and A = 3, rollout 2 three and A = 1: (3 + 1) / 2 against (3 + 1 + 1 + 1) / 4."""
    log_ratio = torch.tensor([[0.0, math.nan, math.inf], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    advantages = torch.tensor([3.0, 1.0])
    assert clipped_surrogate(log_ratio, advantages, 0.2, mask=mask)[0] == -2
    assert clipped_surrogate(log_ratio, advantages, 0.2, mask=mask, normalise="token")[0] == -1.5


def test_a_rollout_without_tokens_adds_nothing_but_counts():
    log_ratio, advantages = torch.zeros(2, 2), torch.tensor([1.0, 1.0])
    mask = torch.tensor([[True, True], [False, False]])
    assert clipped_surrogate(log_ratio, advantages, 0.2, mask=mask)[0] == -0.5
    assert clipped_surrogate(log_ratio[:, 0], advantages, 0.2, mask=mask[:, 0])[0] == -0.5
    assert clipped_surrogate(log_ratio, advantages, 0.2, mask=mask & False, normalise="token")[0] == 0


def test_masked_values_reach_neither_loss_nor_gradient():
    log_ratio = torch.tensor([[0.1, math.nan], [-0.1, 1e4]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    loss, metrics = clipped_surrogate(log_ratio, torch.tensor([1.0, -1.0]), 0.2, mask=mask)
    loss.backward()
    assert loss.isfinite()
    assert metrics["nonfinite"] == 0
    assert log_ratio.grad.isfinite().all()
    assert log_ratio.grad[:, 1].tolist() == [0, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e4])
def test_what_is_not_finite_is_counted_and_spoils_the_loss(bad):
    loss, metrics = clipped_surrogate(torch.tensor([0.0, bad]), torch.tensor([1.0, -1.0]), 0.2)
    assert not loss.isfinite()
    assert metrics["nonfinite"] == 1
    assert (metrics["ratio_mean"], metrics["approx_kl"]) == (1, 0)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["grpo", "token"]),
    st.sampled_from([(0.2, 0.2), (0.1, 0.4), (1e-4, 1e-4)]),
)
def test_equals_loops(seed, normalise, clip):
    rng = np.random.default_rng(seed)
    rollouts, tokens = rng.integers(1, 6, 2)
    log_ratio, advantages = rng.normal(0, 0.3, (rollouts, tokens)), rng.normal(size=rollouts)
    mask = rng.random((rollouts, tokens)) < 0.7
    loss, _ = clipped_surrogate(
        torch.from_numpy(log_ratio),
        torch.from_numpy(advantages),
        clip,
        mask=torch.from_numpy(mask),
        normalise=normalise,
    )
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(by_loops(log_ratio, advantages, mask, *clip, normalise), rel=1e-9, abs=1e-12)


def test_equal_micro_batches_average_to_the_batch():
    generator = torch.Generator().manual_seed(0)
    log_ratio, advantages = torch.randn(8, 5, generator=generator) / 5, torch.randn(8, generator=generator)
    mask = torch.rand(8, 5, generator=generator) < 0.6
    mask[3] = False
    whole = clipped_surrogate(log_ratio, advantages, 0.2, mask=mask)[0]
    halves = [clipped_surrogate(log_ratio[s], advantages[s], 0.2, mask=mask[s])[0] for s in (slice(4), slice(4, 8))]
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_gradient_at_the_sampling_policy_is_the_advantage():
    """d/dlog of -mean(rho A) at rho = 1 is -A / B; where the clip holds, it is 0."""
    log_ratio = torch.tensor([0.0, 0.0, 0.5, -0.5], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([2.0, -3.0, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    clipped_surrogate(log_ratio, advantages, 0.2)[0].backward()
    assert log_ratio.grad.tolist() == pytest.approx([-0.5, 0.75, 0, 0])
    assert advantages.grad is None


def test_half_precision_is_left_behind():
    loss, _ = clipped_surrogate(torch.tensor([1e-3], dtype=torch.bfloat16), torch.tensor([1.0]), 0.2)
    assert loss.dtype == torch.float32
    assert loss != -1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), torch.zeros(2), 0.2), r"\(3,\) and advantages \(2,\)"),
        ((torch.zeros(2, 3), torch.zeros(3), 0.2), "one further dimension"),
        ((torch.zeros(0), torch.zeros(0), 0.2), "nothing to learn from"),
        ((torch.zeros(2), torch.zeros(2), -0.1), r"clip is \(-0.1, -0.1\)"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        clipped_surrogate(*arguments)


def test_refuses_masks_and_names():
    with pytest.raises(ValueError, match=r"the mask has shape \(2,\)"):
        clipped_surrogate(torch.zeros(2, 3), torch.zeros(2), 0.2, mask=torch.ones(2))
    with pytest.raises(ValueError, match="'dapo': choose from grpo, token"):
        clipped_surrogate(torch.zeros(2), torch.zeros(2), 0.2, normalise="dapo")


class _OneProcess:
    num_processes = 1

    @staticmethod
    def gather(tensor):
        return tensor

    @staticmethod
    def reduce(tensor, reduction):
        return tensor


class _BareTrainer(SimpleNamespace):
    """Every switch that the test does not set is off, those of other TRL versions too."""

    def __getattr__(self, name):
        return False


@pytest.mark.slow  # imports TRL
@pytest.mark.parametrize(("loss_type", "normalise"), [("grpo", "grpo"), ("bnpo", "token")])
def test_equals_trl(loss_type, normalise):
    """TRL's own loss, called without a trainer."""
    trainer_class = pytest.importorskip("trl").GRPOTrainer
    generator = torch.Generator().manual_seed(3)
    old, new = (torch.randn(6, 7, generator=generator) / 4 for _ in range(2))
    advantages = torch.randn(6, generator=generator)
    mask = (torch.arange(7) < torch.tensor([1, 7, 3, 5, 2, 6])[:, None]).long()
    trainer = _BareTrainer(
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, torch.zeros_like(new), None),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        loss_type=loss_type,
        epsilon_low=0.1,
        epsilon_high=0.3,
        args=SimpleNamespace(delta=None),
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        accelerator=_OneProcess(),
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    ids = torch.zeros(6, 7, dtype=torch.long)
    inputs = {
        "prompt_ids": ids,
        "prompt_mask": mask,
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
    }
    theirs = trainer_class._compute_loss(trainer, None, inputs)
    ours, _ = clipped_surrogate(new - old, advantages, (0.1, 0.3), mask=mask, normalise=normalise)
    torch.testing.assert_close(ours, theirs)
