"""The sides of `benchmarks/editor_rl.py`: the trainer's iteration and the straightforward loop's, timed alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from parts.common import Spread, take_turns

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from editr1.editors import PipelineEditor
    from editr1.rewards import EditSample, Reward, RewardResult
    from editr1.training.editor.policy import Policy
    from editr1.training.editor.recipe import EditorRecipe
    from editr1.training.editor.rollouts import Seconds
    from editr1.types import EditTask

PARTS = ("sampling", "scoring", "training")

MakeOptimizer = Callable[[list["Tensor"]], "torch.optim.Optimizer"]


class EveryPictureTeaches:
    """A reward that leaves no group flat and no picture without a value; keeps the values.

    Attributes:
        values: of all samples, by their names.
    """

    name = "benchmark"

    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self.values: dict[str, float] = {}

    def score(self, samples: Sequence[EditSample], *, on_result: Any = None) -> list[RewardResult]:
        """See `Reward`."""
        from editr1.rewards import RewardResult

        found = self._reward.score(samples)
        for sample, result in zip(samples, found, strict=True):
            self.values[sample.name] = (result.value or 0.0) + 1e-3 * int(sample.name.rpartition(".")[2])
        return [RewardResult.of(self.values[sample.name]) for sample in samples]


@dataclass
class Bench:
    """What all sides share.

    Attributes:
        start: the LoRA's weights, which every step begins with.
        make_optimizer: of the LoRA; each side has its own.
    """

    editor: PipelineEditor
    recipe: EditorRecipe
    policy: Policy
    start: list[Tensor]
    contexts: Any
    make_optimizer: MakeOptimizer

    @classmethod
    def create(cls, editor: PipelineEditor, recipe: EditorRecipe, make_optimizer: MakeOptimizer) -> Bench:
        """With a fresh LoRA."""
        from editr1.training.editor.contexts import open_contexts
        from editr1.training.editor.policy import Policy

        policy = Policy(editor, recipe, ())
        start = [parameter.detach().clone() for parameter in policy.parameters.values()]
        return cls(editor, recipe, policy, start, open_contexts(recipe.contexts), make_optimizer)

    def tasks(self, iteration: int) -> list[EditTask]:
        """Of an iteration, by slot."""
        from editr1.training.editor.contexts import chosen, usable

        recipe = self.recipe
        places = chosen(iteration, recipe.contexts_per_step, len(self.contexts), recipe.seed)
        return [usable(self.contexts, place) for place in places]


@dataclass
class Side:
    """One way to do an iteration.

    Attributes:
        step: does the iteration of that number, and says where its time went.
        trained: steps of each picture that are trained.
        values: rewards of its pictures, by name.
        whole: seconds of each round; parts: of each part in each round.
    """

    name: str
    step: Callable[[int], Seconds]
    trained: int
    values: dict[str, float]
    whole: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def run(self, bench: Bench, iteration: int) -> list[Tensor]:
        """Do and time an iteration, and put the weights back; returns how far the step had moved them."""
        begun = time.perf_counter()
        seconds = self.step(iteration)
        self.whole.append(time.perf_counter() - begun)
        for part in PARTS:
            self.parts[part].append(getattr(seconds, part))
        parameters = bench.policy.parameters.values()
        moved = [before - p.detach() for before, p in zip(bench.start, parameters, strict=True)]
        bench.policy.load(bench.start)
        return moved


def ours(name: str, bench: Bench, window: int | None, reward: Reward, *, overlap: bool) -> Side:
    """The trainer's own iteration, with a window of so many steps, or all."""
    from editr1.editors.cache import ContextCache
    from editr1.rewards.background import BackgroundScorer
    from editr1.rewards.guard import FailureGuard
    from editr1.training.editor.loop import iterate
    from editr1.training.editor.recipe import EditorRecipe
    from editr1.training.editor.rollouts import Seconds
    from editr1.training.editor.setup import ALGORITHMS, Work
    from editr1.training.editor.state import Progress
    from editr1.training.editor.update import Learner

    settings = bench.recipe.model_dump(exclude_unset=True)
    if window is not None:
        settings["grpo"] = settings["grpo"] | {"window": {"kind": "fixed", "size": window}}
    recipe = EditorRecipe.model_validate(settings)
    steps = recipe.sampling.steps or bench.editor.steps
    algorithm = ALGORITHMS[recipe.algorithm](recipe, steps)
    optimizer = bench.make_optimizer(list(bench.policy.parameters.values()))
    kept = EveryPictureTeaches(reward)
    nothing: Any = None  # a run's folder and what is written there are no part of an iteration
    work = Work(
        recipe=recipe,
        run=nothing,
        accelerator=SimpleNamespace(process_index=0, num_processes=1, is_main_process=True),
        editor=bench.editor,
        kept_dtype=bench.editor.pipeline.transformer.dtype,
        contexts=bench.contexts,
        cache=ContextCache(bench.editor),
        algorithm=algorithm,
        policy=bench.policy,
        learner=Learner(recipe, bench.editor, bench.policy, algorithm, optimizer, list, 1),
        checkpoints=nothing,
        scorer=BackgroundScorer(kept, retries=0),
        guard=FailureGuard(1.0, 64),
        evaluation=None,
        gather=list,
        steps=steps,
        overlap=overlap,
    )

    def step(iteration: int) -> Seconds:
        seconds = Seconds()
        iterate(work, Progress(iteration=iteration), seconds)
        return seconds

    return Side(name, step, algorithm.parts_per_picture, kept.values)


