"""A tiny random vision-language model of a real architecture, made on the fly, for tests without downloads.

`tiny_qwen` gives a `Qwen2_5_VLForConditionalGeneration` of a few hundred thousand random weights with a processor
that works like the real one: it answers nonsense, yet everything around it (chat template, placeholders, windows,
three-axis positions, end tokens, saving, loading, serving) is the code that runs the 7B model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from editr1.judges.qwen_parts import SPECIAL_TOKENS, learn_tokenizer, make_processor

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, Qwen2Tokenizer

# What the merges of the tokenizer are learnt from: words that editing instructions and verdicts are made of.
_CORPUS = (
    "Is the red circle on the left gone from the picture? Is the background unchanged? Is the picture sharp?",
    "Add a blue star above the cat. Remove the hat. Replace the dog with a bird. Change the text to hello.",
    '[{"id": 1, "reason": "the star is there", "score": 1}] {"average_score": 0.50} <score>5.0</score>',
    "source picture edited picture instruction principles question score reason answer follow keep quality yes no",
)


def tiny_tokenizer(vocab_size: int = 384) -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer: 256 bytes, up to `vocab_size - 263` merges, and the special tokens of Qwen2.5-VL.

    Any text goes through it and back unchanged. The end token is `<|im_end|>`, padding is `<|endoftext|>`, on the
    left.
    """
    from tokenizers import pre_tokenizers

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return learn_tokenizer(_CORPUS, vocab_size - len(SPECIAL_TOKENS), splitter)


def tiny_processor(*, patch_size: int = 8, vocab_size: int = 384, max_pixels: int = 256 * 256) -> Qwen2_5_VLProcessor:
    """Tokenizer, picture and chat template; two by two patches merge into one token (96x96 -> 36 tokens)."""
    return make_processor(tiny_tokenizer(vocab_size), patch_size=patch_size, max_pixels=max_pixels)


def tiny_qwen(
    folder: str | Path | None = None,
    *,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    vision_hidden_size: int = 32,
    vision_depth: int = 2,
    patch_size: int = 8,
    vocab_size: int = 384,
    max_position_embeddings: int = 8192,
    tie_word_embeddings: bool = True,
    initializer_range: float = 0.2,
    seed: int = 0,
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """Make a tiny random Qwen2.5-VL and its processor; the same arguments give the same weights.

    Args:
        folder: also save both there, loadable with `AutoModelForImageTextToText` and `AutoProcessor`.
        hidden_size: of the text model; `hidden_size / heads` must be a multiple of 4.
        layers: blocks of the text model.
        heads: query heads of the text model.
        kv_heads: key and value heads of the text model; divides `heads`.
        vision_hidden_size: width of the vision tower.
        vision_depth: blocks of the vision tower; the last attends over the whole picture, the others in windows of
            8x8 patches.
        patch_size: in pixels; a picture token covers two by two patches.
        vocab_size: 256 bytes, 7 special tokens and merges; also the size of the embedding.
        max_position_embeddings: longest sequence, in tokens.
        tie_word_embeddings: use the embedding as output layer too.
        initializer_range: standard deviation of the weights. Larger than usual, so that the logits lie well apart
            and greedy answers do not depend on the last bits of a sum.
        seed: of the weights; the global random state is left as it was.

    Returns:
        The model, in evaluation mode, float32, on the CPU; and the processor.
    """
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    processor = tiny_processor(patch_size=patch_size, vocab_size=vocab_size)
    tokenizer = processor.tokenizer
    half = hidden_size // heads // 2
    text: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": max_position_embeddings,
        "initializer_range": initializer_range,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": tie_word_embeddings,
        # time, height and width share the rotary dimensions about as 2 : 3 : 3, as in the large models
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [half - 2 * (half * 3 // 8), half * 3 // 8, half * 3 // 8],
        },
    }
    vision: dict[str, Any] = {
        "depth": vision_depth,
        "hidden_size": vision_hidden_size,
        "intermediate_size": 2 * vision_hidden_size,
        "num_heads": 2,
        "patch_size": patch_size,
        "spatial_merge_size": 2,
        "window_size": 8 * patch_size,
        "out_hidden_size": hidden_size,
        "fullatt_block_indexes": [vision_depth - 1],
        "initializer_range": initializer_range,
    }
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=tie_word_embeddings,
        **{key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.do_sample = False
    if folder is not None:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return model, processor
