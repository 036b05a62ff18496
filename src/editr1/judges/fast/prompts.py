"""From chats to tokens: distinct pictures processed once, and requests that begin alike put together."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from editr1.judges.base import ChatRequest, Message, Picture
from editr1.judges.fast.layout import Grid, Ints, rope_positions, tokens_of

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised chat.

    Attributes:
        ids: `(length,)` token ids, each picture's placeholder widened to its tokens.
        pictures: `(length,)`, which picture of the collection a token belongs to, -1 for text.
        inside: `(length,)`, which token of its picture it is, 0 for text.
        positions: `(3, length)`.
        answer_at: position of the answer's first token.
    """

    ids: Ints
    pictures: Ints
    inside: Ints
    positions: Ints
    answer_at: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> Ints:
        """`(length,)`: equal where two prompts mean the same, pictures included."""
        return np.where(self.pictures >= 0, -1 - self.pictures, self.ids)


@dataclass(slots=True)
class PictureSet:
    """Distinct pictures, by content, with their patches."""

    patches: list[Tensor] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    _numbers: dict[bytes, int | str] = field(default_factory=dict)

    def add(self, images: Sequence[Image.Image], processor: Any) -> list[int | str]:
        """Process the pictures that are new; per picture its number, or why it could not be processed."""
        keys = [_digest(image) for image in images]
        fresh = {key: image for key, image in zip(keys, images) if key not in self._numbers}
        for key, result in zip(fresh, _process(list(fresh.values()), processor)):
            if isinstance(result, str):
                self._numbers[key] = result
            else:
                self._numbers[key] = self.append(*result)
        return [self._numbers[key] for key in keys]

    def append(self, patches: Tensor, grid: Grid) -> int:
        """Add a processed picture without looking whether it is there already."""
        self.patches.append(patches)
        self.grids.append(grid)
        return len(self.grids) - 1


def _digest(image: Image.Image) -> bytes:
    return hashlib.blake2b(f"{image.mode}{image.size}".encode() + image.tobytes(), digest_size=16).digest()


def _process(images: list[Image.Image], processor: Any) -> list[tuple[Tensor, Grid] | str]:
    """Patches and grid per picture; one that fails, fails alone."""
    if not images:
        return []
    try:
        output = processor.image_processor(images=images, return_tensors="pt")
    except (ValueError, RuntimeError, TypeError) as exc:
        if len(images) == 1:
            return [f"a picture of {images[0].width}x{images[0].height} could not be processed: {exc}"]
        return [result for image in images for result in _process([image], processor)]
    grids: list[Grid] = [(t, h, w) for t, h, w in output["image_grid_thw"].tolist()]
    return list(zip(output["pixel_values"].split([t * h * w for t, h, w in grids]), grids))


def to_chat(messages: Sequence[Message]) -> list[dict[str, Any]]:
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


def tokenise(requests: Sequence[ChatRequest], processor: Any, merge: int) -> tuple[list[Prompt | str], PictureSet]:
    """Prompts in the order of the requests; in place of one that cannot be made, the reason."""
    pictures = PictureSet()
    images = [[part.image for m in r.messages for part in m.content if isinstance(part, Picture)] for r in requests]
    numbers = iter(pictures.add([image for row in images for image in row], processor))
    texts = [
        processor.apply_chat_template(to_chat(r.messages), tokenize=False, add_generation_prompt=True) for r in requests
    ]
    prompts: list[Prompt | str] = []
    for ids, row in zip(processor.tokenizer(texts)["input_ids"], images):
        prompts.append(_prompt(ids, [next(numbers) for _ in row], pictures.grids, processor.image_token_id, merge))
    return prompts, pictures


def _prompt(
    ids: list[int], numbers: list[int | str], grids: Sequence[Grid], image_token: int, merge: int
) -> Prompt | str:
    held: list[int] = []
    for number in numbers:
        if isinstance(number, str):
            return number
        held.append(number)
    flat = np.asarray(ids, dtype=np.int64)
    if (found := int((flat == image_token).sum())) != len(held):
        return f"the chat has {len(held)} pictures but {found} placeholders: its text must not contain placeholders"
    counts = np.ones(len(flat), dtype=np.int64)
    counts[flat == image_token] = [tokens_of(grids[n], merge) for n in held]
    return make_prompt(np.repeat(flat, counts), held, grids, image_token, merge)


