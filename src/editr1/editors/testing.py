"""Tiny random pipelines of the real classes, made on the fly, for tests without downloads.

Their pictures are nonsense, yet tokenizers, text encoders, VAE, transformer, position ids, schedule, saving and loading
are the code that runs the large models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from editr1.editors.base import EditorOptions
from editr1.editors.sticker_pipeline import assemble_kontext
from editr1.editors.tokenizers import learn_clip_tokenizer, learn_t5_tokenizer

if TYPE_CHECKING:
    from diffusers import FluxKontextPipeline, QwenImageEditPipeline, QwenImageEditPlusPipeline

SIDE = 32
"""Pictures of SIDE x SIDE are 4x4 tokens."""

KONTEXT_OPTIONS = EditorOptions(area=SIDE * SIDE, reference_area=SIDE * SIDE, steps=4, max_text_tokens=24)
QWEN_OPTIONS = EditorOptions(area=SIDE * SIDE, reference_area=64 * 64, condition_area=32 * 32, steps=4)

_TEXTS = (
    "add a blue star above the cat", "remove the hat from the picture", "replace the dog with a bird",
    "make the picture darker and the car red", "change the text to hello", "blurry, low quality",
)  # fmt: skip

# Fresh transformers hardly say anything: their last layer is small. Larger weights make every input matter.
_LOUDNESS = 3.0


def tiny_kontext(*, guidance_embeds: bool = True, seed: int = 0) -> FluxKontextPipeline:
    """A `FluxKontextPipeline` of about 200 thousand random weights, float32, on the CPU.

    Its VAE compresses 4 times, the schedule is shifted by the number of tokens as FLUX's is.

    Args:
        guidance_embeds: whether the transformer is told a guidance scale, as that of FLUX.1-Kontext-dev is.
        seed: of the weights; the global random state is left as it was.
    """
    pipeline: Any = assemble_kontext(
        learn_clip_tokenizer(_TEXTS, 560, 24),
        learn_t5_tokenizer(_TEXTS, 200, 24),
        transformer={
            "in_channels": 16,
            "num_layers": 1,
            "num_single_layers": 1,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "axes_dims_rope": (4, 6, 6),
            "guidance_embeds": guidance_embeds,
        },
        vae={"block_out_channels": (8, 16, 16), "latent_channels": 4, "norm_num_groups": 4, "sample_size": SIDE},
        text={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        text_2={"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
        scheduler={"use_dynamic_shifting": True, "shift": 3.0},
        seed=seed,
    )
    pipeline.vae.register_to_config(shift_factor=0.11, scaling_factor=0.36)
    _speak_up(pipeline.transformer)
    return pipeline


def tiny_qwen_edit(
    *, plus: bool = False, zero_cond_t: bool = False, levels: int = 3, seed: int = 0
) -> QwenImageEditPipeline | QwenImageEditPlusPipeline:
    """A `QwenImageEditPipeline` of about 400 thousand random weights, float32, on the CPU.

    The schedule is shifted and ends at 0.02, as Qwen-Image's does.

    Args:
        plus: make a `QwenImageEditPlusPipeline`, as Qwen-Image-Edit-2509 and -2511 are.
        zero_cond_t: show the reference picture at timestep 0, as 2511 does.
        levels: of the VAE, which compresses 2^(levels - 1) times.
        seed: of the weights; the global random state is left as it was.
    """
    import diffusers
    import torch

    from editr1.judges.qwen_parts import of_qwen2_vl
    from editr1.judges.testing import tiny_qwen

    encoder: Any
    encoder, processor = tiny_qwen(seed=seed, initializer_range=0.05)
    latent_channels = 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae: Any = diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=latent_channels,
            dim_mult=[1, *[2] * (levels - 1)],
            num_res_blocks=1,
            temperal_downsample=[False, *[True] * (levels - 2)],
            latents_mean=[-0.1, 0.0, 0.1, 0.2],
            latents_std=[0.8, 0.9, 1.1, 1.2],
        )
        transformer: Any = diffusers.QwenImageTransformer2DModel(
            in_channels=4 * latent_channels,
            out_channels=latent_channels,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=16,
            joint_attention_dim=encoder.config.text_config.hidden_size,
            axes_dims_rope=(4, 6, 6),
            zero_cond_t=zero_cond_t,
        )
    _speak_up(transformer)
    kind: Any = diffusers.QwenImageEditPlusPipeline if plus else diffusers.QwenImageEditPipeline
    pipeline = kind(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        vae=vae.eval(),
        text_encoder=encoder,
        tokenizer=processor.tokenizer,
        processor=of_qwen2_vl(processor),
        transformer=transformer.eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _speak_up(transformer: Any) -> None:
    import torch

    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.ndim == 2:
                parameter.mul_(_LOUDNESS)
