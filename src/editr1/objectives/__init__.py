"""The pure maths of stages 2 and 3: tensors in, tensors or (loss, metrics) out.

Nothing here knows settings, logs, devices or files; `docs/method.md` says which equation is which function. Everything
computes in float32 whatever comes in, and in float64 if float64 does. Metrics are detached tensors, so that no function
makes a GPU wait.
"""

from editr1.objectives.advantages import flat_groups, group_advantages
from editr1.objectives.flow_sde import SdeStep, sde_step
from editr1.objectives.gcpo import gcpo_advantages, gcpo_loss, gcpo_metrics, weighted_advantage, win_loss_ratios
from editr1.objectives.guard import guarded_log_ratio, step_weight
from editr1.objectives.kl import gaussian_kl, token_kl
from editr1.objectives.nft import nft_loss, noised, optimality
from editr1.objectives.policy_gradient import clipped_surrogate
from editr1.objectives.windows import WINDOWS, all_steps, fixed_window, random_window, sliding_window

__all__ = [
    "WINDOWS",
    "SdeStep",
    "all_steps",
    "clipped_surrogate",
    "fixed_window",
    "flat_groups",
    "gaussian_kl",
    "gcpo_advantages",
    "gcpo_loss",
    "gcpo_metrics",
    "group_advantages",
    "guarded_log_ratio",
    "nft_loss",
    "noised",
    "optimality",
    "random_window",
    "sde_step",
    "sliding_window",
    "step_weight",
    "token_kl",
    "weighted_advantage",
    "win_loss_ratios",
]
