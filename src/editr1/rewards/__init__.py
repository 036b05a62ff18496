"""Rewards: what editor training sees of a judge. Names are looked up when first used; none of them loads torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from editr1.errors import RewardError
from editr1.rewards.base import EditSample, Reward, RewardResult, values

if TYPE_CHECKING:
    from editr1.rewards.background import BackgroundScorer, Pending, score_with_retries
    from editr1.rewards.combine import Part, Watched, WeightedSum
    from editr1.rewards.config import RewardConfig, build_reward
    from editr1.rewards.guard import FailureGuard
    from editr1.rewards.http import HttpReward
    from editr1.rewards.oracle import OracleReward
    from editr1.rewards.pixels import PixelPreservation
    from editr1.rewards.verifier import VerifierReward

__all__ = [
    "BackgroundScorer",
    "EditSample",
    "FailureGuard",
    "HttpReward",
    "OracleReward",
    "Part",
    "Pending",
    "PixelPreservation",
    "Reward",
    "RewardConfig",
    "RewardError",
    "RewardResult",
    "VerifierReward",
    "Watched",
    "WeightedSum",
    "build_reward",
    "score_with_retries",
    "values",
]

_LAZY = {
    "BackgroundScorer": "background",
    "FailureGuard": "guard",
    "HttpReward": "http",
    "OracleReward": "oracle",
    "Part": "combine",
    "Pending": "background",
    "PixelPreservation": "pixels",
    "RewardConfig": "config",
    "VerifierReward": "verifier",
    "Watched": "combine",
    "WeightedSum": "combine",
    "build_reward": "config",
    "score_with_retries": "background",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'editr1.rewards' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
