"""Recipes of editor RL: every shipped one is sound, and what cannot work is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from editr1.config import load
from editr1.errors import ConfigError
from editr1.training.editor.recipe import ContextsRecipe, EditorRecipe, WindowRecipe

FOLDER = Path(__file__).parents[4] / "recipes"
PATTERNS = ("sticker/editor-flow-grpo.toml", "sticker/editor-nft.toml", "flux-kontext/*.toml", "qwen-image-edit/*.toml")
RECIPES = sorted(path for pattern in PATTERNS for path in FOLDER.glob(pattern))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_shipped_recipes_are_sound(path: Path) -> None:
    recipe = load(EditorRecipe, path)
    assert recipe.eval is not None
    if path.parent.name != "sticker":
        assert (recipe.group_size, recipe.grpo.kl, recipe.grpo.kl_form) == (24, 0.04, "flow_grpo"), "the paper's"
        assert recipe.advantages.scale == "std"


def test_there_are_recipes() -> None:
    large = {f"{folder}/{name}" for folder in ("flux-kontext", "qwen-image-edit") for name in
             ("flow-grpo-1x80gb-lora", "flow-grpo-8x80gb")}  # fmt: skip
    assert {f"{p.parent.name}/{p.stem}" for p in RECIPES} == large | {"sticker/editor-flow-grpo", "sticker/editor-nft"}


def test_the_reward_can_be_exchanged_from_the_command_line() -> None:
    recipe = load(EditorRecipe, FOLDER / "sticker" / "editor-nft.toml", ["rewards.judge.kind=oracle"])
    assert recipe.rewards["judge"].kind == "oracle"


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["group_size=1"], "group_size is 1"),
        (["updates=5"], "must divide group_size"),
        (["nft.beta=0.5"], r"the table \[nft\] has no say"),
        (["train=full"], r"the table \[lora\] has no say"),
        (["shard=true"], "goes with train"),
        (["precision=fp16"], "fp16 overflows"),
        (["precision=half"], "fp16 overflows"),
        (["sampling.steps=1"], "flow-grpo has none to learn from"),
        (["sampling.steps=6", "grpo.window.kind=fixed", "grpo.window.size=6"], "may reach to step 4"),
        (["sampling.steps=6", "grpo.window.kind=fixed", "grpo.window.size=3", "grpo.window.start=3"], "step 4"),
        (["sampling.steps=6", "grpo.window.kind=random", "grpo.window.size=2", "grpo.window.high=6"], "step 4"),
        (["grpo.window.kind=all"], "'all' has no size"),
        (["grpo.window.kind=fixed", "grpo.window.size=2", "grpo.window.every=2"], "'fixed' has no every"),
        (["grpo.step=cps", "grpo.noise_level=1.2"], "cps takes at most 1"),
        (["rewards.judge.watch=true", "rewards.pixels.watch=true"], "no reward is learnt from"),
        (["eval.contexts.stickers=editor"], "contexts and eval.contexts overlap"),
        (["contexts.path=x.jsonl"], "give either stickers"),
        (["grpo.clipping=1"], "did you mean 'grpo.clip'"),
        (["group_sise=8"], "did you mean 'group_size'"),
    ],
)
def test_what_cannot_work_is_an_error(overrides: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(EditorRecipe, FOLDER / "sticker" / "editor-flow-grpo.toml", overrides)


@pytest.mark.parametrize("kind", ["fixed", "sliding", "random"])
def test_a_window_needs_a_size(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"a window of kind '{kind}' needs a size"):
        WindowRecipe(kind=kind)


@pytest.mark.parametrize("path", RECIPES)
def test_a_runs_config_is_a_recipe(path: Path) -> None:
    """It names the defaults, too, those of tables that have no say among them."""
    recipe = load(EditorRecipe, path)
    assert EditorRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_an_oracle_needs_stickers() -> None:
    base: dict[str, Any] = {"name": "x", "editor": "y", "rewards": {"truth": {"kind": "oracle"}}}
    with pytest.raises(ValueError, match=r"rewards\.truth knows the truth of drawn stickers only, and contexts are"):
        EditorRecipe.model_validate(base | {"contexts": {"path": "a.jsonl"}})
    EditorRecipe.model_validate(base | {"contexts": {"stickers": "a", "count": 4}})


@pytest.mark.parametrize(
    ("one", "two", "overlap"),
    [
        ({"path": "a", "count": 5}, {"path": "a", "first": 5}, False),
        ({"path": "a", "count": 6}, {"path": "a", "first": 5}, True),
        ({"path": "a"}, {"path": "a", "first": 5, "count": 1}, True),
        ({"path": "a"}, {"path": "b"}, False),
        ({"stickers": "a", "count": 5}, {"stickers": "b", "count": 5}, False),
        ({"stickers": "a", "count": 5}, {"stickers": "a", "first": 4, "count": 5}, True),
    ],
)
def test_which_contexts_overlap(one: dict[str, Any], two: dict[str, Any], overlap: bool) -> None:
    first, second = ContextsRecipe(**one), ContextsRecipe(**two)
    assert first.overlaps(second) is second.overlaps(first) is overlap
