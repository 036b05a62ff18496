"""What small models of Qwen2.5-VL's architecture are made of besides weights: tokens, chat template, processor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLProcessor, Qwen2Tokenizer, Qwen2VLProcessor

MERGE = 2
"""A picture token covers so many patches each way."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# One turn is  <|im_start|>ROLE \n CONTENT <|im_end|> \n ; a picture is one placeholder that the processor widens.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] in ('image', 'image_url') -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""


def learn_tokenizer(texts: Iterable[str], vocab_size: int, splitter: Any = None) -> Qwen2Tokenizer:
    """Learn a byte-level BPE; any text goes through it and back unchanged.

    The end token is `<|im_end|>`, padding is `<|endoftext|>`, on the left.

    Args:
        texts: to learn the merges from.
        vocab_size: 256 bytes and the merges; the special tokens come on top.
        splitter: cuts texts into words, which no merge crosses; Qwen's own by default.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer if splitter is None else splitter
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    bpe = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(pair) for pair in bpe["merges"]]
    return Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=merges,
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        padding_side="left",
    )


def make_processor(tokenizer: Qwen2Tokenizer, *, patch_size: int, max_pixels: int) -> Qwen2_5_VLProcessor:
    """Tokenizer, pictures and chat template; larger pictures are brought down to about `max_pixels`.

    Args:
        tokenizer: with the special tokens.
        patch_size: in pixels; a picture token covers MERGE by MERGE patches.
        max_pixels: of a picture.
    """
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    size = {"shortest_edge": (patch_size * MERGE) ** 2, "longest_edge": max_pixels}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=patch_size, merge_size=MERGE, size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(patch_size=patch_size, merge_size=MERGE, size=size),
        chat_template=CHAT_TEMPLATE,
    )


def of_qwen2_vl(processor: Qwen2_5_VLProcessor) -> Qwen2VLProcessor:
    """The same parts as the class that diffusers' QwenImageEditPipeline, and Qwen-Image-Edit with it, asks for."""
    from transformers import Qwen2VLProcessor

    names = ("image_processor", "tokenizer", "video_processor", "chat_template")
    return Qwen2VLProcessor(**{name: getattr(processor, name) for name in names})
