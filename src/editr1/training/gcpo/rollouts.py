"""Where rollouts come from: the shared-prefix engine in this process, or vLLM with every prompt checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from editr1.errors import ModelError
from editr1.judges.fast import FastEngine, why_unsupported

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_k": (0, None),
    "min_p": (None, 0.0),
    "repetition_penalty": (1.0,),
    "generation_kwargs": (None, {}),
}
"""Settings of sampling that the engine does not know, with the values under which that does not matter."""


def why_no_engine(model: Any, args: Any, sharded: bool) -> str | None:
    """The reason why rollouts cannot be drawn by the shared-prefix engine, or None if they can.

    Args:
        model: bare, without wrappers.
        args: of the trainer.
        sharded: whether its weights are spread over processes.
    """
    if args.use_vllm:
        return "vLLM draws the rollouts"
    if sharded:
        return "the weights are spread over processes"
    for name, neutral in _NEUTRAL.items():
        if getattr(args, name, None) not in neutral:
            return f"{name} is set"
    return why_unsupported(model)


class SharedRollouts:
    """Draws N rollouts of each prompt, its pictures and words encoded once.

    Args:
        model: bare; it is read anew for every draw.
        processor: the model's.
        args: of the trainer: length, temperature, top_p.
        ends: ids that end an answer.
    """

    def __init__(self, model: Any, processor: Any, args: Any, ends: Sequence[int]) -> None:
        self._engine = FastEngine(model, processor)
        self._args = args
        self._ends = list(ends)
        config = model.config
        self._pictures = {int(t) for t in (config.image_token_id, getattr(config, "video_token_id", None)) if t}

    def draw(
        self, prompts: Sequence[Sequence[int]], fields: Mapping[str, Any], count: int, seed: int, first: int
    ) -> list[list[int]]:
        """Token ids of `count` rollouts of each prompt, in order.

        Args:
            prompts: ids, placeholders widened.
            fields: what the processor returned beside the ids, for all prompts together.
            count: N.
            seed: of this draw; row j of prompt i is drawn with the numbers of (seed, first + i N + j).
            first: index of the first row, so that processes draw what one process would.
        """
        inputs = _split(prompts, fields, self._engine.device)
        self._engine.refresh()
        draws = self._engine.rollout(
            inputs,
            count,
            max_tokens=self._args.max_completion_length,
            temperature=self._args.temperature,
            top_p=self._args.top_p,
            seed=seed,
            first_index=first,
            logprobs=False,
        )
        self._engine.release()
        return [self._without_pictures(list(d.tokens)) for group in draws for d in group]

    def _without_pictures(self, tokens: list[int]) -> list[int]:
        """Cut before a picture's placeholder: in the training forward it would ask for a picture that is not there.

        A sound model never writes one. What is left has no end, so it counts as cut off.
        """
        stop = next((i for i, token in enumerate(tokens) if token in self._pictures), len(tokens))
        return tokens[:stop] or self._ends[:1]


def _split(prompts: Sequence[Sequence[int]], fields: Mapping[str, Any], device: torch.device) -> list[dict[str, Any]]:
    """Per prompt its ids and its share of the pictures, every prompt having equally many."""
    inputs: list[dict[str, Any]] = [{"input_ids": torch.tensor(list(p))} for p in prompts]
    if fields.get("pixel_values") is None:
        return inputs
    grids = torch.as_tensor(fields["image_grid_thw"])
    each = len(grids) // len(prompts)
    patches = torch.as_tensor(fields["pixel_values"]).split(grids.prod(-1).tolist())
    for i, row in enumerate(inputs):
        row["pixel_values"] = torch.cat(patches[i * each : (i + 1) * each]).to(device)
        row["image_grid_thw"] = grids[i * each : (i + 1) * each]
    return inputs


def draw_seed(seed: int, step: int, part: int) -> int:
    """The seed of a draw: a function of the run's seed, the optimisation step, and which draw of that step it is."""
    digest = hashlib.sha256(f"gcpo-rollouts/{seed}/{step}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class CheckedVllm:
    """TRL's vLLM, with pictures' placeholders as each mode wants them, and a check that they arrived.

    TRL 1.16 gives vLLM prompts whose placeholders are widened already. In its own process vLLM widens them again, and
    rollouts are nonsense (TRL issue 6294); so there one placeholder a picture is sent. The prompts that vLLM says it
    has read must be those that are trained on, or the run stops: wrong rollouts look like bad ones, and nothing else
    would tell.

    Args:
        inner: TRL's `VLLMGeneration`.
        image_token: id of a placeholder.
    """

    def __init__(self, inner: Any, image_token: int) -> None:
        self._inner = inner
        self._image_token = image_token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def generate(self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None) -> Any:
        """As TRL's, for the prompts as they are trained on.

        Raises:
            ModelError: if vLLM read other prompts.
        """
        sent = prompts
        if self._inner.mode == "colocate" and images is not None:
            sent = [one_placeholder(ids, self._image_token) for ids in prompts]
        read, *rest = self._inner.generate(
            prompts=sent, images=images, num_generations=num_generations, profiler=profiler
        )
        for mine, theirs in zip(prompts, read, strict=True):
            if list(mine) != list(theirs):
                raise ModelError(
                    f"vLLM read a prompt of {len(theirs)} tokens where {len(mine)} are trained on: its rollouts cannot "
                    "be used (TRL issue 6294); set engine = 'generate', or use versions in which the two agree"
                )
        return prompts, *rest


def one_placeholder(ids: Sequence[int], image_token: int) -> list[int]:
    """Each run of placeholders as one. Two pictures never touch: a chat template puts tokens around each."""
    return [t for i, t in enumerate(ids) if t != image_token or i == 0 or ids[i - 1] != image_token]
