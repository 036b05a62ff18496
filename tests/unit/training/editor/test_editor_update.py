"""From scored groups to a gradient: ratios, micro-batches, frozen weights, against independent references."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from editor_helpers import make_recipe
from torch import Tensor

from editr1.editors import PipelineEditor, wrap
from editr1.editors.testing import KONTEXT_OPTIONS, QWEN_OPTIONS, tiny_kontext, tiny_qwen_edit
from editr1.errors import ConfigError
from editr1.objectives.windows import fixed_window
from editr1.training.editor.algorithm import CURRENT, OLD, REFERENCE, Algorithm
from editr1.training.editor.contexts import derive_seed
from editr1.training.editor.grpo import FlowGrpo
from editr1.training.editor.nft import Nft
from editr1.training.editor.policy import EMA, Policy
from editr1.training.editor.recipe import EditorRecipe
from editr1.training.editor.rollouts import Group, micro_batches, sample_group
from editr1.training.editor.setup import ALGORITHMS
from editr1.training.editor.update import Learner
from editr1.types import EditTask

STEPS, SIZE = 4, 4


def noise_task(number: int) -> EditTask:
    pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
    return EditTask(f"t{number}", pixels.numpy(), f"make it brighter, {number}")


@cache
def fresh_pipeline(*, qwen: bool) -> Any:
    return tiny_qwen_edit() if qwen else tiny_kontext()


def setup(
    *, dtype: torch.dtype = torch.float32, autocast: torch.dtype | None = None, qwen: bool = False, **changes: Any
) -> tuple[Learner, Policy, Algorithm, PipelineEditor, EditorRecipe]:
    """A learner whose optimizer is plain descent at rate 1: how far weights move is the gradient."""
    pipeline: Any = deepcopy(fresh_pipeline(qwen=qwen))
    editor = wrap(pipeline.to(dtype), QWEN_OPTIONS if qwen else KONTEXT_OPTIONS, autocast=autocast)
    recipe = make_recipe(Path("none"), Path("none"), **{"max_grad_norm": 1e9, "learning_rate": 1.0} | changes)
    algorithm = ALGORITHMS[recipe.algorithm](recipe, STEPS)
    policy = Policy(editor, recipe, {*algorithm.frozen, algorithm.sampled_by})
    optimizer = torch.optim.SGD(policy.parameters.values(), lr=1.0)
    return (
        Learner(recipe, editor, policy, algorithm, optimizer, lambda items: items, 1),
        policy,
        algorithm,
        editor,
        recipe,
    )


def sampled(editor: PipelineEditor, algorithm: Algorithm, batch_size: int = SIZE) -> list[Group]:
    groups = []
    for slot in range(2):
        task = noise_task(slot)
        (context,) = editor.encode([task])
        seeds = [derive_seed(slot, number) for number in range(SIZE)]
        groups.append(
            sample_group(editor, context, task, slot, seeds, algorithm.draw(0), steps=STEPS, batch_size=batch_size)
        )
    return groups


def shake(policy: Policy, seed: int = 0, size: float = 0.05) -> None:
    """Trained weights away from where they began: a fresh LoRA is silent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))


def moved(policy: Policy, act: Callable[[], Any]) -> dict[str, Tensor]:
    before = {name: parameter.detach().clone() for name, parameter in policy.parameters.items()}
    act()
    return {name: before[name] - parameter.detach() for name, parameter in policy.parameters.items()}


ADVANTAGES = torch.tensor([[1.0, -1.0, 0.5, -0.5], [-0.3, 0.9, -1.2, 0.6]])
ALL = torch.ones(2, SIZE, dtype=torch.bool)


@pytest.mark.parametrize(
    ("autocast", "guard", "qwen"),
    [(None, False, False), (torch.bfloat16, False, False), (None, True, False), (torch.bfloat16, False, True)],
    ids=["float32", "bfloat16", "guard", "qwen-bfloat16"],
)
def test_the_first_ratio_is_one(autocast: torch.dtype | None, guard: bool, qwen: bool) -> None:
    """Whole batches replay to the last bit, so that even against the rollout's own log-probabilities nothing moved."""
    learner, policy, algorithm, editor, _ = setup(
        autocast=autocast, qwen=qwen, micro_batch_size=SIZE, grpo={"guard": guard}
    )
    shake(policy)
    metrics = learner.learn(sampled(editor, algorithm), ADVANTAGES, ALL, 0)
    assert metrics["replay_gap"] == 0
    assert metrics["ratio_mean"] == 1
    assert metrics["ratio_off"] == metrics["clip_fraction"] == metrics["nonfinite"] == 0
    assert metrics["grad_norm"] > 0


