"""The decoding loop: pick a token for every row, stop rows that end, drop them from the batch."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editr1.judges.fast.layout import Ints
from editr1.judges.fast.text import Decoder

# Rows that ended are dropped once they are a quarter of the batch: copying the rest's cache is not free.
_KEEP_WHILE = 0.75


@dataclass(frozen=True, slots=True)
class RowPlan:
    """How one answer is drawn; `temperature` 0 is greedy. `seed` and `index` fix the draw, whatever the batch."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class Draw:
    """One answer.

    Attributes:
        tokens: ids, the end token included if the answer ended by itself.
        logprobs: per token, natural logarithm of its probability under the whole softmax at the row's temperature
            (1 for greedy rows), before `top_p` cuts it; empty unless asked for.
        ended: whether an end token came before `max_tokens` ran out.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool


class Picker:
    """Picks the next token of every row from logits."""

    def __init__(self, plans: Sequence[RowPlan], device: torch.device, *, logprobs: bool) -> None:
        self._logprobs = logprobs
        temperatures = torch.tensor([p.temperature for p in plans], device=device)
        self._greedy = (temperatures <= 0)[:, None]
        self._all_greedy = all(p.temperature <= 0 for p in plans)
        self._temperatures = torch.where(self._greedy[:, 0], 1.0, temperatures)[:, None]
        self._top_p = torch.tensor([p.top_p for p in plans], device=device)[:, None]
        self._cut = any(p.top_p < 1 and p.temperature > 0 for p in plans)
        self._uniforms = torch.empty(0) if self._all_greedy else _uniforms(plans).to(device)

    def keep(self, index: Tensor) -> None:
        """Drop all rows but these."""
        self._greedy, self._temperatures = self._greedy[index], self._temperatures[index]
        self._top_p = self._top_p[index]
        if not self._all_greedy:
            self._uniforms = self._uniforms[index]

    def pick(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor | None]:
        """`(B, vocabulary)` -> tokens `(B,)` and, if asked for, their log-probabilities `(B,)`."""
        if self._all_greedy and not self._logprobs:
            return logits.argmax(-1), None
        scaled = logits.float() / self._temperatures
        tokens = logits.argmax(-1, keepdim=True)
        if not self._all_greedy:
            drawn = _draw(scaled.softmax(-1), self._uniforms[:, step, None], self._top_p if self._cut else None)
            tokens = torch.where(self._greedy, tokens, drawn)
        logprobs = scaled.log_softmax(-1).gather(-1, tokens)[:, 0] if self._logprobs else None
        return tokens[:, 0], logprobs


def _draw(probabilities: Tensor, uniform: Tensor, top_p: Tensor | None) -> Tensor:
    """Inverse of the cumulative distribution at `uniform`, over the tokens that `top_p` leaves; `(B, 1)`."""
    if top_p is None:
        cumulative = probabilities.double().cumsum(-1)
        return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True).clamp_(
            max=probabilities.shape[-1] - 1
        )
    ordered, ids = probabilities.double().sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.cumsum(-1)
    # The smallest set whose mass reaches top_p: a token stays if the mass before it does not reach it.
    kept = ((cumulative - ordered) < top_p).sum(-1, keepdim=True)
    mass = cumulative.gather(-1, kept - 1)
    place = torch.searchsorted(cumulative, uniform * mass, right=True)
    return ids.gather(-1, torch.minimum(place, kept - 1))


def _uniforms(plans: Sequence[RowPlan]) -> Tensor:
    """`(rows, longest answer)` numbers in [0, 1), each row's from a generator of its own."""
    rows = torch.zeros(len(plans), max(p.max_tokens for p in plans), dtype=torch.float64)
    for row, plan in zip(rows, plans):
        generator = torch.Generator().manual_seed(_row_seed(plan))
        row[: plan.max_tokens] = torch.rand(plan.max_tokens, generator=generator, dtype=torch.float64)
    return rows