def make_prompt(ids: Ints, numbers: Sequence[int], grids: Sequence[Grid], image_token: int, merge: int) -> Prompt:
    """A prompt from token ids in which the placeholders are widened already.

    Args:
        ids: `(length,)`.
        numbers: of its pictures in the collection, in order of appearance.
        grids: of the whole collection.
        image_token: id of the placeholder.
        merge: side of the square of patches that becomes one token.

    Raises:
        ValueError: if there are more or fewer placeholders than the pictures take.
    """
    is_picture: NDArray[np.bool_] = ids == image_token
    sizes = [tokens_of(grids[n], merge) for n in numbers]
    if int(is_picture.sum()) != sum(sizes):
        raise ValueError(f"{int(is_picture.sum())} picture tokens do not fit pictures of {sum(sizes)}")
    pictures, inside = np.full(len(ids), -1, dtype=np.int64), np.zeros(len(ids), dtype=np.int64)
    pictures[is_picture] = np.repeat(np.asarray(numbers, dtype=np.int64), sizes)
    if sizes:
        inside[is_picture] = np.concatenate([np.arange(size) for size in sizes])
    positions, answer_at = rope_positions(is_picture, [grids[n] for n in numbers], merge)
    return Prompt(ids, pictures, inside, positions, answer_at)


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts, by number, whose first `shared` tokens are the same."""

    members: tuple[int, ...]
    shared: int


def group_by_prefix(prompts: Sequence[Prompt], least: int = 16) -> list[Group]:
    """Partition prompts so that sharing each group's longest common beginning saves the most tokens.

    Prompts form a tree of common beginnings. Some of its nodes are encoded once each, and a prompt continues the
    longest of them that it begins with: a node of p tokens costs p and saves p for each prompt that continues it. So
    96 candidates of 4 contexts make 4 groups though all 96 share the system prompt.

    Args:
        prompts: none empty. Each keeps at least its last token to itself.
        least: a beginning shorter than this is not worth sharing.
    """
    keys = [prompt.key for prompt in prompts]
    # Sorted prompts that begin alike are neighbours: a node is a run of them, from `low` to `high` inclusive.
    order = sorted(range(len(prompts)), key=lambda i: (keys[i].tolist(), i))
    common = [_common(keys[a], keys[b]) for a, b in itertools.pairwise(order)]

    @cache
    def node(low: int, high: int) -> tuple[int, list[tuple[int, int]]]:
        """How many tokens a run has in common, and the runs that its prompts fall into behind them."""
        shared = min(common[low:high])
        cuts = [i for i in range(low, high) if common[i] == shared]
        return shared, list(zip([low, *(i + 1 for i in cuts)], [*cuts, high]))

    @cache
    def saved(low: int, high: int, above: int) -> tuple[int, bool]:
        """Tokens saved where `above` tokens of a longer run are encoded, and whether to encode this node too."""
        if low == high:
            return above, False
        shared, parts = node(low, high)
        apart = sum([saved(*part, above)[0] for part in parts])
        together = sum([saved(*part, shared)[0] for part in parts]) - shared if shared >= max(least, 1) else -1
        return max(apart, together), together > apart

    members: dict[tuple[int, int], list[int]] = {}

    def assign(low: int, high: int, above: int, owner: tuple[int, int] | None) -> None:
        """Give each prompt to the longest encoded run that it continues, or to itself."""
        if low == high:
            members.setdefault(owner or (low, high), []).append(order[low])
            return
        shared, parts = node(low, high)
        if saved(low, high, above)[1]:
            above, owner = shared, (low, high)
        for part in parts:
            assign(*part, above, owner)

    if order:
        assign(0, len(order) - 1, 0, None)
    groups = []
    for (low, high), chosen in members.items():
        alone = len(chosen) == 1
        shared = 0 if alone else min([*common[low:high], *(len(prompts[i]) - 1 for i in chosen)])
        groups.append(Group(tuple(sorted(chosen)), shared))
    return sorted(groups, key=lambda group: group.members)


def _common(a: Ints, b: Ints) -> int:
    """Length of the common beginning."""
    length = min(len(a), len(b))
    different = a[:length] != b[:length]
    return int(np.argmax(different)) if different.any() else length


def padded(arrays: Sequence[Ints], *, left: bool) -> Tensor:
    """Rows of unequal length as one `(rows, longest)` tensor, padded with zeros on one side."""
    out = np.zeros((len(arrays), max(len(a) for a in arrays)), dtype=np.int64)
    for row, values in enumerate(arrays):
        if left:
            out[row, out.shape[1] - len(values) :] = values
        else:
            out[row, : len(values)] = values
    return torch.from_numpy(out)
