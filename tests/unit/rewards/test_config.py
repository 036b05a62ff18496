import pytest
from pydantic import ValidationError

from editr1 import Verifier
from editr1.errors import ConfigError
from editr1.judges import ScriptedJudge
from editr1.rewards import HttpReward, OracleReward, PixelPreservation, VerifierReward, Watched, WeightedSum
from editr1.rewards.config import RewardConfig, build_reward


def build(**configs):
    asked = []

    def make(score):
        asked.append(score.judge.model)
        return Verifier(ScriptedJudge(["x"]))

    return build_reward({n: RewardConfig.model_validate(c) for n, c in configs.items()}, make), asked


def test_one_reward_by_itself():
    reward, asked = build(main={"kind": "verifier", "scale": "score", "score": {"judge": {"model": "m"}}})
    assert isinstance(reward, VerifierReward)
    assert (reward.name, reward.scale, asked) == ("main", "score", ["m"])


def test_a_sum_with_watchers():
    reward, _ = build(
        a={"kind": "http", "url": "http://h:1", "timeout": 5.0},
        b={"kind": "pixels", "weight": 0.1, "required": False, "stickers": True},
        c={"kind": "oracle", "watch": True},
    )
    assert isinstance(reward, Watched)
    assert isinstance(reward.reward, WeightedSum)
    parts = reward.reward.parts
    assert [(n, p.weight, p.required) for n, p in parts.items()] == [("a", 1.0, True), ("b", 0.1, False)]
    assert isinstance(parts["a"].reward, HttpReward)
    assert parts["a"].reward.timeout == 5.0
    assert isinstance(parts["b"].reward, PixelPreservation)
    assert isinstance(reward.watchers["c"], OracleReward)


def test_a_single_reward_keeps_its_weight():
    reward, _ = build(a={"kind": "oracle", "weight": 2.0})
    assert isinstance(reward, WeightedSum)


def test_something_has_to_be_learnt_from():
    with pytest.raises(ConfigError, match="none is learnt from"):
        build(a={"kind": "oracle", "watch": True})


@pytest.mark.parametrize(
    "config", [{"kind": "http"}, {"kind": "oracl"}, {"kind": "oracle", "wight": 1.0}, {"kind": "pixels", "weight": 0.0}]
)
def test_bad_settings(config):
    with pytest.raises(ValidationError):
        RewardConfig.model_validate(config)
