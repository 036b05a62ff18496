"""Groups of pictures, sampled here and scored beside it; and what all processes know of each other's groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editr1.editors.cache import ContextCache
from editr1.editors.context import Context, Geometry
from editr1.editors.pipeline import PipelineEditor
from editr1.editors.sampling import Rollout, sample
from editr1.errors import Editr1Error, RewardError
from editr1.images import load_image
from editr1.rewards.background import BackgroundScorer, Pending
from editr1.rewards.base import EditSample, RewardResult
from editr1.rewards.pixels import unchanged
from editr1.training.editor.algorithm import Draw
from editr1.training.editor.contexts import derive_seed
from editr1.training.editor.watch import GroupRecord, diversity
from editr1.types import EditTask

Gather = Callable[[list[Any]], list[Any]]
"""A list of each process -> one of all, in the order of the processes."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """G pictures of one context, made by this process.

    Attributes:
        slot: number of the context in the iteration, over all processes.
        rollouts: their trajectories, whose positions count the pictures of the group.
        images: in order.
        source: the source as the editor would give it back if it changed nothing.
    """

    slot: int
    task: EditTask
    rollouts: tuple[Rollout, ...]
    images: tuple[Image.Image, ...]
    source: Image.Image


@dataclass
class Seconds:
    """Time of an iteration, by what it was spent on; scoring is what was waited for."""

    sampling: float = 0.0
    scoring: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0

    def measure(self, what: str) -> Any:
        """A context that adds its time to one of them."""
        return _Timer(self, what)


@dataclass
class _Timer:
    seconds: Seconds
    what: str
    start: float = field(default=0.0)

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        setattr(self.seconds, self.what, getattr(self.seconds, self.what) + time.perf_counter() - self.start)


class Scoring:
    """Hands groups to a scorer: each as it comes, or all at the end, where both would fight for the same cores."""

    def __init__(self, scorer: BackgroundScorer, *, overlap: bool) -> None:
        self._scorer, self._overlap = scorer, overlap
        self._pending: list[Pending] = []
        self._groups: list[list[EditSample]] = []

    def add(self, samples: Sequence[EditSample]) -> None:
        """Take a group."""
        self._groups.append(list(samples))
        if self._overlap:
            self._pending.append(self._scorer.submit(samples))

    def results(self) -> list[list[RewardResult]]:
        """Wait for the results of all groups, in their order.

        Raises:
            RewardError, JudgeError: if the reward as a whole cannot work.
        """
        if self._overlap:
            return [pending.result() for pending in self._pending]
        found = iter(self._scorer.score_batch([sample for group in self._groups for sample in group]))
        return [[next(found) for _ in group] for group in self._groups]


def sample_group(
    editor: PipelineEditor,
    context: Context,
    task: EditTask,
    slot: int,
    seeds: Sequence[int],
    draw: Draw,
    *,
    steps: int,
    batch_size: int,
) -> Group:
    """The pictures of one context: by themselves, so that they are the same whoever else is sampled in the run."""
    drawn = sample(
        editor,
        [context] * len(seeds),
        seeds,
        steps,
        noise_level=draw.noise_level,
        window=draw.window,
        kind=draw.kind,
        batch_size=batch_size,
    )
    rollouts = list(drawn)
    images = tuple(image for rollout in rollouts for image in rollout.images)
    bare = tuple(replace(rollout, images=()) for rollout in rollouts)
    return Group(slot, task, bare, images, untouched_source(editor, context, task))


def untouched_source(editor: PipelineEditor, context: Context, task: EditTask) -> Image.Image:
    """What an edit that changes nothing looks like: the source through the VAE, or at least at the edit's size."""
    geometry: Geometry = context.geometry
    if geometry.references[:1] == (geometry.grid,):
        (image,) = editor.decode(context.tensors["reference"][None], geometry)
        return image
    return load_image(task.source).resize((geometry.width, geometry.height), Image.Resampling.LANCZOS)


def samples_of(group: Group, label: str) -> list[EditSample]:
    """A group as a reward takes it."""
    return [EditSample(group.task, image, f"{group.task.id}@{label}.{n}") for n, image in enumerate(group.images)]


