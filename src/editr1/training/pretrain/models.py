"""The two embedded editors as pretraining sees them: pictures and texts in batches, with gradients.

Everything that the transformer itself is given is `PipelineEditor.velocity`'s affair, which is also what samples. What
is here, a test holds against `PipelineEditor.encode` and the pipelines' own code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MethodType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editr1.editors import EditorOptions, PipelineEditor, sticker_pipeline, sticker_qwen, wrap
from editr1.judges.qwen_parts import MERGE
from editr1.training.uniform import patchify, uniform_pictures

Tokens = dict[str, npt.NDArray[np.int16]]


class Trainee(ABC):
    """An editor in training.

    Shapes: B pictures of (3, H, W) in [-1, 1] have latents (B, C, h, w).

    Args:
        pipeline: float32.
        device: where it is trained.
    """

    text_models: ClassVar[tuple[str, ...]]
    options: ClassVar[EditorOptions]
    sees_source: ClassVar[bool]
    """Whether the text encoder is shown the source."""

    def __init__(self, pipeline: Any, device: torch.device | str = "cpu") -> None:
        self.pipeline = pipeline.to(device)
        self.vae = pipeline.vae

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return next(self.pipeline.transformer.parameters()).device

    @property
    def trained(self) -> dict[str, nn.Module]:
        """What flow matching trains, by name in the pipeline."""
        return {name: getattr(self.pipeline, name) for name in ("transformer", *self.text_models)}

    def editor(self, autocast: torch.dtype | None = None) -> PipelineEditor:
        """The editor on the pipeline, all weights frozen."""
        return wrap(self.pipeline, self.options, name="in training", autocast=autocast)

    @contextmanager
    def faster(self) -> Iterator[None]:
        """While active, all pictures must be of one size, and texts padded on the right."""
        with nullcontext():
            yield

    def compile(self) -> None:
        """Fuse the blocks, one compilation for all that are alike."""
        transformer = self.pipeline.transformer
        blocks = [*transformer.transformer_blocks, *getattr(transformer, "single_transformer_blocks", ())]
        for block in (*blocks, *self.text_blocks()):
            block.compile(dynamic=True)

    @abstractmethod
    def text_blocks(self) -> list[nn.Module]:
        """The blocks of the text encoders."""

    @abstractmethod
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures, not cut off at -1 and 1: a cut would stop gradients."""

    @abstractmethod
    def normalise(self, latents: Tensor) -> Tensor:
        """As the transformer sees them."""

    @abstractmethod
    def measure_latents(self, latents: Tensor) -> None:
        """Write the latents' mean and deviation into the VAE's config, by which `normalise` goes."""

    @abstractmethod
    def tokenize(self, instructions: Sequence[str]) -> Tokens:
        """Token ids, (N, T) for each of the text encoders' inputs, all rows padded to one length."""

    @abstractmethod
    def embed(self, tokens: Mapping[str, Tensor], sources: Tensor | None = None) -> dict[str, Tensor]:
        """What the transformer is told of instructions, with gradients: the texts of a `Batch`.

        Args:
            tokens: as `tokenize` makes them, int64.
            sources: (B, H, W, 3) uint8, for an editor whose text encoder sees them.
        """


