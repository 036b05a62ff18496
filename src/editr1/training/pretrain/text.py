"""Third stage: what the words of an instruction mean, before any picture is drawn.

The text encoders of FLUX and Qwen-Image have read the web; those of an embedded editor start from nothing. Learnt
through the flow alone, they tell kinds of edits apart long before they tell bricks from grass: a word matters in few
tokens of few pictures. Here each instruction is asked which attributes its steps have (what is done, to which sticker,
in which colour, at which place ...), by linear layers on what the transformer will be told. The layers are then thrown
away.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from editr1.errors import ConfigError, ModelError
from editr1.files import write_atomic
from editr1.rundir import RunDir
from editr1.stickers.tasks import StickerTask
from editr1.training.pretrain.data import EditMixture
from editr1.training.pretrain.latents import LatentStore, Order
from editr1.training.pretrain.models import Trainee
from editr1.training.pretrain.recipe import EditorRecipe
from editr1.training.pretrain.state import TrainState, learning_rate, make_optimizers
from editr1.training.pretrain.vae import Report, autocast

FILE = "text.safetensors"
"""Of the trained encoders, in the run directory."""

_MADE_BY = "made_by"
"""Its metadata: the settings that it was made by, as JSON."""

_QUERIES = 8
"""Weighted means of a prompt's tokens that are asked, each with weights of its own."""

_HELD_OUT = 0.02
"""Share of the tasks whose instructions are only asked at the end."""


def attributes(task: StickerTask) -> frozenset[str]:
    """Of a task's steps, e.g. "Repaint" and "Repaint.finish=red"; numbers are chance, which no instruction names."""
    found = set[str]()
    for step in task.steps:
        name = type(step).__name__
        found |= {name} | {f"{name}.{said}" for said in _said(step)}
    return frozenset(found)


def _said(thing: Any) -> Iterator[str]:
    """Fields that are words or truth values, those of a field's own fields among them."""
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if dataclasses.is_dataclass(value):
            yield from _said(value)
        elif value is None or isinstance(value, str | bool):
            yield f"{field.name}={value}"


class Questions(nn.Module):
    """Which attributes an instruction has, asked of its row of tokens, and of its pooled embedding if there is one.

    Args:
        texts: as `Trainee.embed` makes them, for their widths.
        number: of attributes.
    """

    def __init__(self, texts: Mapping[str, Tensor], number: int) -> None:
        super().__init__()
        width = texts["prompt"].shape[-1]
        self.queries = nn.Parameter(0.1 * torch.randn(_QUERIES, width))
        self.row = nn.Linear(_QUERIES * width, number)
        self.pooled = nn.Linear(texts["pooled"].shape[-1], number) if "pooled" in texts else None

    def forward(self, texts: Mapping[str, Tensor]) -> list[Tensor]:
        """Logits, (B, attributes) from each."""
        prompt = texts["prompt"]
        scores = prompt @ self.queries.T / _QUERIES
        if "prompt_mask" in texts:
            scores = scores.masked_fill(~texts["prompt_mask"][..., None], -torch.inf)
        means = scores.softmax(dim=1).transpose(1, 2) @ prompt
        answers = [self.row(means.flatten(1))]
        return answers if self.pooled is None else [*answers, self.pooled(texts["pooled"])]


def train_text(
    trainee: Trainee, store: LatentStore, recipe: EditorRecipe, run: RunDir, report: Report | None = None
) -> None:
    """Train the text encoders into `run/text.safetensors`, or load them from there.

    It takes minutes: an interrupted training begins again.

    Args:
        trainee: whose text encoders get the weights.
        store: instructions of the recipe's edits, as tokens.
        recipe: what is trained; `text.steps` of 0 leaves the encoders as they are.
        run: directory of the run.
        report: of progress.

    Raises:
        ConfigError: if the encoders there were trained with other settings.
        ModelError: if a gradient is not finite.
    """
    settings, file = recipe.text, run.path / FILE
    encoders = {name: module for name, module in trainee.trained.items() if name in trainee.text_models}
    for module in encoders.values():
        module.eval()  # no dropout: an instruction is seen a few times only
    if not settings.steps:
        return
    if file.is_file():
        _load(encoders, _read(file, recipe))
        return
    asked = _Asked(trainee, store, recipe)
    for module in encoders.values():
        module.requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        questions = Questions(asked.texts(np.arange(2)), asked.labels.shape[1]).to(trainee.device)
    modules = encoders | {"questions": questions}
    state = TrainState(modules, make_optimizers(modules, settings.learning_rate, settings.weight_decay))
    order = Order(asked.trained, settings.batch_size, recipe.seed)
    started = time.monotonic()
    for step in range(settings.steps):
        rows = order(step)
        loss = answer_loss(questions, asked.texts(rows), asked.labels[rows].to(trainee.device))
        loss.backward()
        if not math.isfinite(state.step(step, learning_rate(step, settings), 1.0)):
            raise ModelError(f"the gradient of step {step + 1} was not finite: lower text.learning_rate, start again")
        if report is not None and ((step + 1) % recipe.log_every == 0 or step + 1 == settings.steps):
            report("text", step + 1, settings.steps, {"loss": loss.item()})
    for module in encoders.values():
        module.requires_grad_(False)
    figures = {"loss": loss.item()} | asked.measure(questions, settings.batch_size)
    with run.log(after=recipe.vae.steps) as log:
        log.write(recipe.vae.steps, stage="text", seconds=round(time.monotonic() - started, 1), **figures)
    kept = {f"{key}.{name}": p.detach() for key, module in encoders.items() for name, p in module.named_parameters()}
    tensors = {name: p.cpu().contiguous() for name, p in kept.items()}
    write_atomic(file, save(tensors, {_MADE_BY: json.dumps(_made_by(recipe))}))


