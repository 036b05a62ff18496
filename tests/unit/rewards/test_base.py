import math
import subprocess
import sys

import pytest
from reward_fakes import FakeReward, failed

from editr1.rewards import Reward, RewardResult, values
from editr1.types import VerdictStatus


@pytest.mark.parametrize(
    ("status", "value"),
    [(VerdictStatus.OK, None), (VerdictStatus.ERROR, 0.0), (VerdictStatus.OK, math.nan), (VerdictStatus.OK, math.inf)],
)
def test_a_value_stands_for_success_and_is_a_number(status, value):
    with pytest.raises(ValueError, match="value|finite"):
        RewardResult(status, value)


def test_a_reward_that_is_no_number_is_a_failure():
    result = RewardResult.of(math.nan)
    assert (result.status, result.value, result.error) == (VerdictStatus.ERROR, None, "the reward came out as nan")


def test_failures_are_nan_among_the_values():
    found = values([RewardResult.of(0.0), failed(), RewardResult.of(0.25)])
    assert found[::2] == [0.0, 0.25]
    assert math.isnan(found[1])


def test_the_protocol_is_met():
    assert isinstance(FakeReward({}), Reward)


def test_no_torch_for_rewards_and_service():
    code = (
        "import sys, editr1.rewards as r\n"
        "r.HttpReward, r.VerifierReward, r.OracleReward, r.PixelPreservation, r.BackgroundScorer, r.WeightedSum\n"
        "import editr1.serving; editr1.serving.create_app, editr1.serving.run\n"
        "print({'torch', 'transformers', 'gradio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("set()\n", 0), done.stderr
