"""What GCPO trains on: the halves of preference pairs as prompts, and the order in which they come."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler

from editr1.datasets.preferences import pair_of_row
from editr1.errors import DataError
from editr1.judges.base import Message, Picture
from editr1.judges.transformers import bounded, control_tokens, disarm
from editr1.types import PreferencePair
from editr1.verifier.inputs import Loader
from editr1.verifier.render import render_score
from editr1.verifier.template import PromptTemplate

_KEPT = 256
"""Prompts kept in memory: TRL fetches the batch of a set of rollouts anew for each of its passes."""


def load_pairs(path: str | Path) -> Dataset:
    """The pairs of a Parquet file that somebody had a preference in; those marked "same" are left out.

    Pictures stay on disk, in the Arrow cache of `datasets`, until they are asked for.

    Raises:
        DataError: if there is no such file, it cannot be read, or no pair is left.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there are no preference pairs at {path}: make them with  editr1 preferences")
    try:
        found = Dataset.from_parquet(str(path))
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} cannot be read as preference pairs: {str(exc).splitlines()[0]}") from exc
    kept = [i for i, same in enumerate(found["same"]) if not same]
    if not kept:
        raise DataError(f"{path} holds no pair with a preference, so there is nothing to learn from it")
    return found.select(kept).with_format("arrow")


def pair_at(pairs: Dataset, index: int) -> PreferencePair:
    """One pair, its pictures as bytes."""
    return pair_of_row(pairs[index : index + 1].to_pylist()[0])


class Halves:
    """Turns (pair, half) into what TRL reads: a conversation with two pictures, and the principles beside it.

    The chat is, to the token, the one that `Verifier` asks its judge; half 0 is the preferred edit.

    Args:
        pairs: from `load_pairs`.
        template: prompt template.
        processor: whose control tokens are taken out of instructions and principles.
        max_pixels: larger pictures are scaled down to this area.
    """

    def __init__(self, pairs: Dataset, template: PromptTemplate, processor: Any, max_pixels: int | None = None) -> None:
        self.pairs = pairs
        self.template = template
        self.max_pixels = max_pixels
        self._control = control_tokens(processor.tokenizer)
        self._made: OrderedDict[tuple[int, int], dict[str, Any]] = OrderedDict()

    def dataset(self) -> Dataset:
        """Two rows a pair, 2p the preferred half of pair p and 2p + 1 the other; made when they are looked at."""
        number = len(self.pairs)
        rows = {"pair": [i // 2 for i in range(2 * number)], "half": [i % 2 for i in range(2 * number)]}
        return Dataset.from_dict(rows).with_transform(self)

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """The rows of a batch; equal rows share their pictures."""
        rows = [self._row(*key) for key in zip(batch["pair"], batch["half"], strict=True)]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _row(self, pair: int, half: int) -> dict[str, Any]:
        if (pair, half) not in self._made:
            self._made[pair, half] = self._make(pair, half)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end((pair, half))
        return self._made[pair, half]

    def _make(self, index: int, half: int) -> dict[str, Any]:
        pair = pair_at(self.pairs, index)
        task = pair.task
        if not task.principles:
            raise DataError(f"pair {task.id} has no principles: add them with  editr1 preferences import --judge ...")
        edited = pair.other if half else pair.preferred
        item = {"source": task.source, "edited": edited, "instruction": task.instruction, "principles": task.principles}
        job = Loader(None).job(0, item)
        messages = render_score(self.template, job.context.source, job.edited, task.instruction, task.principles)
        return {"prompt": self._conversation(messages), "principles": task.principles, "id": task.id, "half": half}

    def _conversation(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        def part(item: Any) -> dict[str, Any]:
            if isinstance(item, Picture):
                return {"type": "image", "image": bounded(item.image, None, self.max_pixels)}
            return {"type": "text", "text": disarm(item.text, self._control)}

        return [{"role": m.role, "content": [part(p) for p in m.content]} for m in messages]


class PairSampler(Sampler[int]):
    """Draws whole pairs: N times the preferred half, N times the other, then the next pair.

    The order of an epoch is a function of (seed, epoch), so that a resumed run goes on where it was. What is left over
    when an epoch is cut into batches of `pairs_per_batch` is not drawn in that epoch.

    Args:
        pairs: how many there are; row 2p and 2p + 1 of the data are the halves of pair p.
        rollouts: N.
        pairs_per_batch: pairs that rollouts are drawn for at a time, over all processes.
        repeats: how often each batch is yielded: TRL fetches it once a pass, and draws rollouts on the first.
        shuffle: otherwise pairs come in their order.
        seed: of the order.
        epoch: says which epoch it is, when one begins. A sampler that were told so from outside would not be, where
            accelerate wraps it twice to skip what a resumed run has done.
    """

    def __init__(
        self,
        pairs: int,
        rollouts: int,
        pairs_per_batch: int,
        repeats: int = 1,
        *,
        shuffle: bool = True,
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        if pairs < pairs_per_batch:
            raise DataError(f"{pairs} pairs do not make a batch of {pairs_per_batch}: set a smaller pairs_per_step")
        self.pairs, self.rollouts, self.pairs_per_batch, self.repeats = pairs, rollouts, pairs_per_batch, repeats
        self.shuffle, self.seed, self._epoch = shuffle, seed, epoch

    def __len__(self) -> int:
        batches = self.pairs // self.pairs_per_batch
        return batches * self.repeats * self.pairs_per_batch * 2 * self.rollouts

    def __iter__(self) -> Iterator[int]:
        order = list(range(self.pairs))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._epoch())
            order = torch.randperm(self.pairs, generator=generator).tolist()
        for start in range(0, self.pairs - self.pairs_per_batch + 1, self.pairs_per_batch):
            batch = order[start : start + self.pairs_per_batch]
            for _ in range(self.repeats):
                for half in (2 * pair + side for pair in batch for side in (0, 1)):
                    yield from [half] * self.rollouts