def answer_loss(questions: Questions, texts: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Binary cross-entropy of all answers, summed over attributes, averaged over instructions and embeddings.

    Args:
        questions: that are asked.
        texts: what they are asked of.
        labels: (B, attributes) in {0, 1}.
    """
    each = [F.binary_cross_entropy_with_logits(a.float(), labels, reduction="sum") for a in questions(texts)]
    return torch.stack(each).mean() / len(labels)


class _Asked:
    """Instructions of a store and their attributes; the last of them are held out."""

    def __init__(self, trainee: Trainee, store: LatentStore, recipe: EditorRecipe) -> None:
        self.trainee, self.store, self.recipe = trainee, store, recipe
        self.per_task = recipe.edits.per_task
        mixture = EditMixture(recipe.edits)
        known = [attributes(mixture.task(index)) for index in range(len(store) // self.per_task)]
        self.names = sorted(frozenset().union(*known))
        self.labels = torch.tensor([[name in found for name in self.names] for found in known], dtype=torch.float32)
        self.trained = max(1, len(known) - max(1, round(_HELD_OUT * len(known))))

    def texts(self, tasks: Sequence[int] | np.ndarray[Any, Any]) -> dict[str, Tensor]:
        """What the transformer is told of tasks, by number."""
        examples = self.store.rows(np.asarray(tasks) * self.per_task, self.trainee.device)
        with autocast(self.trainee.device, self.recipe.precision):
            texts = self.trainee.embed(examples.tokens, examples.pixels)
        return {name: value.float() if value.is_floating_point() else value for name, value in texts.items()}

    @torch.no_grad()
    def measure(self, questions: Questions, batch_size: int) -> dict[str, float]:
        """Share of held-out instructions all of whose attributes are told, by the row and by the pooled embedding."""
        right: dict[str, int] = {}
        numbers = range(self.trained, len(self.labels))
        for first in numbers[::batch_size]:
            rows = np.arange(first, min(first + batch_size, numbers.stop))
            wanted = self.labels[rows].to(self.trainee.device).bool()
            for name, answer in zip(("prompt", "pooled"), questions(self.texts(rows)), strict=False):
                right[name] = right.get(name, 0) + int(((answer > 0) == wanted).all(dim=1).sum())
        return {f"held_out/text/{name}": count / max(len(numbers), 1) for name, count in right.items()}


def _made_by(recipe: EditorRecipe) -> dict[str, Any]:
    """The settings that the encoders depend on."""
    return recipe.model_dump(mode="json", include={"text", "edits", "editor", "size", "texts", "seed"})


def _read(file: Path, recipe: EditorRecipe) -> dict[str, Tensor]:
    """The kept encoders, if they are the recipe's."""
    with safe_open(file, "pt") as kept:
        found, made_by = json.loads((kept.metadata() or {}).get(_MADE_BY, "{}")), _made_by(recipe)
        if found != made_by:
            other = ", ".join(name for name in made_by if found.get(name) != made_by[name])
            raise ConfigError(
                f"the text encoders in {file} were trained with other settings ({other}): delete that file, or name "
                "another run directory"
            )
        names = kept.keys()
        return {name: kept.get_tensor(name) for name in names}


def _load(encoders: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    for key, module in encoders.items():
        own = dict(module.named_parameters())
        for name, parameter in own.items():
            parameter.data.copy_(tensors[f"{key}.{name}"])
