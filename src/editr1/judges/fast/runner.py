"""Runs prompts: plans batches, encodes pictures and prefixes, decodes. Knows tokens, not chats."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editr1.judges.fast.decode import Draw, Penalty, RowPlan, decode
from editr1.judges.fast.prompts import Group, PictureSet, Prompt, group_by_prefix, padded
from editr1.judges.fast.text import Decoder, TextModel, Tokens
from editr1.judges.fast.vision import encode_pictures
from editr1.judges.fast.weights import read_text, read_vision, stamp


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch.

    Attributes:
        members: numbers of the prompts.
        draws: per member, its answer, or why there is none.
        seconds: wall-clock time of the batch.
    """

    members: list[int]
    draws: list[Draw | str]
    seconds: float


class Runner:
    """Holds a model's weights as the engine reads them.

    Args:
        model: one that `supports` accepts.
        fuse: copy weights into fused and packed form.
        max_rows: how many prompts decode together.
    """

    def __init__(self, model: Any, *, fuse: bool, max_rows: int) -> None:
        self.model, self.fuse, self.max_rows = model, fuse, max_rows
        self.refresh()

    def refresh(self) -> None:
        """Read the weights again."""
        with torch.inference_mode():
            self._text = TextModel(read_text(self.model, fuse=self.fuse, pack_rows=32))
            self._vision = read_vision(self.model, fuse=self.fuse, pack_rows=1024)
        self._stamp: tuple[Any, ...] | None = stamp(self.model)

    def release(self) -> None:
        """Let go of copies of weights; they are read again when they are next needed."""
        self._stamp = None
        del self._text, self._vision

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def run(
        self,
        prompts: Sequence[Prompt],
        pictures: PictureSet,
        plans: Sequence[RowPlan],
        ends: frozenset[int],
        *,
        penalty: float = 1.0,
        logprobs: bool = False,
    ) -> Iterator[Outcome]:
        """Answer all prompts, a batch at a time; a batch that does not fit into memory is halved."""
        self._keep_up()
        waiting = plan_batches(prompts, self.max_rows)[::-1]
        while waiting:
            groups = waiting.pop()
            members = [member for group in groups for member in group.members]
            started = time.perf_counter()
            try:
                with torch.inference_mode():
                    draws = self._run_batch(prompts, pictures, plans, groups, ends, penalty, logprobs)
            except torch.OutOfMemoryError as exc:
                if len(members) > 1:
                    waiting += _halves(groups)[::-1]
                    continue
                draws = [f"out of memory on {self.device} with {len(prompts[members[0]])} prompt tokens: {exc}"]
            yield Outcome(members, draws, time.perf_counter() - started)

    def next_logits(self, prompts: Sequence[Prompt], pictures: PictureSet, forced: Sequence[Sequence[int]]) -> Tensor:
        """Logits after each prompt and after each of `forced`'s tokens, all prompts as one batch.

        Args:
            prompts: what to encode.
            pictures: which they refer to.
            forced: per prompt, the tokens to feed, equally many for each.

        Returns:
            `(prompts, 1 + forced tokens, vocabulary)`.
        """
        self._keep_up()
        groups = group_by_prefix(prompts)
        order = [member for group in groups for member in group.members]
        with torch.inference_mode():
            decoder, logits, positions = self._prefill(prompts, pictures, groups, room=1)
            steps = [logits]
            for tokens in zip(*(forced[member] for member in order)):
                steps.append(decoder.step(torch.tensor(tokens, device=self.device), positions))
                positions = positions + 1
            return torch.stack(steps, dim=1)[torch.from_numpy(np.argsort(order))]

    def _keep_up(self) -> None:
        """Read the weights again if they were let go of, or have changed."""
        if self._stamp is None or stamp(self.model) != self._stamp:
            self.refresh()

    def _run_batch(
        self,
        prompts: Sequence[Prompt],
        pictures: PictureSet,
        plans: Sequence[RowPlan],
        groups: Sequence[Group],
        ends: frozenset[int],
        penalty: float,
        logprobs: bool,
    ) -> list[Draw | str]:
        members = [member for group in groups for member in group.members]
        chosen = [plans[member] for member in members]
        room = max(plan.max_tokens for plan in chosen)
        decoder, logits, positions = self._prefill(prompts, pictures, groups, room=room)
        penalise = None
        if penalty != 1.0:
            penalise = Penalty(penalty, [prompts[m].ids for m in members], logits.shape[-1], self.device)
        return list(decode(decoder, logits, positions, chosen, ends, logprobs=logprobs, penalty=penalise))

    def _prefill(
        self, prompts: Sequence[Prompt], pictures: PictureSet, groups: Sequence[Group], room: int
    ) -> tuple[Decoder, Tensor, Tensor]:
        """Encode a batch: the decoder, the first tokens' logits `(B, vocabulary)` and positions `(B,)`."""
        members = [member for group in groups for member in group.members]
        owners = [number for number, group in enumerate(groups) for _ in group.members]
        features = self._encode_pictures([prompts[m] for m in members], pictures)
        prefixes = None
        if any(group.shared for group in groups):
            heads = [(prompts[group.members[0]], 0, group.shared) for group in groups]
            prefixes = self._text.prefill_prefixes(self._embed(heads, features, left=False))
        tails = [(prompts[m], group.shared, len(prompts[m])) for group in groups for m in group.members]
        tokens = self._embed(tails, features, left=True)
        cache, hidden = self._text.prefill_rows(tokens, prefixes, owners, room)
        positions = torch.tensor([prompts[m].answer_at for m in members], device=self.device)
        if prefixes is None:
            owners = [0] * len(members)
        return Decoder(self._text, prefixes, owners, cache), self._text.logits(hidden), positions

    def _encode_pictures(self, prompts: Sequence[Prompt], pictures: PictureSet) -> dict[int, Tensor]:
        """Features `(tokens, width)` of the pictures that these prompts hold, by number."""
        numbers = sorted({int(n) for prompt in prompts for n in np.unique(prompt.pictures) if n >= 0})
        patches = [pictures.patches[n].to(self.device) for n in numbers]
        return dict(zip(numbers, encode_pictures(self._vision, patches, [pictures.grids[n] for n in numbers])))

    def _embed(self, pieces: Sequence[tuple[Prompt, int, int]], features: dict[int, Tensor], *, left: bool) -> Tokens:
        """Embed pieces `(prompt, from, to)` of prompts, padded on the left or on the right."""
        starts: dict[int, int] = {}
        total = 1  # row 0 of the table below stands for "no picture"
        for number, feature in features.items():
            starts[number], total = total, total + len(feature)
        rows = [
            np.array(
                [starts[n] + i if n >= 0 else 0 for n, i in zip(prompt.pictures[a:b], prompt.inside[a:b])], np.int64
            )
            for prompt, a, b in pieces
        ]
        ids = padded([prompt.ids[a:b] for prompt, a, b in pieces], left=left).to(self.device)
        positions = torch.stack(
            [padded([prompt.positions[axis, a:b] for prompt, a, b in pieces], left=left) for axis in range(3)]
        ).to(self.device)
        embeds = torch.nn.functional.embedding(ids, self._text.weights.embed)
        where = padded(rows, left=left).to(self.device)
        if features:
            table = torch.cat([embeds.new_zeros(1, embeds.shape[-1]), *features.values()])
            embeds = torch.where(where[..., None] > 0, table[where], embeds)
        return Tokens(embeds, positions, [b - a for _, a, b in pieces])


def plan_batches(prompts: Sequence[Prompt], max_rows: int) -> list[list[Group]]:
    """Groups of prompts that begin alike, packed into batches of up to `max_rows`.

    Groups with like suffixes go together, since all rows of a batch are padded to its longest suffix.
    """
    batches: list[list[Group]] = []
    free = 0
    groups = group_by_prefix(prompts)
    for group in sorted(groups, key=lambda g: max(len(prompts[m]) for m in g.members) - g.shared):
        members = group.members
        while members:
            if not free:
                batches.append([])
                free = max_rows
            part, members = members[:free], members[free:]
            batches[-1].append(Group(part, group.shared))
            free -= len(part)
    return batches


def _halves(groups: Sequence[Group]) -> list[list[Group]]:
    """The same rows as two batches."""
    total = sum(len(group.members) for group in groups)
    halves: list[list[Group]] = [[], []]
    seen = 0
    for group in groups:
        cut = min(max(total // 2 - seen, 0), len(group.members))
        for half, members in zip(halves, (group.members[:cut], group.members[cut:])):
            if members:
                half.append(Group(members, group.shared))
        seen += len(group.members)
    return halves
