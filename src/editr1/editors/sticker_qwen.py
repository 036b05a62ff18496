"""The second embedded editor: a real `QwenImageEditPipeline`, small enough for two CPU cores.

It edits pictures of 96x96 in 36 tokens, as the embedded Kontext does (`sticker_pipeline`). What differs is the
architecture: a causal 3D VAE, a transformer of two-stream blocks only, and a vision-language text encoder that sees the
source too, here as 9 tokens of 32x32 pixels.

The text encoder is a small Qwen2.5-VL of its own, trained with the transformer. The embedded base model
(`sticker-base-small`) would fit the interface, but its 7 M parameters are more than half of what may ship, and its
tokenizer spends another number of tokens on the pipeline's template, of which the pipeline cuts off a fixed number.
Here the tokenizer is learnt so that the cut falls where it should.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from editr1.editors.base import EditorOptions
from editr1.editors.sticker_pipeline import HEAD, SHIFT, SIDE, start_as_convolutions, start_quietly
from editr1.errors import ModelError
from editr1.judges import qwen_parts
from editr1.judges.qwen_parts import MERGE, SPECIAL_TOKENS

if TYPE_CHECKING:
    from diffusers import QwenImageEditPipeline
    from torch import Tensor
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLProcessor

OPTIONS = EditorOptions(area=SIDE * SIDE, reference_area=SIDE * SIDE, steps=12, true_cfg_scale=1.0)
"""Without classifier-free guidance: it is trained on conditional velocities only, and takes one forward a step."""

PATCH = 16
PICTURE_TOKENS = (SIDE // (PATCH * MERGE)) ** 2
"""Tokens as which the text encoder sees a source."""


@dataclass(frozen=True, slots=True)
class Size:
    """Dimensions of a sticker editor.

    Attributes:
        width: of the transformer, a multiple of HEAD; blocks: their number.
        text_width, text_layers: of the text model.
        vision_width, vision_layers: of the vision tower.
        vae_width, vae_factors: channels of its first level, and what multiplies them at each of the four.
        latent_channels: of the VAE.
        vocabulary: of the tokenizer.
    """

    width: int
    blocks: int
    text_width: int
    text_layers: int
    vision_width: int
    vision_layers: int
    vae_width: int
    vae_factors: tuple[int, int, int, int]
    latent_channels: int
    vocabulary: int


SIZES: dict[str, Size] = {
    "small": Size(192, 5, 192, 2, 128, 2, 32, (1, 2, 2, 2), 32, 1024),
}


def make_sticker_qwen(size: str, texts: Iterable[str], *, seed: int = 0) -> QwenImageEditPipeline:
    """A pipeline with fresh weights, float32, on the CPU; `save_pretrained` writes it as any other.

    Args:
        size: a key of SIZES: "small" has about 12 M parameters in all.
        texts: what the tokenizer is learnt from: some thousand instructions of the domain.
        seed: of the weights; the global random state is left as it was.

    Raises:
        KeyError: if the size is unknown.
        ModelError: if the pipeline's template takes another number of tokens than it cuts off.
    """
    import diffusers
    import torch

    dims = SIZES[size]
    processor = make_processor(learn_tokenizer(texts, dims.vocabulary))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _make_encoder(dims, processor.tokenizer)
        vae: Any = diffusers.AutoencoderKLQwenImage(
            base_dim=dims.vae_width,
            z_dim=dims.latent_channels,
            dim_mult=list(dims.vae_factors),
            num_res_blocks=1,
            temperal_downsample=[False] * 3,  # of pictures alone; its length says how far it compresses
            latents_mean=[0.0] * dims.latent_channels,
            latents_std=[1.0] * dims.latent_channels,
        )
        transformer: Any = diffusers.QwenImageTransformer2DModel(
            in_channels=4 * dims.latent_channels,
            out_channels=dims.latent_channels,
            num_layers=dims.blocks,
            num_attention_heads=dims.width // HEAD,
            attention_head_dim=HEAD,
            joint_attention_dim=dims.text_width,
            axes_dims_rope=(8, 28, 28),
        )
    start_quietly(transformer)
    start_as_convolutions(vae)
    pipeline: Any = diffusers.QwenImageEditPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae.eval(),
        text_encoder=encoder.eval(),
        tokenizer=processor.tokenizer,
        processor=processor,
        transformer=transformer.eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def prompt_template() -> tuple[str, int]:
    """The pipeline's template, with `{}` for the instruction, and how many of its first tokens it cuts off."""
    import diffusers

    kind: Any = diffusers.QwenImageEditPipeline
    parts = ("scheduler", "vae", "text_encoder", "tokenizer", "processor", "transformer")
    empty = kind(**dict.fromkeys(parts))
    return empty.prompt_template_encode, empty.prompt_template_encode_start_idx