class KontextTrainee(Trainee):
    """A small FLUX.1-Kontext: CLIP's pooled embedding and T5's row, neither masked."""

    text_models = ("text_encoder", "text_encoder_2")
    options = sticker_pipeline.OPTIONS
    sees_source = False

    def text_blocks(self) -> list[nn.Module]:
        """Of T5 and CLIP."""
        clip = self.pipeline.text_encoder
        return [*self.pipeline.text_encoder_2.encoder.block, *getattr(clip, "text_model", clip).encoder.layers]

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `Trainee`."""
        found = self.vae.encode(pixels).latent_dist
        return found.mean, found.logvar

    def decode(self, latents: Tensor) -> Tensor:
        """See `Trainee`."""
        pixels: Tensor = self.vae.decode(latents, return_dict=False)[0]
        return pixels

    def normalise(self, latents: Tensor) -> Tensor:
        """By one mean and one deviation."""
        return (latents - self.vae.config.shift_factor) * self.vae.config.scaling_factor

    def measure_latents(self, latents: Tensor) -> None:
        """See `Trainee`."""
        sticker_pipeline.set_latent_scale(self.pipeline, latents)

    def tokenize(self, instructions: Sequence[str]) -> Tokens:
        """Ids for both encoders."""
        made = {"clip": self.pipeline.tokenizer, "t5": self.pipeline.tokenizer_2}
        length = sticker_pipeline.TEXT_TOKENS
        return {
            name: np.array(
                tokenizer(list(instructions), padding="max_length", max_length=length, truncation=True).input_ids,
                np.int16,
            )
            for name, tokenizer in made.items()
        }

    def embed(self, tokens: Mapping[str, Tensor], sources: Tensor | None = None) -> dict[str, Tensor]:
        """The row "prompt" (B, T, D), and "pooled" (B, P)."""
        pooled = self.pipeline.text_encoder(tokens["clip"], output_hidden_states=False).pooler_output
        return {"prompt": self.pipeline.text_encoder_2(tokens["t5"], output_hidden_states=False)[0], "pooled": pooled}


class QwenTrainee(Trainee):
    """A small Qwen-Image-Edit: a Qwen2.5-VL reads the pipeline's template with the source in it."""

    text_models = ("text_encoder",)
    options = sticker_qwen.OPTIONS
    sees_source = True

    def __init__(self, pipeline: Any, device: torch.device | str = "cpu") -> None:
        super().__init__(pipeline, device)
        self._template, self._cut = sticker_qwen.prompt_template()
        self._pad = pipeline.tokenizer.pad_token_id

    @contextmanager
    def faster(self) -> Iterator[None]:
        """One batch of vision attention, and convolutions over pictures instead of films of one frame."""
        with uniform_pictures(self.pipeline.text_encoder), flat_convolutions(self.vae):
            yield

    def text_blocks(self) -> list[nn.Module]:
        """Of the vision tower and the text model."""
        model = self.pipeline.text_encoder.model
        return [*model.visual.blocks, *model.language_model.layers]

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `Trainee`."""
        mean, logvar = self.vae.quant_conv(self.vae.encoder(pixels.unsqueeze(2)))[:, :, 0].chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)  # as diffusers' distribution clamps

    def decode(self, latents: Tensor) -> Tensor:
        """See `Trainee`."""
        pixels: Tensor = self.vae.decoder(self.vae.post_quant_conv(latents.unsqueeze(2)))[:, :, 0]
        return pixels

    def normalise(self, latents: Tensor) -> Tensor:
        """By mean and deviation of each channel."""
        config = self.vae.config
        mean, std = (latents.new_tensor(list(v)).view(1, -1, 1, 1) for v in (config.latents_mean, config.latents_std))
        return (latents - mean) / std

    def measure_latents(self, latents: Tensor) -> None:
        """See `Trainee`."""
        sticker_qwen.set_latent_statistics(self.pipeline, latents)

    def tokenize(self, instructions: Sequence[str]) -> Tokens:
        """The whole template for each, padded on the right to the longest of them, at least to a usual length."""
        picture = "<|image_pad|>" * sticker_qwen.PICTURE_TOKENS
        texts = [self._template.format(text).replace("<|image_pad|>", picture) for text in instructions]
        rows = self.pipeline.tokenizer(texts).input_ids
        ids = np.full((len(rows), _ROOM), self._pad, np.int16)
        for row, found in zip(ids, rows, strict=True):
            if len(found) > _ROOM:
                raise ValueError(f"an instruction takes {len(found)} tokens with its template, and {_ROOM} fit")
            row[: len(found)] = found
        return {"ids": ids}

    def embed(self, tokens: Mapping[str, Tensor], sources: Tensor | None = None) -> dict[str, Tensor]:
        """The row "prompt" (B, T, D), and "prompt_mask" (B, T) unless all are of one length."""
        assert sources is not None
        ids = tokens["ids"]
        lengths = (ids != self._pad).sum(1)
        ids = ids[:, : int(lengths.max())]
        patches = sticker_pipeline.SIDE // sticker_qwen.PATCH
        # no positions: the pipeline gives none, and what the encoder makes of that depends on transformers' version
        hidden = self.pipeline.text_encoder.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=patchify(sources, sticker_qwen.PATCH, MERGE),
            image_grid_thw=torch.tensor([[1, patches, patches]] * len(ids), device=ids.device),
            use_cache=False,
        ).last_hidden_state[:, self._cut :]
        mask = torch.arange(hidden.shape[1], device=ids.device)[None] < (lengths - self._cut)[:, None]
        if mask.all():
            return {"prompt": hidden}
        return {"prompt": hidden * mask[..., None], "prompt_mask": mask}  # zeros behind the end, as `collate` has them


_ROOM = 120
"""Tokens of the template with a picture and the longest instructions of the domain: 80, and 27 of at most 40."""

TRAINEES: dict[str, type[Trainee]] = {"kontext": KontextTrainee, "qwen": QwenTrainee}


def make_trainee(editor: str, size: str, texts: Sequence[str], seed: int, device: torch.device | str) -> Trainee:
    """An editor with fresh weights.

    Args:
        editor: a key of TRAINEES.
        size: one of its sizes.
        texts: that its tokenizers are learnt from.
        seed: of the weights.
        device: where it will be trained.
    """
    make: Any = {"kontext": sticker_pipeline.make_sticker_kontext, "qwen": sticker_qwen.make_sticker_qwen}[editor]
    return TRAINEES[editor](make(size, texts, seed=seed), device)


@contextmanager
def flat_convolutions(vae: nn.Module) -> Iterator[None]:
    """While active, the causal convolutions of an `AutoencoderKLQwenImage` take a third of the time.

    Before a film's first frame there are zeros, so that of a kernel over three frames only the last third says anything
    about a single picture. Films must not be given meanwhile.
    """
    from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d

    layers: list[Any] = [module for module in vae.modules() if isinstance(module, QwenImageCausalConv3d)]
    for layer in layers:
        layer.forward = MethodType(_flat, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _flat(self: Any, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
    across, _, down, *_ = self._padding
    frame = F.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, self.stride[1:], (down, across))
    return frame.unsqueeze(2)
