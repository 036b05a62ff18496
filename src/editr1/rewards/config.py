"""From settings to a reward: the `[rewards.NAME]` tables of a recipe.

[rewards.verifier]              # learnt from
kind = "verifier"
score.judge.model = "path/to/verifier"

[rewards.pixels]
kind = "pixels"
weight = 0.1
required = false

[rewards.second]                # only looked at
kind = "http"
url = "http://127.0.0.1:8700"
watch = true
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from editr1.config import Recipe, ScoreConfig
from editr1.errors import ConfigError
from editr1.rewards.base import Reward
from editr1.rewards.combine import Part, Watched, WeightedSum

if TYPE_CHECKING:
    from editr1.verifier import Verifier

MakeVerifier = Callable[[ScoreConfig], "Verifier"]


class RewardConfig(Recipe):
    """One reward.

    Attributes:
        kind: "verifier" (in this process), "http" (a scoring service), "oracle" (stickers) or "pixels".
        weight: of its value in the sum.
        required: whether a sample fails when this reward does.
        watch: only look at it; it then has neither weight nor say.
        scale: of a verifier's or oracle's value: "unit" for [0, 1], "score" for [0, 10].
        score: the verifier, for the kind "verifier".
        url, token_env, concurrency, items_per_request, timeout: for the kind "http".
        tolerance, allowance: for the kind "pixels"; `stickers` takes the pixels to keep from the embedded domain.
    """

    kind: Literal["verifier", "http", "oracle", "pixels"]
    weight: PositiveFloat = 1.0
    required: bool = True
    watch: bool = False
    scale: Literal["unit", "score"] = "unit"
    score: ScoreConfig = ScoreConfig()
    url: str | None = None
    token_env: str | None = None
    concurrency: PositiveInt = 8
    items_per_request: PositiveInt = 8
    timeout: PositiveFloat = 300.0
    tolerance: Annotated[int, Field(ge=0, lt=255)] = 16
    allowance: Annotated[float, Field(gt=0, lt=1)] = 0.35
    stickers: bool = False

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if self.kind == "http" and self.url is None:
            raise ValueError('a reward of kind "http" needs the url of a scoring service, e.g. http://127.0.0.1:8700')
        return self


def build_reward(configs: Mapping[str, RewardConfig], make_verifier: MakeVerifier) -> Reward:
    """The reward that the settings describe: one by itself, or a weighted sum, with watchers beside it.

    Args:
        configs: by name; the names are those of the results' `parts`.
        make_verifier: from a verifier's settings to the verifier; `editr1.cli.options.build_verifier`.

    Raises:
        ConfigError: if nothing is left to learn from, or a reward cannot be set up.
        ModelError, JudgeError, MissingExtraError: if a verifier cannot.
    """
    learnt = {name: config for name, config in configs.items() if not config.watch}
    if not learnt:
        raise ConfigError(f"of the rewards {', '.join(configs) or '(none given)'} none is learnt from: add one")
    rewards = {name: _KINDS[config.kind](name, config, make_verifier) for name, config in configs.items()}
    [first, *others] = learnt
    reward: Reward = rewards[first]
    if others or learnt[first].weight != 1.0:
        reward = WeightedSum({n: Part(rewards[n], c.weight, c.required) for n, c in learnt.items()})
    watchers = {name: rewards[name] for name in configs if name not in learnt}
    return Watched(reward, watchers) if watchers else reward


def _verifier(name: str, config: RewardConfig, make_verifier: MakeVerifier) -> Reward:
    from editr1.rewards.verifier import VerifierReward

    return VerifierReward(make_verifier(config.score), scale=config.scale, name=name)


def _http(name: str, config: RewardConfig, make_verifier: MakeVerifier) -> Reward:
    from editr1.rewards.http import HttpReward

    return HttpReward(
        str(config.url),
        token_env=config.token_env,
        scale=config.scale,
        name=name,
        concurrency=config.concurrency,
        items_per_request=config.items_per_request,
        timeout=config.timeout,
    )


def _oracle(name: str, config: RewardConfig, make_verifier: MakeVerifier) -> Reward:
    from editr1.rewards.oracle import OracleReward

    return OracleReward(scale=config.scale, name=name)


def _pixels(name: str, config: RewardConfig, make_verifier: MakeVerifier) -> Reward:
    from editr1.rewards.oracle import keep_mask
    from editr1.rewards.pixels import PixelPreservation

    mask_of = keep_mask if config.stickers else None
    return PixelPreservation(tolerance=config.tolerance, allowance=config.allowance, mask_of=mask_of, name=name)


_KINDS: dict[str, Callable[[str, RewardConfig, MakeVerifier], Reward]] = {
    "verifier": _verifier,
    "http": _http,
    "oracle": _oracle,
    "pixels": _pixels,
}
