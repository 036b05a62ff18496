"""The engine's face: chats in, replies out; or one prompt many times, with tokens and log-probabilities out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editr1.errors import ModelError
from editr1.judges.base import ChatReply, ChatRequest, OnReply, ReplyStatus
from editr1.judges.fast.decode import Draw, RowPlan
from editr1.judges.fast.prompts import PictureSet, Prompt, make_prompt, tokenise
from editr1.judges.fast.runner import Runner
from editr1.judges.fast.support import why_unsupported
from editr1.judges.fast.weights import FUSE_UP_TO_BYTES
from editr1.types import Usage

# Requests are tokenised and grouped this many at a time.
_WINDOW = 256


class FastEngine:
    """Answers chats with a Qwen2.5-VL model, encoding what they have in common once.

    Greedy answers are those of `model.generate` on each chat alone, up to ties within rounding: a sum taken in another
    order may differ in its last bits. The model itself is only read, never changed, and may go on being trained.

    Args:
        model: one that `supports` accepts, in evaluation mode or not (it has no dropout that the engine would run).
        processor: the model's.
        max_rows: how many chats decode together.
        fuse: copy weights into fused and, on the CPU, packed form. None: for models up to 512 MB, of which copies are
            cheap. Copies are renewed when parameters change.
        repetition_penalty: None: what the model's generation config says, as `generate` does.
        ignore_end: decode `max_tokens` tokens whatever they are, for measurements.

    Raises:
        ModelError: if the model is not supported.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        max_rows: int = 64,
        fuse: bool | None = None,
        repetition_penalty: float | None = None,
        ignore_end: bool = False,
    ) -> None:
        if (reason := why_unsupported(model)) is not None:
            raise ModelError(f"the fast engine cannot run this model ({reason}): use model.generate instead")
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {max_rows}")
        self.processor = processor
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        fuse = size <= FUSE_UP_TO_BYTES if fuse is None else fuse
        configured = getattr(model.generation_config, "repetition_penalty", None)
        self.repetition_penalty = float(repetition_penalty or configured or 1.0)
        self._ends = frozenset() if ignore_end else _end_tokens(model)
        self._image_token = int(model.config.image_token_id)
        self._merge = int(model.config.vision_config.spatial_merge_size)
        self._runner = Runner(model, fuse=fuse, max_rows=max_rows)

    def refresh(self) -> None:
        """Read the weights again. Steps of training are noticed without it; writes of single elements may not be."""
        self._runner.refresh()

    def release(self) -> None:
        """Let go of copies of weights until they are next needed: in training, memory for the update."""
        self._runner.release()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._runner.device

    def generate(self, requests: Sequence[ChatRequest], on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer chats: same length, same order; a chat that cannot be answered gets a reply that says why.

        Args:
            requests: in any order; those that begin alike are found and put together.
            on_reply: called as `on_reply(index, reply)` when the batch that a chat is in has ended.
        """
        replies: dict[int, ChatReply] = {}
        for place, prompt_tokens, draw, seconds in self._drawn(requests):
            replies[place] = self._reply(prompt_tokens, draw, seconds)
            if on_reply is not None:
                on_reply(place, replies[place])
        return [replies[place] for place in range(len(requests))]

    def draw(self, requests: Sequence[ChatRequest]) -> list[Draw]:
        """Like `generate`, but token ids come back.

        Raises:
            ModelError: if a chat cannot be answered.
        """
        draws: dict[int, Draw] = {}
        for place, _, draw, _ in self._drawn(requests):
            if isinstance(draw, str):
                raise ModelError(f"chat {place} could not be answered: {draw}")
            draws[place] = draw
        return [draws[place] for place in range(len(requests))]

    def rollout(
        self,
        prompts: Sequence[Mapping[str, Tensor]],
        count: int,
        *,
        max_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = 0,
        first_index: int = 0,
        logprobs: bool = True,
    ) -> list[list[Draw]]:
        """Draw `count` answers to each prompt, for GCPO (section 5); no repetition penalty.

        Row j of prompt i is drawn with the numbers of (seed, first_index + i * count + j), so it does not depend on
        what else is in the batch.

        Args:
            prompts: what the processor returned for each: `input_ids` `(1, length)` or `(length,)` without padding,
                and for pictures `pixel_values` and `image_grid_thw`.
            count: answers per prompt.
            max_tokens: longest answer.
            temperature: 0 is greedy, and then all answers to a prompt are the same.
            top_p: in (0, 1].
            seed: None draws anew each time.
            first_index: index of the first row.
            logprobs: also return each token's log-probability.

        Returns:
            Per prompt, `count` draws.
        """
        pictures, made = PictureSet(), []
        for inputs in prompts:
            numbers = []
            if inputs.get("pixel_values") is not None:
                grids = [(int(t), int(h), int(w)) for t, h, w in inputs["image_grid_thw"].tolist()]
                parts = inputs["pixel_values"].split([t * h * w for t, h, w in grids])
                numbers = [pictures.append(part, grid) for part, grid in zip(parts, grids)]
            ids = inputs["input_ids"].reshape(-1).cpu().numpy().astype(np.int64)
            made.append(make_prompt(ids, numbers, pictures.grids, self._image_token, self._merge))
        rows = [prompt for prompt in made for _ in range(count)]
        plans = [RowPlan(max_tokens, temperature, top_p, seed, first_index + i) for i in range(len(rows))]
        draws: list[Draw | None] = [None] * len(rows)
        for outcome in self._runner.run(rows, pictures, plans, self._ends, logprobs=logprobs):
            for member, draw in zip(outcome.members, outcome.draws):
                if isinstance(draw, str):
                    raise ModelError(f"a rollout could not be drawn: {draw}")
                draws[member] = draw
        done = [draw for draw in draws if draw is not None]
        return [done[start : start + count] for start in range(0, len(done), count)]

    def next_logits(self, requests: Sequence[ChatRequest], forced: Sequence[Sequence[int]] = ()) -> Tensor:
        """Logits after each chat and after each of `forced`'s tokens, for comparison with the model's own forward.

        Args:
            requests: all run as one batch.
            forced: per request, the tokens to feed, equally many for each.

        Returns:
            `(requests, 1 + forced tokens, vocabulary)`.

        Raises:
            ValueError: if a request cannot be tokenised.
        """
        prompts, pictures = tokenise(requests, self.processor, self._merge)
        if faults := [p for p in prompts if isinstance(p, str)]:
            raise ValueError(faults[0])
        good = [p for p in prompts if isinstance(p, Prompt)]
        return self._runner.next_logits(good, pictures, forced or [()] * len(good))

    def _drawn(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, int, Draw | str, float]]:
        """As batches end: a request's place, its prompt's tokens, its answer or why there is none, and seconds."""
        for first in range(0, len(requests), _WINDOW):
            window = requests[first : first + _WINDOW]
            started = time.perf_counter()
            prompts, pictures = tokenise(window, self.processor, self._merge)
            overhead = (time.perf_counter() - started) / len(window)
            places, good = [], []
            for place, prompt in enumerate(prompts, start=first):
                if isinstance(prompt, str):
                    yield place, 0, prompt, overhead
                else:
                    places.append(place)
                    good.append(prompt)
            plans = [
                RowPlan(s.max_tokens, s.temperature, s.top_p, s.seed, requests[place].fresh)
                for place in places
                for s in [requests[place].sampling]
            ]
            for outcome in self._runner.run(good, pictures, plans, self._ends, penalty=self.repetition_penalty):
                share = overhead + outcome.seconds / len(outcome.members)
                for member, draw in zip(outcome.members, outcome.draws):
                    yield places[member], len(good[member]), draw, share

    def _reply(self, prompt_tokens: int, draw: Draw | str, seconds: float) -> ChatReply:
        if isinstance(draw, str):
            return ChatReply(ReplyStatus.ERROR, usage=Usage(prompt_tokens, 0, 1), seconds=seconds, error=draw)
        text = self.processor.tokenizer.decode(
            draw.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        status, error = ReplyStatus.OK, None
        if not draw.ended:
            status, error = ReplyStatus.TRUNCATED, f"the answer did not end within {len(draw.tokens)} tokens"
        elif not text.strip():
            status, error = ReplyStatus.EMPTY, "the answer is empty"
        return ChatReply(status, text, Usage(prompt_tokens, len(draw.tokens), 1), seconds, error)


def _end_tokens(model: Any) -> frozenset[int]:
    """The ids at which `generate` stops."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = model.config.text_config.eos_token_id
    return frozenset() if ends is None else frozenset([ends] if isinstance(ends, int) else ends)