def test_the_second_update_of_an_iteration_is_off_policy() -> None:
    """The ratio is to the weights before the first update: its size is what that update did."""
    learner, policy, algorithm, editor, _ = setup(updates=2, learning_rate=1.0, grpo={"clip": 1e-9})
    shake(policy)
    assert algorithm.frozen == (CURRENT,)
    metrics = learner.learn(sampled(editor, algorithm), ADVANTAGES, ALL, 0)
    assert metrics["updates"] == 2
    assert metrics["ratio_off"] > 0
    assert 0 < metrics["clip_fraction"] <= 0.5, "none of the first update's, some of the second's"


@pytest.mark.parametrize(
    "changes",
    [
        {"grpo": {"kl": 0.5, "kl_form": "exact"}},
        {"grpo": {"guard": True, "step": "cps"}},
        {"algorithm": "nft", "nft": {"kl": 0.3, "old_rate": 0.1}},
    ],
    ids=["grpo", "guard", "nft"],
)
def test_micro_batches_and_gaps_do_not_change_the_gradient(changes: dict[str, Any]) -> None:
    """One pass over everything, or pictures in threes over two groups with flat ones passed over: one gradient."""
    gradients = []
    live = ALL.clone()
    live[0, 2] = live[1, 0] = False
    for size in (8, 3):
        learner, policy, algorithm, editor, _ = setup(micro_batch_size=size, **changes)
        shake(policy)
        groups = sampled(editor, algorithm, batch_size=SIZE if size == 8 else 2)
        gradients.append(moved(policy, partial(learner.learn, groups, ADVANTAGES, live, 0)))
    assert max(float(gradient.abs().max()) for gradient in gradients[0].values()) > 1e-4
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"grpo": {"kl": 0.5, "clip": 1.0}},
        {"grpo": {"guard": True, "clip": 1.0}},
        {"algorithm": "nft", "nft": {"kl": 0.3, "old_rate": 0.1, "weighting": "none"}},
    ],
    ids=["grpo", "guard", "nft"],
)
def test_the_gradient_against_finite_differences(changes: dict[str, Any]) -> None:
    """In float64: the slope of the whole loss along the gradient that the optimizer gets is the gradient's length."""
    learner, policy, algorithm, editor, recipe = setup(dtype=torch.float64, **changes)
    shake(policy)
    groups = sampled(editor, algorithm)
    batches = micro_batches(groups, ADVANTAGES.double(), ALL, range(SIZE), recipe.micro_batch_size)
    parts = [part for rollout, some in batches for part in algorithm.parts(rollout, some)]
    with torch.no_grad():
        for name in {*algorithm.frozen, CURRENT}:
            with policy.using(name):
                for part in parts:
                    part.anchors[name] = dict(algorithm.predict(editor, part))

    @torch.no_grad()
    def loss() -> float:
        whole = 2 * SIZE * algorithm.parts_per_picture
        return float(sum(algorithm.loss(algorithm.predict(editor, p), p)[0] * len(p) / whole for p in parts))

    start = {name: parameter.detach().clone() for name, parameter in policy.parameters.items()}
    gradient = moved(policy, lambda: learner.learn(groups, ADVANTAGES.double(), ALL, 0))
    length = float(torch.sqrt(sum((g.square().sum() for g in gradient.values()), torch.zeros((), dtype=torch.float64))))
    assert length > 1e-4

    def at(shift: float) -> float:
        with torch.no_grad():
            for name, parameter in policy.parameters.items():
                parameter.copy_(start[name] + shift / length * gradient[name])
        return loss()

    assert (at(1e-4) - at(-1e-4)) / 2e-4 == pytest.approx(length, rel=1e-4)  # RMSNorm is float32 inside


@pytest.mark.parametrize("train", ["lora", "full"])
def test_frozen_weights_come_and_go(train: str) -> None:
    _, policy, _, editor, _ = setup(algorithm="nft", train=train, nft={"kl": 0.1, "old_rate": 0.5})
    (context,) = editor.encode([noise_task(0)])
    batch = editor.batch([context])
    latents = editor.noise(context.geometry, [torch.Generator().manual_seed(1)])

    @torch.no_grad()
    def velocity(name: str) -> Tensor:
        with policy.using(name):
            return editor.velocity(latents, 0.7, batch)

    begun = velocity(CURRENT)
    assert torch.equal(velocity(REFERENCE), begun)
    assert torch.equal(velocity(OLD), begun)
    shake(policy)
    now = velocity(CURRENT)
    assert not torch.allclose(now, begun, atol=1e-3)
    assert torch.equal(velocity(REFERENCE), begun)
    assert torch.equal(velocity(OLD), begun)
    policy.follow(OLD, 0.25)
    kept = dict(zip(policy.parameters, policy.copies[OLD], strict=True))
    for name, parameter in policy.parameters.items():
        if "lora_B" in name:  # began at 0
            torch.testing.assert_close(kept[name], 0.75 * parameter.detach())
    assert torch.equal(velocity(CURRENT), now), "to the last bit"
    assert policy.best_for_use == CURRENT
    assert set(policy.copies) == ({OLD} if train == "lora" else {OLD, REFERENCE})
    assert EMA not in policy.copies


