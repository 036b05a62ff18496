"""Batches for training an embedded vision-language model: made on the fly, in workers, the same in every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from editr1.judges.base import Message, Picture
from editr1.stickers.examples import Example
from editr1.stickers.models import IMAGE_TOKENS
from editr1.training.uniform import rope_positions

Pixels = npt.NDArray[np.uint8]

IGNORED = -100
CHUNK = 8
"""Batches that are sorted by length together."""


@dataclass(slots=True)
class Batch:
    """A batch of B sequences of at most L tokens with P pictures in all.

    Attributes:
        input_ids: (B, L), padded on the right.
        labels: (B, L), IGNORED outside the answers.
        positions: (3, B, L) multimodal rotary positions.
        pictures: (P, H, W, 3) uint8, in the order of the sequences.
    """

    input_ids: Tensor
    labels: Tensor
    positions: Tensor
    pictures: Tensor

    def to(self, device: torch.device) -> Batch:
        """A copy on a device."""
        parts = (self.input_ids, self.labels, self.positions, self.pictures)
        return Batch(*(t.to(device, non_blocking=True) for t in parts))


class Encoder:
    """From an example to token ids, exactly as the processor encodes the same chat for generation."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.pad = tokenizer.convert_tokens_to_ids("<|endoftext|>")

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """The chat as text, pictures as their placeholders; the generation prompt at the end."""
        picture = "<|vision_start|>" + "<|image_pad|>" * IMAGE_TOKENS + "<|vision_end|>"
        turns = [
            f"<|im_start|>{m.role}\n"
            + "".join(picture if isinstance(p, Picture) else p.text for p in m.content)
            + "<|im_end|>\n"
            for m in messages
        ]
        return "".join(turns) + "<|im_start|>assistant\n"

    def __call__(self, example: Example) -> tuple[list[int], list[int], list[Pixels]]:
        """Prompt ids, answer ids with the end token, pictures."""
        prompt = self.tokenizer(self.prompt_text(example.messages)).input_ids
        answer = self.tokenizer(example.answer).input_ids
        pictures = [np.asarray(p.image) for m in example.messages for p in m.content if isinstance(p, Picture)]
        return prompt, [*answer, self.end], pictures

    def collate(self, items: Sequence[tuple[list[int], list[int], list[Pixels]]]) -> Batch:
        """Pad to the longest, rounded up to 16."""
        longest = max(len(p) + len(a) for p, a, _ in items)
        longest = -(-longest // 16) * 16
        ids = np.full((len(items), longest), self.pad, np.int64)
        labels = np.full((len(items), longest), IGNORED, np.int64)
        positions = np.zeros((3, len(items), longest), np.int64)
        side = round(IMAGE_TOKENS**0.5)
        for row, (prompt, answer, _) in enumerate(items):
            both = np.array(prompt + answer)
            ids[row, : len(both)] = both
            labels[row, len(prompt) : len(both)] = answer
            positions[:, row, : len(both)] = rope_positions(both, self.image_id, side)
        pictures = np.stack([p for _, _, ps in items for p in ps])
        return Batch(*(torch.from_numpy(x) for x in (ids, labels, positions, pictures)))


class ChunkedExamples(Dataset[list[Batch]]):
    """Item i is CHUNK batches of similar lengths, made from the examples i * CHUNK * batch_size and following."""

    def __init__(
        self, make: Callable[[str, int], Example], split: str, batch_size: int, chunks: int, tokenizer: Any
    ) -> None:
        self.make, self.split, self.batch_size, self.chunks = make, split, batch_size, chunks
        self.encoder = Encoder(tokenizer)

    def __len__(self) -> int:
        return self.chunks

    def __getitem__(self, index: int) -> list[Batch]:
        per_chunk = self.batch_size * CHUNK
        items = [self.encoder(self.make(self.split, index * per_chunk + i)) for i in range(per_chunk)]
        items.sort(key=lambda item: len(item[0]) + len(item[1]))
        order = np.random.default_rng(index).permutation(CHUNK)
        return [self.encoder.collate(items[b * self.batch_size : (b + 1) * self.batch_size]) for b in order]
