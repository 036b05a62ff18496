"""Recipes of GCPO: every shipped one is sound, and settings that do not go together are errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from editr1.config import load
from editr1.errors import ConfigError
from editr1.training.gcpo.recipe import OWNED, GcpoRecipe

RECIPES = sorted((Path(__file__).parents[4] / "recipes").glob("*/gcpo*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_shipped_recipes_are_sound(path: Path) -> None:
    recipe = load(GcpoRecipe, path)
    if path.parent.name != "sticker":
        assert recipe.beta == 0, "the paper leaves the KL out"
    assert (recipe.loss_type, recipe.iterations, recipe.updates_per_rollout) == ("grpo", 1, 1)


def test_there_are_recipes() -> None:
    assert {p.stem for p in RECIPES} == {"gcpo", "gcpo-large", "gcpo-3b-lora", "gcpo-7b-lora", "gcpo-7b-full"}


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["pairs=data"], "either pairs"),
        (["pairs_per_step=8", "halves_per_pass=3"], "must divide the 16 halves"),
        (["rollouts=1"], "greater than or equal to 2"),
        (["updates_per_rollout=4", "save_every=6"], "multiple of the 4 steps"),
        (["trl.learning_rate=1e-3"], "set learning_rate"),
        (["lora.rank=8", "train_vision=false"], "lora.targets"),
        (["rollout=4"], "did you mean 'rollouts'"),
    ],
)
def test_what_does_not_go_together_is_an_error(repository: Path, overrides: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(GcpoRecipe, repository / "recipes" / "sticker" / "gcpo.toml", overrides)


def test_every_owned_setting_is_one_of_trls() -> None:
    from dataclasses import fields

    from trl.trainer.grpo_config import GRPOConfig

    assert set(OWNED) <= {f.name for f in fields(GRPOConfig)}
