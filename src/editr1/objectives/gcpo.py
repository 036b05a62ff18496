"""GCPO: reinforcement of a pointwise verifier on pairwise human preferences (paper, section 3).

Letters: P pairs, N rollouts for each half of a pair, T tokens of a rollout; `w` is the preferred image, `l` the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from editr1.objectives._tensors import check_same_shape, working_dtype
from editr1.objectives.advantages import flat_groups, group_advantages
from editr1.objectives.policy_gradient import Clip, Metrics, clipped_surrogate


def win_loss_ratios(tau_w: Tensor, tau_l: Tensor) -> tuple[Tensor, Tensor]:
    """The reward of each rollout: the share of the other half's rollouts that it stands in the right relation to.

        r_w[j] = #{k : tau_w[j] > tau_l[k]} / N        r_l[j] = #{k : tau_l[j] < tau_w[k]} / N

    Ties give nothing. A preferred rollout earns by scoring above the others, a non-preferred one by scoring below
    the preferred. (The paper's prose about the loss ratio says the reverse of its formula; the formula is followed.)

    A score that is NaN or infinite is none: its rollout wins nothing, and nothing is won against it. The denominator
    stays N, as in the paper: few readable opponents make for small rewards, not for loud ones.

    Args:
        tau_w: (P, N) scores of the rollouts on the preferred images.
        tau_l: (P, N) scores of the rollouts on the others.

    Returns:
        `r_w` and `r_l`, each (P, N), in [0, 1]. Their means over a pair are equal: both count the same wins.

    Raises:
        ValueError: if the two differ in shape, or have no rollouts.
    """
    wins = _wins(tau_w, tau_l)
    return wins.mean(dim=2), wins.mean(dim=1)


def gcpo_advantages(tau_w: Tensor, tau_l: Tensor) -> tuple[Tensor, Tensor]:
    """A_w = r_w - mean(r_w) and A_l = r_l - mean(r_l): each half by itself, not divided by a deviation.

    A rollout without a score has the ratio 0, so its advantage is not positive: it learns to write one.

    Args:
        tau_w: (P, N), as in `win_loss_ratios`.
        tau_l: (P, N).

    Returns:
        Two tensors (P, N) that sum to 0 over each half of a pair.
    """
    r_w, r_l = win_loss_ratios(tau_w, tau_l)
    return group_advantages(r_w), group_advantages(r_l)


def gcpo_loss(
    log_ratio_w: Tensor,
    log_ratio_l: Tensor,
    advantages_w: Tensor,
    advantages_l: Tensor,
    mask_w: Tensor,
    mask_l: Tensor,
    clip: Clip = 0.2,
) -> tuple[Tensor, Metrics]:
    """The paper's objective, negated, as a mean over pairs.

        1/(2N) sum_j 1/T_j sum_t [ min(rho_w A_w, clip(rho_w) A_w) + min(rho_l A_l, clip(rho_l) A_l) ]

    T_j is each rollout's own number of tokens. All 2N rollouts of all pairs weigh the same, so this equals
    `clipped_surrogate` with normalise "grpo" on the rollouts in any order, which is what TRL's GRPO computes.

    Args:
        log_ratio_w: (P, N, T) log-likelihood of each token less that under the policy that sampled it.
        log_ratio_l: (P, N, T'), padded to a length of its own.
        advantages_w: (P, N).
        advantages_l: (P, N).
        mask_w: (P, N, T), true where a token belongs to the rollout.
        mask_l: (P, N, T').
        clip: how far the ratio may leave 1, or (down, up).

    Returns:
        The loss, and metrics as in `clipped_surrogate`, averaged over the halves (`nonfinite` is summed).
    """
    check_same_shape(advantages_w=advantages_w, advantages_l=advantages_l)
    loss_w, metrics_w = clipped_surrogate(log_ratio_w, advantages_w, clip, mask=mask_w)
    loss_l, metrics_l = clipped_surrogate(log_ratio_l, advantages_l, clip, mask=mask_l)
    metrics = {name: (metrics_w[name] + metrics_l[name]) / 2 for name in metrics_w}
    metrics["nonfinite"] = metrics_w["nonfinite"] + metrics_l["nonfinite"]
    return (loss_w + loss_l) / 2, metrics


def gcpo_metrics(tau_w: Tensor, tau_l: Tensor) -> Metrics:
    """What to watch of a batch's scores, all as shares.

    Args:
        tau_w: (P, N), as in `win_loss_ratios`.
        tau_l: (P, N).

    Returns:
        win_ratio: comparisons that the preferred rollout wins; the mean of both ratios.
        tie_ratio: comparisons of two equal scores.
        unscored: rollouts without a score.
        flat: halves of pairs whose advantages are all 0.
    """
    r_w, r_l = win_loss_ratios(tau_w, tau_l)
    both = torch.cat([tau_w, tau_l])
    ties = (tau_w[:, :, None] == tau_l[:, None, :]) & tau_w.isfinite()[:, :, None]
    return {
        "win_ratio": r_w.mean(),
        "tie_ratio": ties.to(r_w.dtype).mean(),
        "unscored": (~both.isfinite()).to(r_w.dtype).mean(),
        "flat": flat_groups(torch.cat([r_w, r_l])).to(r_w.dtype).mean(),
    }


def weighted_advantage(advantages: Tensor, lengths: Tensor) -> Tensor:
    """(1/G) sum_i A_i / L_i, the paper's figure 3c: below 0 where right judgements have the longer reasoning.

    Args:
        advantages: (..., G).
        lengths: (..., G) tokens of reasoning; a rollout of length 0 adds nothing.

    Returns:
        (...).
    """
    check_same_shape(advantages=advantages, lengths=lengths)
    return torch.where(lengths > 0, advantages / lengths.clamp(min=1), 0).mean(dim=-1)


def _wins(tau_w: Tensor, tau_l: Tensor) -> Tensor:
    """(P, N, N): 1 where preferred rollout j scores above rollout k of the other image; never for a missing score."""
    check_same_shape(tau_w=tau_w, tau_l=tau_l)
    if tau_w.ndim != 2 or tau_w.shape[1] == 0:
        raise ValueError(f"scores have shape {tuple(tau_w.shape)}: give (pairs, rollouts)")
    both_scored = tau_w.isfinite()[:, :, None] & tau_l.isfinite()[:, None, :]
    return ((tau_w[:, :, None] > tau_l[:, None, :]) & both_scored).to(working_dtype(tau_w, tau_l))
