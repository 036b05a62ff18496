"""The embedded vision-language models: real Qwen2.5-VL classes, small sizes, a tokenizer of the domain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editr1.judges import qwen_parts
from editr1.judges.base import Text
from editr1.judges.qwen_parts import MERGE, SPECIAL_TOKENS, learn_tokenizer
from editr1.stickers.examples import EXAMPLES
from editr1.stickers.kinds import SIDE

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, Qwen2Tokenizer

PATCH = 8
IMAGE_TOKENS = (SIDE // (PATCH * MERGE)) ** 2
"""Tokens of one sticker picture: 36."""

FORM_TOKENS = (
    '[{"id": ', '{"id": ', ', "reason": "', '", "score": 1},\n', '", "score": 0},\n', '", "score": 1}]\n',
    '", "score": 0}]\n', '{"average_score": ', "}\n<score>", "</score>", '{"question": "', '", "category": "',
    "Instruction Following", "Feature Preservation", "Image Quality", '"},\n', '"}]', "[{",
)  # fmt: skip
"""The fixed parts of an answer are one token each: a third of the tokens, and of the time, of plain BPE."""

DECISION_TOKENS = [t for t in FORM_TOKENS if t.startswith('", "score": ')]
"""Those that hold the 0 or 1 of a check."""

VOCABULARY = 1280
HEAD = 64
"""Width of an attention head: few and wide ones are faster on CPUs."""


@dataclass(frozen=True, slots=True)
class Size:
    """Dimensions of a model; heads are HEAD wide."""

    hidden: int
    layers: int
    kv_heads: int
    intermediate: int
    vision_hidden: int
    vision_depth: int
    vision_intermediate: int


SIZES: dict[str, Size] = {
    "small": Size(256, 6, 2, 640, 192, 4, 512),  # 7 M parameters, in the place of Qwen2.5-VL-3B
    "large": Size(320, 8, 5, 736, 192, 5, 512),  # 12 M parameters, in the place of Qwen2.5-VL-7B
}


def train_tokenizer(examples: int = 6000) -> Qwen2Tokenizer:
    """Learn a byte-level BPE on the text of the domain; any other text still goes through it, byte by byte."""
    from tokenizers import AddedToken

    tokenizer = learn_tokenizer(_texts(examples), VOCABULARY - len(SPECIAL_TOKENS) - len(FORM_TOKENS))
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in FORM_TOKENS])
    return tokenizer


def _texts(examples: int) -> Iterable[str]:
    for name in ("describe", "verify"):
        make = EXAMPLES[name]
        for index in range(examples if name == "verify" else examples // 3):
            example = make("tokenizer", index)
            parts = [p.text for m in example.messages for p in m.content if isinstance(p, Text)]
            for text in (*parts, example.answer):
                for form in FORM_TOKENS:
                    text = text.replace(form, "\n")
                yield text


def make_processor(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLProcessor:
    """Processor of the embedded models: larger pictures are brought down to about SIDE x SIDE pixels."""
    return qwen_parts.make_processor(tokenizer, patch_size=PATCH, max_pixels=SIDE * SIDE)


def make_model(size: str, tokenizer: Qwen2Tokenizer, seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """A model with fresh weights, float32, on the CPU."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    dims = SIZES[size]
    text: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": dims.hidden,
        "intermediate_size": dims.intermediate,
        "num_hidden_layers": dims.layers,
        "num_attention_heads": dims.hidden // HEAD,
        "num_key_value_heads": dims.kv_heads,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [8, 12, 12]},
    }
    vision: dict[str, Any] = {
        "depth": dims.vision_depth,
        "hidden_size": dims.vision_hidden,
        "intermediate_size": dims.vision_intermediate,
        "num_heads": dims.vision_hidden // HEAD,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "window_size": SIDE,
        "out_hidden_size": dims.hidden,
        "fullatt_block_indexes": list(range(dims.vision_depth)),
    }
    names: dict[str, str] = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    ids: dict[str, Any] = {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.do_sample = False
    return model


def save(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path) -> None:
    """Write both as bfloat16 safetensors and JSON, loadable with the Auto classes by path."""
    import copy

    import torch

    folder.mkdir(parents=True, exist_ok=True)
    half: Any = copy.deepcopy(model)
    half.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
