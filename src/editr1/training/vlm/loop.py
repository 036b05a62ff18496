"""Training of the embedded vision-language models, from fresh weights or from a parent, on answers only.

One file, top to bottom: examples are made on the fly in workers, batches are sorted by length, weights stay float32
under bfloat16 autocast. A run can be killed at any time: it continues from its last checkpoint with the same batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from editr1.judges.names import resolve_model
from editr1.judges.qwen_parts import MERGE
from editr1.rundir import RunDir
from editr1.stickers.examples import EXAMPLES
from editr1.stickers.kinds import SIDE
from editr1.stickers.models import DECISION_TOKENS, PATCH, make_model, make_processor, save, train_tokenizer
from editr1.training.muon import make_optimizers
from editr1.training.uniform import compile_blocks, patchify, uniform_pictures
from editr1.training.vlm.data import CHUNK, IGNORED, Batch, ChunkedExamples
from editr1.training.vlm.recipe import VlmRecipe

LOG_EVERY = 20


def train_vlm(recipe: VlmRecipe, folder: Path, report: Callable[[dict[str, float]], None] | None = None) -> Path:
    """Train into a run directory; an interrupted run there is continued.

    Args:
        recipe: what to train, and how.
        folder: of the run; metrics, checkpoints and, in the end, `model/` lie there.
        report: called every LOG_EVERY steps with step, loss, token_accuracy, learning_rate and examples_per_second.

    Returns:
        the folder of the finished model.
    """
    run = RunDir.create(folder, recipe.model_dump(mode="json"), seeds={"weights": recipe.seed}, resume=True)
    torch.manual_seed(recipe.seed)
    model, processor = _load(recipe)
    model.to(_device(recipe.device)).train()
    if recipe.compile:
        compile_blocks(model)
    optimizers = make_optimizers(model, recipe.learning_rate, recipe.weight_decay)
    done = _resume(run, model, optimizers)
    decisions = torch.tensor(processor.tokenizer.convert_tokens_to_ids(DECISION_TOKENS), device=model.device)
    data = ChunkedExamples(
        EXAMPLES[recipe.examples], recipe.split, recipe.batch_size, math.ceil(recipe.steps / CHUNK), processor.tokenizer
    )
    started = time.monotonic()
    with uniform_pictures(model), run.log(after=done) as log:
        for step, batch in _batches(data, recipe, done):
            rate = learning_rate(step, recipe)
            for group in (g for o in optimizers for g in o.param_groups):
                group["lr"] = rate
            loss, accuracy = answer_loss(model, batch.to(model.device), decisions, recipe.decision_weight)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if (step + 1) % LOG_EVERY == 0 or step + 1 == recipe.steps:
                pace = (step + 1 - done) * recipe.batch_size / (time.monotonic() - started)
                row = {"loss": loss.item(), "token_accuracy": accuracy.item(), "learning_rate": rate}
                row["examples_per_second"] = round(pace, 1)
                log.write(step + 1, **row)
                if report is not None:
                    report({"step": step + 1, **row})
            if (step + 1) % recipe.save_every == 0 and step + 1 < recipe.steps:
                _checkpoint(run, model, optimizers, step + 1)
    save(model.eval(), processor, run.path / "model")
    return run.path / "model"


def answer_loss(
    model: Any, batch: Batch, decisions: Tensor | None = None, decision_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy over the answers' tokens, and the share of them that greedy prediction gets right.

    To be called inside `uniform_pictures(model)`. Tokens whose id is among `decisions` weigh `decision_weight` in the
    mean, all others 1.
    """
    side = SIDE // PATCH
    grid = torch.tensor([[1, side, side]] * len(batch.pictures), device=batch.pictures.device)
    with torch.autocast(batch.pictures.device.type, torch.bfloat16):
        hidden = model.model(
            input_ids=batch.input_ids,
            attention_mask=torch.ones_like(batch.input_ids),  # padding is on the right, behind every answer
            position_ids=batch.positions,
            pixel_values=patchify(batch.pictures, PATCH, MERGE),
            image_grid_thw=grid,
            use_cache=False,
        ).last_hidden_state
        labels = batch.labels[:, 1:]
        kept = labels != IGNORED
        logits = model.lm_head(hidden[:, :-1][kept])
    targets = labels[kept]
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    weights = torch.ones_like(losses)
    if decisions is not None:
        weights[torch.isin(targets, decisions)] = decision_weight
    loss = (losses * weights).sum() / weights.sum()
    return loss, (logits.argmax(-1) == targets).float().mean()


@torch.no_grad()
def held_out(
    model: Any, tokenizer: Any, examples: str, split: str = "validation", number: int = 512
) -> dict[str, float]:
    """Mean loss and token accuracy on examples that no training saw."""
    data = ChunkedExamples(EXAMPLES[examples], split, number // CHUNK, 1, tokenizer)
    with uniform_pictures(model):
        rows = [answer_loss(model, b.to(model.device)) for b in data[0]]
    return {
        "loss": sum(r[0].item() for r in rows) / len(rows),
        "token_accuracy": sum(r[1].item() for r in rows) / len(rows),
    }


def learning_rate(step: int, recipe: VlmRecipe) -> float:
    """Linear warm-up, then a cosine down to a tenth of the peak."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    share = (step - recipe.warmup) / max(recipe.steps - recipe.warmup, 1)
    return recipe.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def _device(name: str) -> torch.device:
    return torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def _load(recipe: VlmRecipe) -> tuple[Any, Any]:
    if recipe.parent is None:
        tokenizer = train_tokenizer()
        return make_model(str(recipe.size), tokenizer, recipe.seed), make_processor(tokenizer)
    from transformers import AutoModelForImageTextToText, AutoProcessor

    path = resolve_model(recipe.parent)
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(path)


def _batches(data: ChunkedExamples, recipe: VlmRecipe, done: int) -> Iterator[tuple[int, Batch]]:
    first = done // CHUNK
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(first, len(data)),
        num_workers=recipe.workers,
        prefetch_factor=2 if recipe.workers else None,
    )
    step = first * CHUNK
    for chunk in loader:
        for batch in chunk:
            if done <= step < recipe.steps:
                yield step, batch
            step += 1


def _checkpoint(run: RunDir, model: Any, optimizers: tuple[torch.optim.Optimizer, ...], step: int) -> None:
    names = {p: n for n, p in model.named_parameters()}
    tensors = {f"model/{n}": p.detach().cpu() for p, n in names.items()}
    for optimizer in optimizers:
        for p, state in optimizer.state.items():
            tensors |= {f"{key}/{names[p]}": torch.as_tensor(value).cpu() for key, value in state.items()}
    run.save_checkpoint(step, lambda folder: save_file(tensors, folder / "state.safetensors"))


def _resume(run: RunDir, model: Any, optimizers: tuple[torch.optim.Optimizer, ...]) -> int:
    """Restore the last checkpoint, if any; the number of steps done."""
    latest = run.latest_checkpoint()
    if latest is None:
        return 0
    done, folder = latest
    named = dict(model.named_parameters())
    owner = {p: o for o in optimizers for g in o.param_groups for p in g["params"]}
    with safe_open(folder / "state.safetensors", "pt") as file:
        for entry in file.keys():  # noqa: SIM118  (the file cannot be iterated)
            key, name = entry.split("/", 1)
            value, p = file.get_tensor(entry), named[name]
            if key == "model":
                p.data.copy_(value)
            else:
                owner[p].state[p][key] = value if key == "step" else value.to(p.device)
    return done
