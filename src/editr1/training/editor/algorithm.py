"""What the trainer of editors asks of an algorithm; `grpo` and `nft` answer.

An algorithm says how rollouts are drawn, cuts them into parts (some pictures at one step), and makes a loss of what the
model predicts for a part and what frozen weights predict there. It never sees rewards, optimizers or processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from torch import Tensor

from editr1.editors.base import Editor
from editr1.editors.sampling import Rollout
from editr1.objectives.flow_sde import Kind
from editr1.objectives.windows import Window

Prediction: TypeAlias = Mapping[str, Tensor]
Metrics: TypeAlias = dict[str, Tensor]

CURRENT, OLD, REFERENCE = "current", "old", "reference"
"""Weights, by name: those that are trained; those that sample, if they follow slowly; those from before training."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How the rollouts of an iteration are drawn: arguments of `editr1.editors.sample`."""

    noise_level: float
    window: Window | None
    kind: Kind = "sde"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A micro-batch: B pictures at one step.

    Attributes:
        rollout: of these pictures.
        advantages: (B,) float32.
        step: of the sampler for Flow-GRPO, number of the draw for NFT.
        sigma, noise: (B,) and (B, L, C), where pictures are noised anew.
        anchors: name of frozen weights -> what they predict here.
    """

    rollout: Rollout
    advantages: Tensor
    step: int
    sigma: Tensor | None = None
    noise: Tensor | None = None
    anchors: dict[str, Prediction] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.advantages)


class Algorithm(Protocol):
    """A way to learn from scored rollouts.

    Attributes:
        sampled_by: name of the weights that sample: CURRENT or OLD.
        frozen: names of the weights whose predictions a loss is to find in `Part.anchors`. CURRENT there stands for the
            trained weights as they were before the iteration's first update.
        parts_per_picture: parts that a picture occurs in.
    """

    sampled_by: str
    frozen: tuple[str, ...]
    parts_per_picture: int

    def draw(self, iteration: int) -> Draw:
        """How to sample in an iteration, from 0."""
        ...

    def old_decay(self, iteration: int) -> float:
        """Decay with which the weights OLD follow after an iteration."""
        ...

    def parts(self, rollout: Rollout, advantages: Tensor) -> Iterator[Part]:
        """The parts of a micro-batch of pictures."""
        ...

    def predict(self, editor: Editor, part: Part) -> Prediction:
        """One forward, with the weights as they are now."""
        ...

    def loss(self, prediction: Prediction, part: Part) -> tuple[Tensor, Metrics]:
        """Mean over the part's pictures, and metrics that are means over them too."""
        ...