def plain(bench: Bench, reward: Reward, batch: int) -> Side:
    """The straightforward side."""
    from peers.editor_loop import Plain

    kept = EveryPictureTeaches(reward)
    loop = Plain(bench, kept, batch)
    steps = bench.recipe.sampling.steps
    assert steps is not None
    return Side("straightforward", loop.step, steps - 1, kept.values)


def flops(bench: Bench) -> tuple[float, float]:
    """Of one picture at one step: a forward of the transformer, and a forward with its backward."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    editor = bench.editor
    (context,) = editor.encode(bench.tasks(0)[:1])
    latents = editor.noise(context.geometry, [torch.Generator("cpu").manual_seed(0)])
    batch, found = editor.batch([context]), []
    if bench.recipe.gradient_checkpointing:
        editor.pipeline.transformer.disable_gradient_checkpointing()
    for backward in (False, True):
        # attention as two matrix multiplications, which the counter knows on every device
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(backward):
            velocity = editor.velocity(latents, 0.5, batch)
            if backward:
                velocity.square().mean().backward()
        found.append(float(counter.get_total_flops()))
    for parameter in bench.policy.parameters.values():
        parameter.grad = None
    if bench.recipe.gradient_checkpointing:
        editor.pipeline.transformer.enable_gradient_checkpointing()
    return found[0], found[1]


def figures(side: Side, bench: Bench, work: tuple[float, float], peak: float) -> dict[str, Any]:
    """Medians of a side, its range, and its share of the measured rate."""
    recipe = bench.recipe
    pictures = recipe.group_size * recipe.contexts_per_step
    sampling = pictures * (recipe.sampling.steps or bench.editor.steps) * work[0]
    training = pictures * side.trained * work[1]
    median = {part: statistics.median(side.parts[part]) for part in PARTS}
    whole = statistics.median(side.whole)
    return {
        "seconds": median | {"iteration": whole},
        "range": [min(side.whole), max(side.whole)],
        "rounds": side.whole,
        "trained_steps": side.trained,
        "flop": {"sampling": sampling, "training": training},
        "share_of_rate": {
            "sampling": sampling / median["sampling"] / peak,
            "training": training / median["training"] / peak,
            "iteration": (sampling + training) / whole / peak,
        },
    }


def ratio(slower: Side, faster: Side) -> Spread:
    """Of the seconds of each round."""
    return Spread.of([a / b for a, b in zip(slower.whole, faster.whole, strict=True)])


def same_rewards(one: Side, other: Side) -> tuple[int, int]:
    """How many pictures got the same reward from both, and how many there are."""
    assert one.values.keys() == other.values.keys()
    return sum(abs(one.values[name] - other.values[name]) < 1e-6 for name in one.values), len(one.values)


def measure(sides: Sequence[Side], bench: Bench, rounds: int) -> None:
    """A warm-up, then all in turn."""
    for number, side in take_turns(sides, rounds):
        side.run(bench, number)
        if number == 0:
            side.whole.clear()
            for part in PARTS:
                side.parts[part].clear()
