"""The seam between editing models and everything that samples from them or trains them.

An editor is a velocity model: at noise level sigma a latent is x = (1 - sigma) x0 + sigma e, and the velocity
estimates e - x0 (see `editr1.objectives.flow_sde`). Shapes: B samples of L tokens with C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pydantic import Field, NonNegativeFloat, PositiveInt

from editr1.config import Recipe
from editr1.types import EditTask

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from editr1.editors.context import Batch, Context, Geometry


class EditorOptions(Recipe):
    """How an editor is used. What is None is as in the pipeline that it runs on.

    A folder of a model may hold them as `editr1.json`, beside its `model_index.json`.

    Attributes:
        area: pixels of the edited picture, whose sides have the ratio of the source's.
        reference_area: pixels at which the transformer sees the source; likewise.
        condition_area: pixels at which a vision-language text encoder sees the source, where it sees another size.
        steps: of the sampler, where nothing else is said.
        guidance_scale: what a guidance-distilled model is told; others ignore it.
        true_cfg_scale: of classifier-free guidance, which takes a second forward with the negative prompt; 1 is none.
        negative_prompt: for that.
        max_text_tokens: to which prompts are cut, and filled up where the text encoder's padding is seen.
    """

    area: PositiveInt | None = None
    reference_area: PositiveInt | None = None
    condition_area: PositiveInt | None = None
    steps: PositiveInt | None = None
    guidance_scale: NonNegativeFloat | None = None
    true_cfg_scale: float | None = Field(default=None, ge=1)
    negative_prompt: str | None = None
    max_text_tokens: PositiveInt | None = None


class Editor(Protocol):
    """What sampling and training see of an editing model.

    Attributes:
        name: of the model.
        fingerprint: changes with everything that a context depends on; empty if that is not known.
        trainable: the transformer. A wrapper around it (DDP, a compiled one, one with LoRA) may be put in its place.
        lora_targets: names of the linear layers in it that a LoRA goes to.
        steps: of the sampler, where nothing else is said.
    """

    name: str
    fingerprint: str
    trainable: torch.nn.Module

    @property
    def lora_targets(self) -> list[str]: ...  # noqa: D102 - see the class

    @property
    def steps(self) -> int: ...  # noqa: D102 - see the class

    def encode(self, tasks: Sequence[EditTask]) -> list[Context]:
        """Text and reference latents of each task, one by one: no context depends on the others."""
        ...

    def batch(self, contexts: Sequence[Context]) -> Batch:
        """Contexts of one geometry, on the transformer's device."""
        ...

    def noise(self, geometry: Geometry, generators: Sequence[torch.Generator]) -> Tensor:
        """The latents to start from, (B, L, C) float32, each from its own generator."""
        ...

    def sigmas(self, steps: int, geometry: Geometry) -> Tensor:
        """(steps + 1,) float32 on the CPU, falling to 0, as the pipeline's own scheduler makes them."""
        ...

    def velocity(self, latents: Tensor, sigma: float | Tensor, batch: Batch) -> Tensor:
        """The model's estimate at sigma, one number or (B,), guidance included: (B, L, C), float32."""
        ...

    def decode(self, latents: Tensor, geometry: Geometry) -> list[Image.Image]:
        """Latents at sigma 0 as pictures."""
        ...
