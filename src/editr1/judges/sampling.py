"""Draw tokens in such a way that each row of a batch depends on its own seed alone."""

from __future__ import annotations

import hashlib
import secrets

import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

from editr1.judges.base import ChatRequest


def row_seed(request: ChatRequest) -> int:
    """A seed from the request's own and `fresh`; a random one if it has none."""
    if request.sampling.seed is None:
        return secrets.randbits(63)
    digest = hashlib.sha256(f"{request.sampling.seed}:{request.fresh}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class SeededDraw(LogitsProcessor):
    """Turns greedy decoding into sampling: the largest of log-probability plus Gumbel noise is a draw.

    `generate(do_sample=True)` draws all rows from one random stream, so that a row's answer would depend on which
    others are in the batch. Here each row has a generator of its own.

    Args:
        temperature: above 0.
        top_p: in (0, 1].
        seeds: one per row.
        device: of the logits.
    """

    def __init__(self, temperature: float, top_p: float, seeds: list[int], device: torch.device) -> None:
        self._warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(temperature)]
        if top_p < 1.0:
            self._warpers.append(TopPLogitsWarper(top_p))
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Add noise to `scores` `(rows, vocabulary)`."""
        scores = scores.float()
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        noise = torch.stack(
            [torch.empty(scores.shape[1], device=scores.device).exponential_(generator=g) for g in self._generators]
        )
        # -log of an exponential variate is a Gumbel one; 0 would make an impossible token infinite
        return scores - noise.clamp_min(torch.finfo(noise.dtype).tiny).log()