def test_nft_draws_depend_on_the_picture_alone() -> None:
    """Noise levels are those of the schedule, each at most once a picture; company changes nothing."""
    _, _, algorithm, editor, _ = setup(algorithm="nft", nft={"draws": 3})
    (rollout,) = sampled(editor, algorithm)[0].rollouts
    together = list(algorithm.parts(rollout, ADVANTAGES[0]))
    alone = list(algorithm.parts(rollout.select([2]), ADVANTAGES[0, 2:3]))
    assert len(together) == len(alone) == 3
    for whole, part in zip(together, alone, strict=True):
        assert whole.sigma is not None
        assert part.sigma is not None
        assert whole.sigma[2] == part.sigma[0]
        assert whole.noise is not None
        assert part.noise is not None
        assert torch.equal(whole.noise[2], part.noise[0])
    for picture in range(SIZE):
        levels = [float(part.sigma[picture]) for part in together if part.sigma is not None]
        assert len(set(levels)) == 3
        assert set(levels) <= set(rollout.sigmas[:-1].tolist())


def test_windows_are_those_of_the_recipe() -> None:
    def window(iteration: int, **settings: Any) -> Any:
        recipe = make_recipe(Path("none"), Path("none"), sampling={"steps": 6}, grpo={"window": settings})
        return FlowGrpo(recipe, 6).draw(iteration).window

    assert window(3, kind="all") == (0, 1, 2, 3, 4)
    assert window(3, kind="fixed", size=2, start=1) == fixed_window(6, 2, 1)
    assert [window(n, kind="sliding", size=2, every=2) for n in (0, 1, 2, 7, 8)] == [
        (0, 1), (0, 1), (1, 2), (3, 4), (0, 1),
    ]  # fmt: skip
    drawn = {window(n, kind="random", size=2, high=4) for n in range(20)}
    assert drawn == {(0, 1), (1, 2), (2, 3)}
    wide = make_recipe(Path("none"), Path("none"), sampling={}, grpo={"window": {"kind": "fixed", "size": 3}})
    with pytest.raises(ConfigError, match=r"grpo\.window: a window of 3 from step 0"):
        FlowGrpo(wide, 3)
    often = make_recipe(Path("none"), Path("none"), algorithm="nft", nft={"draws": 5})
    with pytest.raises(ConfigError, match=r"nft\.draws is 5"):
        Nft(often, 4)


def test_old_weights_follow_ever_more_slowly() -> None:
    recipe = make_recipe(Path("none"), Path("none"), algorithm="nft", nft={"old_rate": 0.1, "old_most": 0.25})
    algorithm = Nft(recipe, 4)
    assert algorithm.sampled_by == OLD
    assert [algorithm.old_decay(n) for n in range(4)] == pytest.approx([0, 0.1, 0.2, 0.25])


def test_lora_targets_by_name() -> None:
    _, policy, *_ = setup(lora={"rank": 2, "targets": ["attn.to_q"]})
    assert policy.parameters
    assert all(".attn.to_q.lora_" in name for name in policy.parameters)
    with pytest.raises(ConfigError, match="no linear layer of .* is named attn.nothing"):
        setup(lora={"targets": ["attn.nothing"]})


def test_a_lora_in_half_precision_weights_is_trained_in_float32() -> None:
    learner, policy, algorithm, editor, _ = setup(dtype=torch.bfloat16, autocast=torch.bfloat16, micro_batch_size=SIZE)
    assert {parameter.dtype for parameter in policy.parameters.values()} == {torch.float32}
    assert editor.pipeline.transformer.dtype == torch.bfloat16
    shake(policy)
    metrics = learner.learn(sampled(editor, algorithm), ADVANTAGES, ALL, 0)
    assert metrics["replay_gap"] == 0
    assert metrics["grad_norm"] > 0


@pytest.mark.parametrize("qwen", [False, True], ids=["kontext", "qwen"])
def test_gradient_checkpointing_changes_nothing_but_memory(qwen: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        learner, policy, algorithm, editor, _ = setup(qwen=qwen, gradient_checkpointing=checkpointing)
        assert editor.pipeline.transformer.is_gradient_checkpointing is checkpointing
        shake(policy)
        groups = sampled(editor, algorithm)
        gradients.append(moved(policy, partial(learner.learn, groups, ADVANTAGES, ALL, 0)))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-7)