def _row_seed(plan: RowPlan) -> int:
    """A seed that mixes seed and index, so that neighbouring seeds do not share rows."""
    if plan.seed is None:
        return secrets.randbits(63)
    digest = hashlib.sha256(f"{plan.seed}/{plan.index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Penalty:
    """The repetition penalty of `generate`: logits of tokens seen in prompt or answer are made less likely."""

    def __init__(self, factor: float, prompts: Sequence[Ints], vocabulary: int, device: torch.device) -> None:
        self.factor = factor
        self._seen = torch.zeros(len(prompts), vocabulary, dtype=torch.bool, device=device)
        for row, ids in zip(self._seen, prompts):
            row[torch.as_tensor(ids, device=device).unique()] = True

    def keep(self, index: Tensor) -> None:
        """Drop all rows but these."""
        self._seen = self._seen[index]

    def add(self, tokens: Tensor) -> None:
        """Mark `(B,)` tokens as seen."""
        self._seen.scatter_(1, tokens[:, None], True)

    def apply(self, logits: Tensor) -> Tensor:
        """Positive logits of seen tokens are divided by the factor, negative ones multiplied."""
        lowered = torch.where(logits > 0, logits / self.factor, logits * self.factor)
        return torch.where(self._seen, lowered, logits)


class _Rows:
    """What is known of each row while it decodes: device tensors for live rows, host lists for all."""

    def __init__(self, plans: Sequence[RowPlan]) -> None:
        self.plans = plans
        self.live = list(range(len(plans)))
        self.tokens: list[list[int]] = [[] for _ in plans]
        self.logprobs: list[list[float]] = [[] for _ in plans]
        self.ended = [False] * len(plans)
        self.done = [plan.max_tokens <= 0 for plan in plans]

    def take(self, tokens: Tensor, logprobs: Tensor | None, ends: frozenset[int]) -> None:
        """Book `(steps, live rows)` tokens up to each row's end."""
        columns = tokens.t().tolist()
        scores = logprobs.t().tolist() if logprobs is not None else [[] for _ in columns]
        for row, column, score in zip(self.live, columns, scores):
            if self.done[row]:
                continue
            room = self.plans[row].max_tokens - len(self.tokens[row])
            stop = next((i + 1 for i, token in enumerate(column[:room]) if token in ends), None)
            self.ended[row] = stop is not None
            self.done[row] = stop is not None or len(column) >= room
            length = stop or min(len(column), room)
            self.tokens[row] += column[:length]
            self.logprobs[row] += score[:length]

    def draws(self) -> list[Draw]:
        return [Draw(tuple(t), tuple(p), e) for t, p, e in zip(self.tokens, self.logprobs, self.ended)]


def _steps_between_looks(device: torch.device) -> int:
    """On an accelerator, asking which rows ended waits for the device; a few tokens too many are cheaper."""
    return 1 if device.type == "cpu" else 8


def decode(
    decoder: Decoder,
    logits: Tensor,
    positions: Tensor,
    plans: Sequence[RowPlan],
    ends: frozenset[int],
    *,
    logprobs: bool = False,
    penalty: Penalty | None = None,
) -> list[Draw]:
    """Decode every row to its end.

    Args:
        decoder: with prompts encoded.
        logits: `(B, vocabulary)` of the first tokens.
        positions: `(B,)` of the first tokens.
        plans: per row.
        ends: ids of end tokens; none means that every answer takes its `max_tokens`.
        logprobs: also return each token's log-probability.
        penalty: applied to logits before anything else.
    """
    device = logits.device
    rows, picker = _Rows(plans), Picker(plans, device, logprobs=logprobs)
    look_every = _steps_between_looks(device)
    longest = max(plan.max_tokens for plan in plans)
    kept_tokens: list[Tensor] = []
    kept_scores: list[Tensor] = []
    for step in range(longest):
        if penalty is not None:
            logits = penalty.apply(logits)
        tokens, scores = picker.pick(logits, step)
        kept_tokens.append(tokens)
        if scores is not None:
            kept_scores.append(scores)
        if step == longest - 1:
            break
        if len(kept_tokens) >= look_every:
            rows.take(torch.stack(kept_tokens), torch.stack(kept_scores) if kept_scores else None, ends)
            kept_tokens, kept_scores = [], []
            left = [place for place, row in enumerate(rows.live) if not rows.done[row]]
            if not left:
                return rows.draws()
            if len(left) <= _KEEP_WHILE * len(rows.live):
                index = torch.tensor(left, device=device)
                rows.live = [rows.live[place] for place in left]
                tokens, positions = tokens[index], positions[index]
                decoder.keep(left)
                picker.keep(index)
                if penalty is not None:
                    penalty.keep(index)
        if penalty is not None:
            penalty.add(tokens)
        logits = decoder.step(tokens, positions)
        positions = positions + 1
    if kept_tokens:
        rows.take(torch.stack(kept_tokens), torch.stack(kept_scores) if kept_scores else None, ends)
    return rows.draws()
