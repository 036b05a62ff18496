"""What editors that run on a pipeline of diffusers have in common; a further editor is a subclass in one file."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from editr1.editors.base import EditorOptions
from editr1.editors.context import Batch, Context, Geometry, collate
from editr1.editors.latents import Grid, pack, unpack
from editr1.errors import ModelError
from editr1.images import load_image
from editr1.types import EditTask

_DECODED_AT_ONCE = 4 * 1024**2
"""Pixels that go through the VAE's decoder together."""


class PipelineEditor(ABC):
    """An editor on a pipeline with a flow-matching transformer, a VAE and text encoders.

    The five steps of a pipeline's `__call__` are separate here, because training needs them apart: encoding happens
    once a context, the forward happens in rollout and in replay, and in both it is `velocity`. With the same seed
    the pictures are the pipeline's own, to rounding: a test for every subclass says so. All weights are frozen here;
    what is trained is for the trainer to say.

    Args:
        pipeline: of the class that the subclass is for.
        options: how to use it.
        name: for messages and records.
        fingerprint: of its weights, for contexts kept on disk; empty if unknown.
        autocast: precision of the forward where it is lower than that of the weights, e.g. bfloat16 over weights
            that are trained in float32. Rollout and replay share it, as they share all of `velocity`.

    Attributes:
        trainable: what `velocity` calls; a trainer may put a wrapper of the same module in its place.

    Raises:
        ModelError: if the pipeline's scheduler is not the Euler one for flow matching.
    """

    text_encoders: ClassVar[tuple[str, ...]]
    defaults: ClassVar[EditorOptions]

    def __init__(
        self,
        pipeline: Any,
        options: EditorOptions | None = None,
        *,
        name: str = "",
        fingerprint: str = "",
        autocast: torch.dtype | None = None,
    ) -> None:
        scheduler = pipeline.scheduler
        if type(scheduler).__name__ != "FlowMatchEulerDiscreteScheduler" or scheduler.config.get("stochastic_sampling"):
            raise ModelError(
                f"the pipeline's scheduler is a {type(scheduler).__name__}, or a stochastic one: give a pipeline with "
                "a deterministic FlowMatchEulerDiscreteScheduler"
            )
        self.pipeline = pipeline
        given = {} if options is None else options.model_dump(exclude_none=True)
        self.options = self.defaults.model_copy(update=given)
        self.name = name or type(pipeline).__name__
        self.fingerprint = fingerprint
        self.autocast = autocast
        self.trainable: torch.nn.Module = pipeline.transformer
        for module in (pipeline.transformer, pipeline.vae, *(getattr(pipeline, name) for name in self.text_encoders)):
            module.requires_grad_(False).eval()

    # What a subclass adds -------------------------------------------------------------------------------------------

    @abstractmethod
    def geometry(self, source: Image.Image) -> Geometry:
        """Sizes of the edit of a source picture."""

    @abstractmethod
    def pipeline_arguments(self, task: EditTask) -> dict[str, Any]:
        """Arguments with which the pipeline's `__call__` makes this editor's picture, all but seed and steps."""

    @abstractmethod
    def _encode(self, source: Image.Image, instruction: str, geometry: Geometry) -> dict[str, Tensor]:
        """The tensors of a context: "prompt", "reference", "negative" if there is guidance, and more."""

    @abstractmethod
    def _forward(self, latents: Tensor, timestep: Tensor, batch: Batch, prompt: str) -> Tensor:
        """One call of the transformer: (B, L, C) at timestep (B,) in [0, 1], for the prompt of that name."""

    @abstractmethod
    def _to_latents(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1] -> (1, C/4, 2h, 2w), normalised as the transformer wants them."""

    @abstractmethod
    def _to_pixels(self, latents: Tensor) -> Tensor:
        """(B, C/4, 2h, 2w) -> (B, 3, H, W) in about [-1, 1], the inverse of `_to_latents`."""

    @abstractmethod
    def _is_target(self, name: str) -> bool:
        """Whether a LoRA goes to the linear layer of that name in the transformer."""

    def _guide(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Classifier-free guidance."""
        return negative + self._true_cfg_scale * (positive - negative)

    # What all share -------------------------------------------------------------------------------------------------

    @property
    def lora_targets(self) -> list[str]:
        """Full names of the attention and MLP layers in the transformer's blocks, with a LoRA on them or without."""
        modules = self.pipeline.transformer.named_modules()
        linear = (name for name, module in modules if isinstance(module, torch.nn.Linear))
        return [name for name in (n.removesuffix(".base_layer") for n in linear) if self._is_target(name)]

    @property
    def steps(self) -> int:
        """Of the sampler, where nothing else is said."""
        assert self.options.steps is not None  # the defaults have it
        return self.options.steps

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.trainable.parameters()).device

    @property
    def guided(self) -> bool:
        """Whether there is classifier-free guidance, i.e. a second forward."""
        return self._true_cfg_scale > 1 and self.options.negative_prompt is not None

    @property
    def _true_cfg_scale(self) -> float:
        return self.options.true_cfg_scale or 1.0

    @property
    def _cell(self) -> int:
        """Pixels along a side of a token."""
        return int(self.pipeline.vae_scale_factor) * 2

    def _grid(self, height: int, width: int) -> Grid:
        return height // self._cell, width // self._cell

    @torch.no_grad()
    def encode(self, tasks: Sequence[EditTask]) -> list[Context]:
        """Encode tasks one by one, on the devices where the encoders are, into contexts on the CPU.

        Raises:
            ImageError: if a source picture cannot be read.
            ModelError: if the text encoders were let go of, see `release_encoders`.
        """
        if any(getattr(self.pipeline, name) is None for name in self.text_encoders):
            raise ModelError(f"the text encoders of {self.name} were let go of: load the editor anew to encode more")
        contexts = []
        for task in tasks:
            source = load_image(task.source)
            geometry = self.geometry(source)
            tensors = self._encode(source, task.instruction, geometry)
            contexts.append(Context(task.id, geometry, {name: t.detach().cpu() for name, t in tensors.items()}))
        return contexts

    def batch(self, contexts: Sequence[Context]) -> Batch:
        """Contexts of one geometry, on the transformer's device."""
        return collate(contexts, self.device)

    def noise(self, geometry: Geometry, generators: Sequence[torch.Generator]) -> Tensor:
        """(B, L, C) float32, on the transformer's device; each sample's is what the pipeline draws for it alone."""
        down, across = geometry.grid
        shape = (1, geometry.channels // 4, 2 * down, 2 * across)
        drawn = [torch.randn(shape, generator=g, device=g.device, dtype=torch.float32) for g in generators]
        return torch.cat([pack(one.to(self.device)) for one in drawn])

    def sigmas(self, steps: int, geometry: Geometry) -> Tensor:
        """(steps + 1,) float32 on the CPU, by a scheduler of the pipeline's kind: shifted as its config says."""
        scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
        # linspace in float64, as the pipelines have it, then down: the last bit decides whether noise is exactly 1
        evenly = torch.linspace(1.0, 1 / steps, steps, dtype=torch.float64).numpy()
        scheduler.set_timesteps(sigmas=evenly, mu=_shift(geometry.tokens, scheduler.config))
        return torch.as_tensor(scheduler.sigmas, dtype=torch.float32).cpu()

    def velocity(self, latents: Tensor, sigma: float | Tensor, batch: Batch) -> Tensor:
        """The guided velocity; the one forward that rollout, replay and training call.

        Args:
            latents: (B, L, C) at sigma; float32 in rollouts, whatever the model's precision.
            sigma: in (0, 1], one number or (B,).
            batch: of the same B.

        Returns:
            (B, L, C) in float32 (float64 for a model in float64): guidance is not computed in half precision.
        """
        dtype = self.pipeline.transformer.dtype
        if self.autocast is None:
            precision: Any = contextlib.nullcontext()
        else:
            precision = torch.autocast(latents.device.type, self.autocast)
        train_steps = self.pipeline.scheduler.config.num_train_timesteps
        # through the model's dtype and back, as in the pipelines: in half precision this rounds
        timestep = torch.as_tensor(sigma, dtype=torch.float32, device=latents.device) * train_steps
        timestep = timestep.expand(batch.size).to(dtype) / train_steps
        latents = latents.to(dtype)
        with precision:
            positive = _at_least_float32(self._forward(latents, timestep, batch, "prompt"))
            if not self.guided:
                return positive
            negative = _at_least_float32(self._forward(latents, timestep, batch, "negative"))
        return self._guide(positive, negative)

    @torch.no_grad()
    def decode_tensor(self, latents: Tensor, geometry: Geometry) -> Tensor:
        """(B, L, C) -> (B, 3, H, W) in [0, 1], float32."""
        vae = self.pipeline.vae
        many = max(_DECODED_AT_ONCE // (geometry.height * geometry.width), 1)
        pictures = []
        for part in latents.split(many):
            spread = unpack(part, geometry.grid).to(vae.device, vae.dtype)
            pictures.append((self._to_pixels(spread).float() / 2 + 0.5).clamp(0, 1))
        return torch.cat(pictures)

    def decode(self, latents: Tensor, geometry: Geometry) -> list[Image.Image]:
        """Latents at sigma 0 as pictures, 8 bits RGB."""
        levels = (self.decode_tensor(latents, geometry) * 255).round().to(torch.uint8)
        return [Image.fromarray(one) for one in levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()]

    def move_encoders(self, device: torch.device | str) -> None:
        """Bring the text encoders elsewhere, e.g. to "cpu" while a transformer needs the GPU; `encode` follows."""
        for name in self.text_encoders:
            if (encoder := getattr(self.pipeline, name)) is not None:
                encoder.to(device)
        _empty_cache()

    def release_encoders(self) -> None:
        """Let go of the text encoders for good, once all contexts are encoded: they can outweigh the transformer."""
        for name in self.text_encoders:
            setattr(self.pipeline, name, None)
        _empty_cache()

    def _encode_reference(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1] -> (R, C)."""
        vae = self.pipeline.vae
        return pack(self._to_latents(pixels.to(vae.device, vae.dtype)))[0]


def blocks_linear(name: str, blocks: Iterable[str], layers: Iterable[str]) -> bool:
    """Whether a name like `<blocks>.3.<layer>` is made of one of these blocks and one of these layers."""
    block, _, rest = name.partition(".")
    return block in set(blocks) and rest.partition(".")[2] in set(layers)


def _shift(tokens: int, config: Any) -> float:
    """How far the schedule is shifted towards noise: linear in the tokens, through the two points of the config."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (most - least) / (high - low)
    return float(tokens * slope + (least - slope * low))


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
