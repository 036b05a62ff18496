"""From scored groups to a step of the optimizer: anchors, parts, one gradient over all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from editr1.editors.pipeline import PipelineEditor
from editr1.training.editor.algorithm import Algorithm, Part
from editr1.training.editor.policy import Policy
from editr1.training.editor.recipe import EditorRecipe
from editr1.training.editor.rollouts import Gather, Group, micro_batches


@dataclass(frozen=True, slots=True)
class Learner:
    """Learns from an iteration's groups.

    The loss is a mean over all pictures of an update and all parts of each, those that teach nothing included: skipping
    them changes nothing else, and micro-batches of any size on any number of processes add up to one gradient.

    Attributes:
        gather: a list of each process -> one of all.
        processes: how many there are.
    """

    recipe: EditorRecipe
    editor: PipelineEditor
    policy: Policy
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    gather: Gather
    processes: int

    def learn(self, groups: Sequence[Group], advantages: Tensor, live: Tensor, iteration: int) -> dict[str, float]:
        """All updates of an iteration.

        Args:
            groups: of this process.
            advantages: (slots, G), float32, of all processes.
            live: (slots, G), true for pictures that can teach something.
            iteration: from 0.

        Returns:
            loss and the objective's metrics, means over what was learnt from; grad_norm, of the last update; updates
            that were made; skipped: those left out because their gradient was not finite.
        """
        recipe = self.recipe
        self._set_learning_rate(iteration)
        order = list(range(recipe.group_size))
        if recipe.updates > 1:
            Random(f"updates/{recipe.seed}/{iteration}").shuffle(order)
        shares = [order[update :: recipe.updates] for update in range(recipe.updates)]
        shares = [share for share in shares if live[:, share].any()]  # the same in all processes
        plans = [self._plan(groups, advantages, live, share) for share in shares]
        self._ask_frozen([part for plan, _ in plans for part in plan])
        sums: list[tuple[float, dict[str, float]]] = []
        made, skipped, norm = 0, 0, 0.0
        for plan, padding in plans:
            sums += self._backward(plan, padding)
            norm = self._step()
            finite = norm < float("inf")
            made, skipped = made + finite, skipped + (not finite)
        metrics = _mean(self.gather(sums))
        return metrics | {"grad_norm": norm, "updates": float(made), "skipped": float(skipped)}

    def _plan(
        self, groups: Sequence[Group], advantages: Tensor, live: Tensor, share: Sequence[int]
    ) -> tuple[list[Part], int]:
        """The parts of an update, and how many at their end are there only to keep processes in step."""
        batches = micro_batches(groups, advantages, live, share, self.recipe.micro_batch_size)
        plan = [part for rollout, some in batches for part in self.algorithm.parts(rollout, some)]
        if not self.recipe.shard:
            return plan, 0
        # A forward of sharded weights takes all processes: those with fewer parts go along, with no weight.
        missing = max(self.gather([len(plan)])) - len(plan)
        if missing:
            rollout = groups[0].rollouts[0].select([0])
            idle = next(iter(self.algorithm.parts(rollout, torch.zeros(1, device=rollout.final.device))))
            plan += [idle] * missing
        return plan, missing

    @torch.no_grad()
    def _ask_frozen(self, parts: Sequence[Part]) -> None:
        """Put into each part what frozen weights predict there."""
        for name in self.algorithm.frozen:
            with self.policy.using(name):
                for part in parts:
                    part.anchors[name] = self.algorithm.predict(self.editor, part)

    def _backward(self, plan: Sequence[Part], padding: int) -> list[tuple[float, dict[str, float]]]:
        """Add up the gradient of an update; returns each part's weight and metrics."""
        recipe = self.recipe
        pictures = recipe.contexts_per_step * recipe.group_size // recipe.updates
        whole = pictures * self.algorithm.parts_per_picture
        spread = self.processes if recipe.shard else 1  # FSDP takes the mean over processes, and this is a sum
        found = []
        for number, part in enumerate(plan):
            weight = 0.0 if number >= len(plan) - padding else len(part) / whole
            loss, metrics = self.algorithm.loss(self.algorithm.predict(self.editor, part), part)
            (loss * (weight * spread)).backward()
            if weight:
                found.append((weight, {"loss": loss.detach()} | metrics))
        return [(weight, {name: float(value) for name, value in metrics.items()}) for weight, metrics in found]

    def _step(self) -> float:
        """Sum the gradient over processes, clip it, and step unless it is not finite; returns its norm."""
        parameters = list(self.policy.parameters.values())
        if not self.recipe.shard:
            for parameter in parameters:
                if parameter.grad is None:  # no use of it, or a process whose groups were all flat
                    parameter.grad = torch.zeros_like(parameter)
                if self.processes > 1:
                    torch.distributed.all_reduce(parameter.grad)
        norm: Tensor = torch.nn.utils.clip_grad_norm_(parameters, self.recipe.max_grad_norm)
        value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if value < float("inf"):  # false for NaN too
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def _set_learning_rate(self, iteration: int) -> None:
        share = min((iteration + 1) / max(self.recipe.warmup, 1), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * share


def _mean(parts: Sequence[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """Means by weight; `nonfinite` is a number of ratios, and is added up."""
    metrics: dict[str, float] = {}
    total = sum(weight for weight, _ in parts)
    for name in parts[0][1] if parts else ():
        if name == "nonfinite":
            metrics[name] = sum(found[name] for _, found in parts)
        else:
            metrics[name] = sum(weight * found[name] for weight, found in parts) / total
    return metrics
