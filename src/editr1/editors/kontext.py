"""FLUX.1-Kontext, on `FluxKontextPipeline`.

The reference picture's tokens follow those of the edited picture, told apart by the first of three position ids. Text
is a row of T5 embeddings, padded to a fixed length without a mask, and a pooled CLIP embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editr1.editors.base import EditorOptions
from editr1.editors.context import Batch, Geometry
from editr1.editors.latents import cut, position_ids, sides
from editr1.editors.pipeline import PipelineEditor, blocks_linear
from editr1.images import load_image
from editr1.types import EditTask

_AREA = 1024**2
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_LORA = {
    "transformer_blocks": (
        *(f"attn.{name}" for name in _ATTENTION),
        *(f"{name}.net.{layer}" for name in ("ff", "ff_context") for layer in ("0.proj", "2")),
    ),
    "single_transformer_blocks": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out"),
}


class KontextEditor(PipelineEditor):
    """An editor of the kind of FLUX.1-Kontext-dev.

    With `reference_area` left open, the source is brought to the nearest of the sizes that Kontext was trained on
    (about 1024x1024), as the pipeline does; at 512x512 that is four times the tokens of the edited picture.
    """

    text_encoders = ("text_encoder", "text_encoder_2")
    defaults = EditorOptions(area=_AREA, steps=28, guidance_scale=2.5, max_text_tokens=512)

    def geometry(self, source: Image.Image) -> Geometry:
        """The edited picture has the source's aspect and the area of the options, cut to whole tokens."""
        height, width = cut(sides(self.options.area or _AREA, source.width / source.height), self._cell)
        reference = self._grid(*self._reference_size(source))
        channels = self.pipeline.transformer.config.in_channels
        return Geometry(height, width, self._grid(height, width), (reference,), channels)

    def pipeline_arguments(self, task: EditTask) -> dict[str, Any]:
        """For `FluxKontextPipeline.__call__`."""
        source = load_image(task.source)
        geometry = self.geometry(source)
        return {
            "image": self.pipeline.image_processor.resize(source, *self._reference_size(source)),
            "prompt": task.instruction,
            "negative_prompt": self.options.negative_prompt if self.guided else None,
            "true_cfg_scale": self._true_cfg_scale,
            "guidance_scale": self.options.guidance_scale,
            "height": geometry.height,
            "width": geometry.width,
            "max_area": geometry.height * geometry.width,
            "max_sequence_length": self.options.max_text_tokens,
            "_auto_resize": False,
        }

    def _reference_size(self, source: Image.Image) -> tuple[int, int]:
        aspect = source.width / source.height
        if self.options.reference_area is not None:
            return cut(sides(self.options.reference_area, aspect), self._cell)
        from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

        _, width, height = min((abs(aspect - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
        return cut((height, width), self._cell)

    def _encode(self, source: Image.Image, instruction: str, geometry: Geometry) -> dict[str, Tensor]:
        processor = self.pipeline.image_processor
        size = self._reference_size(source)
        pixels = processor.preprocess(processor.resize(source, *size), *size)
        prompt, pooled = self._text(instruction)
        tensors = {"prompt": prompt, "pooled": pooled, "reference": self._encode_reference(pixels)}
        if self.guided:
            tensors["negative"], tensors["negative_pooled"] = self._text(self.options.negative_prompt or "")
        return tensors

    def _text(self, text: str) -> tuple[Tensor, Tensor]:
        """(T, D) and (P,)."""
        prompt, pooled, _ = self.pipeline.encode_prompt(
            prompt=[text],
            prompt_2=None,
            device=self.pipeline.text_encoder.device,
            max_sequence_length=self.options.max_text_tokens,
        )
        return prompt[0], pooled[0]

    def _forward(self, latents: Tensor, timestep: Tensor, batch: Batch, prompt: str) -> Tensor:
        geometry, tensors, dtype = batch.geometry, batch.tensors, latents.dtype
        text = tensors[prompt].to(dtype)
        pictures = [position_ids(grid, min(n, 1)) for n, grid in enumerate((geometry.grid, *geometry.references))]
        guidance = None
        if self.pipeline.transformer.config.guidance_embeds:
            guidance = latents.new_full((batch.size,), self.options.guidance_scale or 0.0, dtype=torch.float32)
        velocity: Tensor = self.trainable(
            hidden_states=torch.cat([latents, tensors["reference"].to(dtype)], dim=1),
            timestep=timestep,
            guidance=guidance,
            pooled_projections=tensors["pooled" if prompt == "prompt" else f"{prompt}_pooled"].to(dtype),
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=latents.device, dtype=dtype),
            img_ids=torch.cat(pictures).to(latents.device, dtype),
            return_dict=False,
        )[0]
        return velocity[:, : latents.shape[1]]

    def _to_latents(self, pixels: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents: Tensor = vae.encode(pixels).latent_dist.mode()
        return (latents - vae.config.shift_factor) * vae.config.scaling_factor

    def _to_pixels(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        pixels: Tensor = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0]
        return pixels

    def _is_target(self, name: str) -> bool:
        return any(blocks_linear(name, [blocks], layers) for blocks, layers in _LORA.items())