def collect(
    editor: PipelineEditor,
    cache: ContextCache,
    tasks: Mapping[int, EditTask],
    draw: Draw,
    scoring: Scoring,
    gather: Gather,
    seconds: Seconds,
    *,
    steps: int,
    group_size: int,
    batch_size: int,
    seed: tuple[int, int],
) -> tuple[list[Group], list[GroupRecord]]:
    """Sample and score this process's groups.

    Args:
        editor: that samples, with the weights as they are.
        cache: of its contexts.
        tasks: slot -> task, of this process.
        draw: how to sample.
        scoring: a fresh one.
        gather: joins the lists of all processes.
        seconds: that are taken are added here.
        steps: of the sampler.
        group_size: G.
        batch_size: pictures made together.
        seed: of the run, and the iteration: with slot and sample they make every picture's seed.

    Returns:
        this process's groups, and the records of all processes' groups by slot.

    Raises:
        RewardError: in every process, if the reward of one cannot work.
    """
    groups = []
    for slot, task in tasks.items():
        with seconds.measure("sampling"):
            (context,) = cache.get([task])
            seeds = [derive_seed(*seed, slot, number) for number in range(group_size)]
            group = sample_group(editor, context, task, slot, seeds, draw, steps=steps, batch_size=batch_size)
        scoring.add(samples_of(group, str(seed[1] + 1)))
        groups.append(group)
    with seconds.measure("scoring"):
        results = wait(scoring)
    return groups, share(groups, results, gather)


def wait(scoring: Scoring) -> list[list[RewardResult]] | str:
    """The results of all groups, or in one sentence why there are none: the other processes have to be told."""
    try:
        return scoring.results()
    except Editr1Error as exc:
        return str(exc)


def share(groups: Sequence[Group], results: list[list[RewardResult]] | str, gather: Gather) -> list[GroupRecord]:
    """The records of all processes' groups, by slot.

    Args:
        groups: of this process.
        results: theirs, as `wait` gives them.
        gather: joins the lists of all processes.

    Raises:
        RewardError: in every process, if the reward of one cannot work.
    """
    told: list[GroupRecord | str] = [results] if isinstance(results, str) else []
    for group, found in zip(groups, () if isinstance(results, str) else results, strict=False):
        told.append(
            GroupRecord(
                slot=group.slot,
                task=group.task.id,
                kind=None if group.task.kind is None else group.task.kind.value,
                results=tuple(_light(result) for result in found),
                unchanged=tuple(unchanged(group.source, image) for image in group.images),
                diversity=diversity(group.images),
            )
        )
    everything = gather(told)
    for problem in everything:
        if isinstance(problem, str):
            raise RewardError(problem)
    return sorted(everything, key=lambda record: record.slot)


def micro_batches(
    groups: Sequence[Group], advantages: Tensor, live: Tensor, numbers: Sequence[int], size: int
) -> Iterator[tuple[Rollout, Tensor]]:
    """Pictures to learn from, at most so many together, of one geometry each.

    If this is also the size of the batches that were sampled, their replay is exact to the last bit.

    Args:
        groups: of this process.
        advantages: (slots, G).
        live: (slots, G), true for pictures that can teach something.
        numbers: of the pictures in each group that take part.
        size: most pictures in a micro-batch.
    """
    waiting: dict[Geometry, list[tuple[Rollout, Tensor]]] = {}
    for group in groups:
        for rollout in group.rollouts:
            rows = [
                row for row, number in enumerate(rollout.positions) if number in numbers and live[group.slot, number]
            ]
            places = [rollout.positions[row] for row in rows]
            for start in range(0, len(rows), size):
                chosen, some = rows[start : start + size], places[start : start + size]
                part = rollout if len(chosen) == len(rollout.positions) else rollout.select(chosen)
                queue = waiting.setdefault(rollout.geometry, [])
                if sum(len(known) for _, known in queue) + len(chosen) > size:
                    yield _join(queue)
                    queue.clear()
                queue.append((part, advantages[group.slot, some]))
    for queue in waiting.values():
        if queue:
            yield _join(queue)


def _join(queue: Sequence[tuple[Rollout, Tensor]]) -> tuple[Rollout, Tensor]:
    """Rollouts of one geometry and window as one; what is not a tensor of each picture is the first's."""
    rollouts = [rollout for rollout, _ in queue]
    first, advantages = rollouts[0], torch.cat([some for _, some in queue])
    advantages = advantages.to(first.final.device)
    if len(rollouts) == 1:
        return first, advantages
    joined = replace(
        first,
        positions=tuple(place for rollout in rollouts for place in rollout.positions),
        contexts=tuple(context for rollout in rollouts for context in rollout.contexts),
        seeds=tuple(seed for rollout in rollouts for seed in rollout.seeds),
        states={step: torch.cat([rollout.states[step] for rollout in rollouts]) for step in first.states},
        log_probs={step: torch.cat([rollout.log_probs[step] for rollout in rollouts]) for step in first.log_probs},
    )
    return joined, advantages


def _light(result: RewardResult) -> RewardResult:
    """Without verdicts, whose texts nobody reads here."""
    parts = {name: _light(part) for name, part in result.parts.items()}
    return replace(result, parts=parts, verdict=None)
