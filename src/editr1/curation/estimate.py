"""What a run of the paper's size would take, on paper: calls, tokens, GPU-hours, storage, money.

An estimate, from real prompts of a few contexts of the recipe's own source, and from a former run's measurements where
there are some. Every figure that is not counted is an assumption, and is listed as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from editr1.curation.recipe import CurationJudge
from editr1.curation.records import Context, Decomposed, Edit, Pictures, Traced
from editr1.curation.select import Pick, draw_order, read_picks
from editr1.curation.verify import render_verify
from editr1.curation.workshop import Workshop
from editr1.errors import DataError
from editr1.images import load_image
from editr1.judges.base import Message, Picture
from editr1.types import Category, EditVerdict, Principle, Trace, VerdictStatus
from editr1.verifier.exemplars import draw, render_exemplars
from editr1.verifier.render import render_decompose, render_score

CHARACTERS_PER_TOKEN = 4.0
PATCH = 28
"""Side of the square of pixels that becomes one token: Qwen2.5-VL's 14-pixel patches, merged two by two."""

_COMPLETION = {"select": 60, "decompose": 450, "trace": 900, "verify": 400}
"""Tokens of an answer where no former run has been measured."""

_PRINCIPLES = 10


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What a stage would take; tokens are of all its calls together."""

    stage: str
    calls: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    gpu_hours: float = 0.0
    cost: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The whole: by stage, and under which assumptions."""

    contexts: int
    quadruples: int
    stages: list[StageEstimate] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, labelled as what it is."""
        keys = StageEstimate.__slots__
        return {
            "kind": "estimate, not a measurement",
            "contexts": self.contexts,
            "quadruples": self.quadruples,
            "stages": [{key: getattr(stage, key) for key in keys} for stage in self.stages],
            "total": {key: sum(getattr(s, key) for s in self.stages) for key in keys[1:]},
            "assumptions": self.assumptions,
        }


def estimate(workshop: Workshop, measured: Mapping[str, Any] | None = None) -> Estimate:
    """Reckon a run of `recipe.estimate`'s size.

    Args:
        workshop: of the recipe; its judges and editors are not made.
        measured: the manifest of a former run, whose answers' lengths are used.

    Raises:
        DataError: if the source holds no sound context.
    """
    recipe, size = workshop.recipe, workshop.recipe.estimate
    sample = _sample(workshop)
    per_call = _prompt_tokens(workshop, sample)
    completion = {stage: _measured_length(measured, stage) or float(_COMPLETION[stage]) for stage in _COMPLETION}
    of_hard = recipe.select.hard / max(recipe.select.hard + recipe.select.random, 1)
    traces = len(workshop.variants) * len(recipe.trace.temperatures) * recipe.trace.samples
    calls = {
        "select": (ceil(size.contexts * of_hard / recipe.select.pass_rate), (recipe.select.judge,)),
        "decompose": (size.contexts, (recipe.decompose.judge,)),
        "trace": (size.quadruples * traces, recipe.trace.judges),
        "verify": (size.quadruples, (recipe.verify.judge,)),
    }
    picture = sum(len(c.source) for c in sample) / len(sample)
    answer = CHARACTERS_PER_TOKEN * completion["trace"]
    stored = {
        "select": size.contexts * picture,
        "decompose": size.contexts * CHARACTERS_PER_TOKEN * completion["decompose"],
        "trace": 2 * calls["trace"][0] * len(recipe.trace.judges) * answer,  # in the shards and in the journal
        "verify": 2 * size.quadruples * CHARACTERS_PER_TOKEN * completion["verify"],
    }
    stages = [
        _stage(workshop, stage, count, judges, per_call[stage], completion[stage], stored[stage])
        for stage, (count, judges) in calls.items()
    ]
    hours = size.quadruples * size.edit_seconds / 3600
    stages.insert(2, StageEstimate("edit", size.quadruples, gpu_hours=hours, bytes=round(size.quadruples * picture)))
    stages.append(StageEstimate("export", 0, bytes=round(size.quadruples * (2 * picture + answer * 2))))
    return Estimate(size.contexts, size.quadruples, stages, _assumptions(workshop, len(sample), picture, measured))


def _stage(
    workshop: Workshop,
    stage: str,
    count: int,
    judges: tuple[CurationJudge, ...],
    prompt: float,
    completion: float,
    stored: float,
) -> StageEstimate:
    size = workshop.recipe.estimate
    calls = count * len(judges)
    read, written = calls * prompt, calls * completion
    seconds = read / size.prefill_rate + written / size.decode_rate
    cost = sum(count * (prompt * j.prompt_price + completion * j.completion_price) for j in judges) / 1e6
    return StageEstimate(stage, calls, round(read), round(written), seconds / 3600, cost, round(stored))


def _sample(workshop: Workshop) -> list[Context]:
    """The first few sound contexts in the drawn order."""
    wanted, source = workshop.recipe.estimate.sample, workshop.source
    order = draw_order(len(source), workshop.recipe.seed)[: 4 * wanted]
    contexts = list(read_picks(source, [Pick(position, "random") for position in order[:wanted]]))
    contexts = contexts or list(read_picks(source, [Pick(position, "random") for position in order[wanted:]]))
    if not contexts:
        raise DataError(f"none of the first {len(order)} contexts drawn from {source.name} can be read")
    return contexts


def _prompt_tokens(workshop: Workshop, sample: list[Context]) -> dict[str, float]:
    """Mean tokens of a prompt of each stage, over the sample, rendered as the stages render them."""
    totals = dict.fromkeys(_COMPLETION, 0.0)
    for context in sample:
        picture = load_image(context.source)
        principles = _typical_principles(context.id)
        edit = Edit("estimate", Decomposed("estimate", context, principles), "estimate", context.source)
        text = "x" * int(CHARACTERS_PER_TOKEN * _COMPLETION["trace"])
        verdict = EditVerdict(VerdictStatus.OK, (), 0.0, 0.0)
        hints = min(workshop.recipe.verify.max_hints, _traces_per_edit(workshop))
        traced = Traced("estimate", edit, tuple(Trace("", f"{n}{text}", verdict, "") for n in range(hints)))
        exemplars = render_exemplars(draw(workshop.template.exemplars, workshop.recipe.seed, context.id))
        totals["select"] += (
            _text(workshop.select_prompt.fill("system"))
            + _text(workshop.select_prompt.fill("task", instruction=context.instruction))
            + _image(picture.size)
        )
        totals["decompose"] += _chat(render_decompose(workshop.template, picture, context.instruction, exemplars))
        totals["trace"] += _chat(
            render_score(workshop.template, picture, picture, context.instruction, principles)
        ) + sum(map(_text, workshop.variants.values())) / len(workshop.variants)
        totals["verify"] += _chat(render_verify(workshop.verify_prompt, traced, Pictures(), hints))
    return {stage: total / len(sample) for stage, total in totals.items()}


def _typical_principles(key: str) -> tuple[Principle, ...]:
    (exemplar,) = draw(1, 0, key)
    filler = Principle("Is the rest of the picture as it was before the edit was made?", Category.KEEP)
    return (exemplar.principles + (filler,) * _PRINCIPLES)[:_PRINCIPLES]


def _traces_per_edit(workshop: Workshop) -> int:
    settings = workshop.recipe.trace
    return len(settings.judges) * len(settings.variants) * len(settings.temperatures) * settings.samples


def _chat(messages: tuple[Message, ...]) -> float:
    parts = [part for message in messages for part in message.content]
    return sum(_image(part.image.size) if isinstance(part, Picture) else _text(part.text) for part in parts)


def _text(text: str) -> float:
    return len(text) / CHARACTERS_PER_TOKEN


def _image(size: tuple[int, int]) -> float:
    return ceil(size[0] / PATCH) * ceil(size[1] / PATCH)


def _measured_length(measured: Mapping[str, Any] | None, stage: str) -> float | None:
    """Mean tokens of an answer in a former run."""
    judges = (measured or {}).get(stage, {}).get("judges", {}).values()
    calls = sum(judge["calls"] for judge in judges)
    return sum(judge["completion_tokens"] for judge in judges) / calls if calls else None


def _assumptions(workshop: Workshop, sample: int, picture: float, measured: Mapping[str, Any] | None) -> list[str]:
    size = workshop.recipe.estimate
    lengths = ", ".join(f"{stage} {tokens}" for stage, tokens in _COMPLETION.items())
    return [
        f"prompts: those of {sample} contexts of {workshop.source.name}, {CHARACTERS_PER_TOKEN:g} characters a token, "
        f"one token for {PATCH}x{PATCH} pixels of a picture, {_PRINCIPLES} principles",
        "answers: as long as in the former run, where it had some" if measured else f"answers, in tokens: {lengths}",
        f"hard filter: {workshop.recipe.select.pass_rate:.0%} pass",
        "no call is made twice and none is answered from a cache; failures and fresh tries are left out",
        f"one GPU reads {size.prefill_rate:g} and writes {size.decode_rate:g} tokens a second with many requests at "
        "once and no shared prefixes (a model of about 7 B parameters), where a judge does not run at a service",
        f"one edit takes one GPU {size.edit_seconds:g} s",
        f"an edited picture is as large as its source, {picture / 1024:.0f} KiB in the mean",
        "prices: as in the recipe; 0 where it names none",
    ]
