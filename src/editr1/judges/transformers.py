"""A judge that runs an image-text-to-text model in this process, through transformers."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import GenerationConfig, LogitsProcessorList

from editr1.errors import ConfigError, ModelError
from editr1.judges.base import ChatReply, ChatRequest, Message, OnReply, Picture, ReplyStatus, Sampling, Text
from editr1.judges.loading import load, require_chat
from editr1.judges.names import resolve_model
from editr1.judges.sampling import SeededDraw, row_seed
from editr1.types import Usage

_log = logging.getLogger(__name__)

ENGINES = ("auto", "fast", "generate")


class _Engine(Protocol):
    def generate(self, requests: Sequence[ChatRequest], on_reply: OnReply | None = None) -> list[ChatReply]: ...


class TransformersJudge:
    """Answers with a local model, in batches.

    With `engine="auto"`, models that `editr1.judges.fast` supports run on its shared-prefix engine, others on
    `model.generate`. Temperature 0 is greedy. Sampled answers with a seed depend on the seed and `fresh` alone, not
    on batch mates, up to rounding: sums over a padded batch differ in their last bits, which can tip a near tie. The
    same seed draws other numbers on another engine or kind of device.

    Args:
        model: a folder, a hub id, or a shipped model's name such as "embedded".
        device: e.g. "cuda:1"; default is the first GPU, else the CPU.
        dtype: e.g. "bfloat16"; default is the checkpoint's own on a GPU, float32 on the CPU.
        batch_size: most chats at a time; halved when memory runs out. Default: 8, or the fast engine's own.
        adapter: folder or hub id of a LoRA adapter, which is merged into the weights.
        revision: of a hub model.
        max_pixels: larger pictures are scaled down to this area first, keeping their aspect; the model's own bounds
            apply after that.
        min_pixels: smaller pictures are scaled up to this area.
        trust_remote_code: run code that comes with the model.
        engine: "auto", "fast" or "generate".

    Raises:
        ModelError: if the model cannot be found or used.
        ConfigError: if an option is out of range.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | None = None,
        adapter: str | None = None,
        revision: str | None = None,
        max_pixels: int | None = None,
        min_pixels: int | None = None,
        trust_remote_code: bool = False,
        engine: str = "auto",
    ) -> None:
        self._set_options(batch_size, max_pixels, min_pixels, engine)
        loaded = load(
            resolve_model(model),
            device=device,
            dtype=dtype,
            adapter=adapter,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        name = str(model) if adapter is None else f"{model}+{adapter}"
        self._set_model(loaded.model, loaded.processor, name, loaded.fingerprint)

    @classmethod
    def from_objects(
        cls,
        model: Any,
        processor: Any,
        *,
        name: str,
        fingerprint: str | None = None,
        batch_size: int | None = None,
        max_pixels: int | None = None,
        min_pixels: int | None = None,
        engine: str = "auto",
    ) -> TransformersJudge:
        """A judge around a model that is in memory already, for instance one that is being trained.

        Args:
            model: an image-text-to-text model; it is used where it is, in evaluation mode while it answers.
            processor: the model's.
            name: for people.
            fingerprint: for caches; by default one that is never used again, because weights in memory may change.
            batch_size: as for the class, like the rest.
            max_pixels: likewise.
            min_pixels: likewise.
            engine: likewise.

        Raises:
            ModelError: if the processor has no chat template or reads no pictures.
        """
        judge = cls.__new__(cls)
        judge._set_options(batch_size, max_pixels, min_pixels, engine)
        require_chat(processor, name)
        judge._set_model(model, processor, name, fingerprint or f"transformers:object:{uuid.uuid4().hex}")
        return judge

    def _set_options(self, batch_size: int | None, max_pixels: int | None, min_pixels: int | None, engine: str) -> None:
        if engine not in ENGINES:
            raise ConfigError(f"unknown engine {engine!r}: use one of {', '.join(ENGINES)}")
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        if min_pixels is not None and max_pixels is not None and min_pixels > max_pixels:
            raise ConfigError(f"min_pixels must not exceed max_pixels, got {min_pixels} and {max_pixels}")
        self.batch_size = batch_size
        self.max_pixels = max_pixels
        self.min_pixels = min_pixels
        self.engine = engine

    def _set_model(self, model: Any, processor: Any, name: str, fingerprint: str) -> None:
        self.name = name
        self.model = model
        self.processor = processor
        self._lock = threading.Lock()  # one generation at a time, whoever asks
        self._control = control_tokens(processor.tokenizer)
        self._fast = self._find_fast()
        bounds = f"{self.min_pixels}-{self.max_pixels}"
        self.fingerprint = f"{fingerprint}:pixels={bounds}:engine={'generate' if self._fast is None else 'fast'}"

    def __repr__(self) -> str:
        return f"TransformersJudge({self.name!r}, device={str(self.model.device)!r})"

    def _find_fast(self) -> _Engine | None:
        """The shared-prefix engine, if it is wanted and can run this model."""
        if self.engine == "generate":
            return None
        from editr1.judges.fast import FastEngine, why_unsupported

        reason = why_unsupported(self.model)
        if reason is not None:
            if self.engine == "fast":
                raise ModelError(f"the fast engine cannot run {self.name!r} ({reason}): use engine='generate'")
            return None
        if self.batch_size is None:
            return FastEngine(self.model, self.processor)
        return FastEngine(self.model, self.processor, max_rows=self.batch_size)

    def chat(self, requests: Sequence[ChatRequest], *, on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer all requests; `on_reply` is called after each batch."""
        replies: dict[int, ChatReply] = {}

        def give(index: int, reply: ChatReply) -> None:
            replies[index] = reply
            if on_reply is not None:
                on_reply(index, reply)

        plain = self._plain(requests)
        with self._lock, _evaluating(self.model):
            if self._fast is not None:
                try:
                    for index, reply in enumerate(self._fast.generate(plain, give)):
                        replies.setdefault(index, reply)
                except Exception:
                    if self.engine == "fast":
                        raise
                    _log.exception("the fast engine failed; what is left goes through generate: please report this")
            left = [index for index in range(len(plain)) if index not in replies]
            size = self.batch_size or 8
            for batch in batches([plain[i] for i in left], size):
                size = self._answer([(left[i], plain[left[i]]) for i in batch], size, give)
        return [replies[index] for index in range(len(requests))]

    def _plain(self, requests: Sequence[ChatRequest]) -> list[ChatRequest]:
        """Pictures within the bounds, and text that cannot pass for the model's control tokens."""
        scaled: dict[int, Image.Image] = {}  # by identity, so that candidates go on sharing one source

        def part(item: Text | Picture) -> Text | Picture:
            if isinstance(item, Text):
                return Text(disarm(item.text, self._control))
            if id(item.image) not in scaled:
                scaled[id(item.image)] = bounded(item.image, self.min_pixels, self.max_pixels)
            return Picture(scaled[id(item.image)])

        return [
            replace(r, messages=tuple(Message(m.role, tuple(part(p) for p in m.content)) for m in r.messages))
            for r in requests
        ]

    def _answer(self, batch: list[tuple[int, ChatRequest]], size: int, give: OnReply) -> int:
        """Answer a batch, halving it when it fails; returns the size that went through.

        Halving is the cure for running out of memory, and finds the one request that spoils a batch otherwise.
        """
        if len(batch) > size:
            while batch:  # the size may shrink on the way
                part, batch = batch[:size], batch[size:]
                size = self._answer(part, size, give)
            return size
        try:
            replies = self._generate([request for _, request in batch])
        except Exception as exc:
            memory = _out_of_memory(exc)
            if memory and self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            if len(batch) == 1:
                hint = ": set max_pixels, or use a smaller model" if memory else ""
                error = f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}{hint}"
                give(batch[0][0], ChatReply(ReplyStatus.ERROR, usage=Usage(calls=1), error=error))
                return size
            half = math.ceil(len(batch) / 2)
            if memory:
                _log.warning("out of memory with %d chats at a time: going on with %d", len(batch), half)
                return self._answer(batch, half, give)
            self._answer(batch[:half], size, give)
            self._answer(batch[half:], size, give)
            return size
        for (index, _), reply in zip(batch, replies):
            give(index, reply)
        return size

    @torch.inference_mode()
    def _generate(self, requests: list[ChatRequest]) -> list[ChatReply]:
        """One call of `model.generate` for chats of one kind."""
        start = time.perf_counter()
        sampling = requests[0].sampling
        inputs = self._inputs(requests)
        width = inputs["input_ids"].shape[1]
        asked = inputs["attention_mask"].sum(1).tolist()
        draw = []
        if sampling.temperature > 0:
            seeds = [row_seed(request) for request in requests]
            draw = [SeededDraw(sampling.temperature, sampling.top_p, seeds, self.model.device)]
        output = self.model.generate(
            **inputs, generation_config=self._generation_config(sampling), logits_processor=LogitsProcessorList(draw)
        )
        answers = output[:, width:].tolist()
        seconds = (time.perf_counter() - start) / len(requests)
        return [self._reply(tokens, count, seconds) for tokens, count in zip(answers, asked)]

    def _inputs(self, requests: list[ChatRequest]) -> Any:
        """Padded tensors of a batch, on the model's device."""
        processor, tokenizer = self.processor, self.processor.tokenizer
        texts = [
            processor.apply_chat_template(to_conversation(r.messages), tokenize=False, add_generation_prompt=True)
            for r in requests
        ]
        images = [_images(request) for request in requests]
        bos = tokenizer.bos_token
        side, tokenizer.padding_side = tokenizer.padding_side, "left"
        try:
            inputs = processor(
                text=texts,
                images=images if any(images) else None,
                padding=True,
                return_tensors="pt",
                # a template that writes the first token itself must not get another
                add_special_tokens=not (bos and texts[0].startswith(bos)),
            )
        finally:
            tokenizer.padding_side = side
        return inputs.to(self.model.device, dtype=self.model.dtype)

    def _generation_config(self, sampling: Sampling) -> GenerationConfig:
        """Greedy over what `SeededDraw` leaves; what else the model's own config asks for, it gets."""
        return GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            do_sample=False,
            num_beams=1,
            temperature=1.0,
            top_p=1.0,
            top_k=50,  # the library's default: unused in greedy decoding, and any other value warns
            pad_token_id=self._pad_token(),
        )

    def _pad_token(self) -> int:
        tokenizer = self.processor.tokenizer
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self._end_tokens()))

    def _end_tokens(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = self.processor.tokenizer.eos_token_id
        return set(ends) if isinstance(ends, list | tuple) else {int(ends)}

    def _reply(self, tokens: list[int], prompt_tokens: int, seconds: float) -> ChatReply:
        """Read one row of the output, which is padded behind its end token."""
        ends = self._end_tokens()
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        said = tokens if end is None else tokens[:end]
        text = self.processor.tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        usage = Usage(prompt_tokens, len(said) + (end is not None), 1)
        if end is None:
            return ChatReply(ReplyStatus.TRUNCATED, text, usage, seconds, "the answer hit max_tokens")
        if not text.strip():
            return ChatReply(ReplyStatus.EMPTY, text, usage, seconds, "the answer is empty")
        return ChatReply(ReplyStatus.OK, text, usage, seconds)


def to_conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates read them."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": part.text}
                for part in message.content
            ],
        }
        for message in messages
    ]


