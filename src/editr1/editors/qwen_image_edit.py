"""Qwen-Image-Edit, on `QwenImageEditPipeline`, and its successors 2509 and 2511, on `QwenImageEditPlusPipeline`.

The text encoder is a vision-language model that sees the source picture too, so that even the negative prompt belongs
to its context. Classifier-free guidance takes two forwards, and the result is brought back to the length of the
conditional velocity, token by token, in rollout and replay alike.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editr1.editors.base import EditorOptions
from editr1.editors.context import Batch, Geometry
from editr1.editors.latents import cut, sides
from editr1.editors.pipeline import PipelineEditor, blocks_linear
from editr1.images import load_image
from editr1.types import EditTask

_AREA = 1024**2
_CONDITION_AREA = 384**2
_MULTIPLE = 32
"""Sides of the pictures are rounded to this before they are cut to whole tokens."""

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_LORA = (
    *(f"attn.{name}" for name in _ATTENTION),
    *(f"{name}.net.{layer}" for name in ("img_mlp", "txt_mlp") for layer in ("0.proj", "2")),
)


class QwenImageEditEditor(PipelineEditor):
    """An editor of the kind of Qwen-Image-Edit. Text encoder and VAE see the source at the same size.

    The pipeline always shows the source at about 1024x1024, also where the edited picture is smaller: only with
    `reference_area` left open are the pictures the pipeline's own.
    """

    text_encoders = ("text_encoder",)
    defaults = EditorOptions(
        area=_AREA, reference_area=_AREA, steps=50, true_cfg_scale=4.0, negative_prompt=" ", max_text_tokens=1024
    )

    def geometry(self, source: Image.Image) -> Geometry:
        """The edited picture has the source's aspect and the area of the options, cut to whole tokens."""
        height, width = cut(self._sides(self.options.area, source), self._cell)
        reference = cut(self._sides(self.options.reference_area, source), self._cell)
        channels = self.pipeline.transformer.config.in_channels
        return Geometry(height, width, self._grid(height, width), (self._grid(*reference),), channels)

    def pipeline_arguments(self, task: EditTask) -> dict[str, Any]:
        """For `QwenImageEditPipeline.__call__` or `QwenImageEditPlusPipeline.__call__`."""
        source = load_image(task.source)
        geometry = self.geometry(source)
        return {
            "image": source,
            "prompt": task.instruction,
            "negative_prompt": self.options.negative_prompt if self.guided else None,
            "true_cfg_scale": self._true_cfg_scale,
            "height": geometry.height,
            "width": geometry.width,
        } | ({"guidance_scale": self.options.guidance_scale} if self._distilled else {})

    @property
    def _distilled(self) -> bool:
        return bool(self.pipeline.transformer.config.guidance_embeds)

    def _sides(self, area: int | None, source: Image.Image) -> tuple[int, int]:
        return sides(area or _AREA, source.width / source.height, _MULTIPLE)

    def _views(self, source: Image.Image) -> tuple[Any, Tensor]:
        """What the text encoder sees, and pixels (1, 3, H, W) in [-1, 1] for the VAE."""
        processor = self.pipeline.image_processor
        size = self._sides(self.options.reference_area, source)
        seen = processor.resize(source, *size)
        return seen, processor.preprocess(seen, *size)

    def _encode(self, source: Image.Image, instruction: str, geometry: Geometry) -> dict[str, Tensor]:
        seen, pixels = self._views(source)
        tensors = {"prompt": self._text(instruction, seen), "reference": self._encode_reference(pixels)}
        if self.guided:
            tensors["negative"] = self._text(self.options.negative_prompt or " ", seen)
        return tensors

    def _text(self, text: str, seen: Any) -> Tensor:
        """(T, D), without padding."""
        embedded, mask = self.pipeline.encode_prompt(
            prompt=[text],
            image=seen,
            device=self.pipeline.text_encoder.device,
            max_sequence_length=self.options.max_text_tokens,
        )
        return embedded[0] if mask is None else embedded[0][mask[0].bool()]

    def _forward(self, latents: Tensor, timestep: Tensor, batch: Batch, prompt: str) -> Tensor:
        geometry, tensors, dtype = batch.geometry, batch.tensors, latents.dtype
        guidance = None
        if self._distilled:
            guidance = latents.new_full((batch.size,), self.options.guidance_scale or 0.0, dtype=torch.float32)
        velocity: Tensor = self.trainable(
            hidden_states=torch.cat([latents, tensors["reference"].to(dtype)], dim=1),
            timestep=timestep,
            guidance=guidance,
            encoder_hidden_states=tensors[prompt].to(dtype),
            encoder_hidden_states_mask=tensors.get(f"{prompt}_mask"),
            img_shapes=[[(1, *grid) for grid in (geometry.grid, *geometry.references)]] * batch.size,
            return_dict=False,
        )[0]
        return velocity[:, : latents.shape[1]]

    def _guide(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Classifier-free guidance; every token keeps the length of its conditional velocity."""
        guided = super()._guide(positive, negative)
        return guided * (positive.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))

    def _to_latents(self, pixels: Tensor) -> Tensor:
        mean, std = self._statistics(pixels)
        latents: Tensor = self.pipeline.vae.encode(pixels.unsqueeze(2)).latent_dist.mode()
        return ((latents - mean) / std)[:, :, 0]

    def _to_pixels(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        pixels: Tensor = self.pipeline.vae.decode(latents.unsqueeze(2) * std + mean, return_dict=False)[0]
        return pixels[:, :, 0]

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, (1, C/4, 1, 1, 1)."""
        config = self.pipeline.vae.config
        mean, std = like.new_tensor(list(config.latents_mean)), like.new_tensor(list(config.latents_std))
        return mean.reshape(1, -1, 1, 1, 1), std.reshape(1, -1, 1, 1, 1)

    def _is_target(self, name: str) -> bool:
        return blocks_linear(name, ["transformer_blocks"], _LORA)


class QwenImageEditPlusEditor(QwenImageEditEditor):
    """An editor of the kind of Qwen-Image-Edit-2509 and -2511: its text encoder sees a smaller source than its VAE."""

    defaults = QwenImageEditEditor.defaults.model_copy(update={"steps": 40, "condition_area": _CONDITION_AREA})

    def _views(self, source: Image.Image) -> tuple[Any, Tensor]:
        processor = self.pipeline.image_processor
        condition = sides(self.options.condition_area or _CONDITION_AREA, source.width / source.height, _MULTIPLE)
        pixels = processor.preprocess(source, *self._sides(self.options.reference_area, source))
        return [processor.resize(source, *condition)], pixels