def learn_tokenizer(texts: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """A byte-level BPE that has every word of the pipeline's template as one token, as Qwen's own has.

    Args:
        texts: that it shall write with few tokens, besides.
        vocab_size: 256 bytes, the special tokens, and merges.

    Raises:
        ModelError: if the template's first part takes another number of tokens than the pipeline cuts off.
    """
    template, cut = prompt_template()
    for token in SPECIAL_TOKENS:
        template = template.replace(token, "\n")  # not a space, which would become part of the next word
    corpus = list(texts)
    # as often as all texts together, so that its words come before theirs
    corpus += [template] * (len(corpus) + 10)
    tokenizer = qwen_parts.learn_tokenizer(corpus, vocab_size - len(SPECIAL_TOKENS))
    found = len(tokenizer(prompt_template()[0].partition("<|vision_start|>")[0]).input_ids)
    if found != cut:
        raise ModelError(
            f"the template of QwenImageEditPipeline takes {found} tokens before the picture, and {cut} are cut off: "
            f"give a vocabulary larger than {vocab_size}, or another version of diffusers"
        )
    return tokenizer


def make_processor(tokenizer: Qwen2Tokenizer) -> Qwen2VLProcessor:
    """Processor of the text encoder, of the class that the pipeline asks for: brings pictures to about SIDE x SIDE."""
    return qwen_parts.of_qwen2_vl(qwen_parts.make_processor(tokenizer, patch_size=PATCH, max_pixels=SIDE * SIDE))


def _make_encoder(dims: Size, tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text: dict[str, Any] = {
        "vocab_size": dims.vocabulary,
        "hidden_size": dims.text_width,
        "intermediate_size": 5 * dims.text_width // 2,
        "num_hidden_layers": dims.text_layers,
        "num_attention_heads": dims.text_width // HEAD,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [8, 12, 12]},
    }
    vision: dict[str, Any] = {
        "depth": dims.vision_layers,
        "hidden_size": dims.vision_width,
        "intermediate_size": 5 * dims.vision_width // 2,
        "num_heads": max(dims.vision_width // HEAD, 1),
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "window_size": SIDE,
        "out_hidden_size": dims.text_width,
        "fullatt_block_indexes": list(range(dims.vision_layers)),
    }
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    ids: dict[str, Any] = {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def set_latent_statistics(pipeline: Any, latents: Tensor) -> None:
    """Write the mean of each channel of the VAE's latents into its config, and one deviation for all of them.

    With a deviation for each, the fine would count as much as the coarse (`training.pretrain.components`).

    Args:
        pipeline: whose VAE made the latents.
        latents: (N, C, h, w), the modes of the latents of many pictures.
    """
    channels = latents.transpose(0, 1).flatten(1)
    mean = channels.mean(1, keepdim=True)
    spread = (channels - mean).square().mean().sqrt().item()
    pipeline.vae.register_to_config(latents_mean=mean[:, 0].tolist(), latents_std=[spread] * len(channels))