def batches(requests: Sequence[ChatRequest], size: int) -> Iterator[list[int]]:
    """Indices in batches of one kind and similar length, the longest first.

    Chats of a batch share their sampling (seeds and `fresh` may differ) and either all have pictures or none has.
    Longest first: if memory runs out, it does so at once.
    """
    kinds: dict[Any, list[int]] = {}
    for index, request in enumerate(requests):
        kind = (replace(request.sampling, seed=None), bool(_images(request)))
        kinds.setdefault(kind, []).append(index)
    for members in kinds.values():
        members.sort(key=lambda i: _length(requests[i]), reverse=True)
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _length(request: ChatRequest) -> float:
    """About how many tokens a chat takes: a token is some 4 letters, or a square of 28 pixels."""
    parts = [part for message in request.messages for part in message.content]
    return sum(len(p.text) / 4 if isinstance(p, Text) else p.image.width * p.image.height / 28**2 for p in parts)


def _images(request: ChatRequest) -> list[Image.Image]:
    return [part.image for message in request.messages for part in message.content if isinstance(part, Picture)]


def bounded(image: Image.Image, min_pixels: int | None, max_pixels: int | None) -> Image.Image:
    """The picture scaled to an area within the bounds, keeping its aspect; the picture itself if it is within."""
    area = image.width * image.height
    if max_pixels is not None and area > max_pixels:
        factor = math.sqrt(max_pixels / area)
        width = max(1, math.floor(image.width * factor))
        height = max(1, min(math.floor(image.height * factor), max_pixels // width))  # a sliver keeps within, too
        size = (max(1, min(width, max_pixels // height)), height)
    elif min_pixels is not None and area < min_pixels:
        factor = math.sqrt(min_pixels / area)
        size = (math.ceil(image.width * factor), math.ceil(image.height * factor))
    else:
        return image
    return image.resize(size, Image.Resampling.BICUBIC)


def control_tokens(tokenizer: Any) -> list[str]:
    """Texts that the tokenizer would read as control tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return sorted({t.content for t in added.values() if t.special and len(t.content) > 2}, key=len, reverse=True)


def disarm(text: str, control: Sequence[str]) -> str:
    """Text in which no control token is left: a blank goes behind the first character of each.

    An instruction comes from anybody; written as is, `<|im_end|>` in it would end the user's turn, and a picture's
    placeholder would ask for a picture that is not there.
    """
    for token in control:
        while token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _out_of_memory(exc: Exception) -> bool:
    return isinstance(exc, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(exc)


class _evaluating:
    """Keep a model in evaluation mode for a while, and put it back into training if it was."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._was_training = bool(self._model.training)
        self._model.eval()

    def __exit__(self, *exc: object) -> None:
        self._model.train(self._was_training)
