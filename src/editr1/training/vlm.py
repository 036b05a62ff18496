"""Training of the embedded vision-language models, from fresh weights or from a parent, on answers only.

One file, top to bottom: examples are made on the fly in workers, batches are sorted by length, weights stay float32
under bfloat16 autocast. A run can be killed at any time: it continues from its last checkpoint with the same batches.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from editr1.stickers.examples import EXAMPLES
from editr1.stickers.models import MERGE, PATCH, SIDE, make_model, make_processor, save, train_tokenizer
from editr1.training.uniform import patchify, uniform_pictures
from editr1.training.vlm_data import CHUNK, IGNORED, Batch, ChunkedExamples, Encoder


@dataclass(frozen=True, slots=True)
class VlmTraining:
    """Settings of one run.

    Attributes:
        examples: a key of `EXAMPLES`; split: whose examples are learnt from.
        size: of a fresh model ("small", "large"); unused with a parent.
        parent: folder of a model to go on from; None for fresh weights.
        steps, batch_size: optimisation steps; sequences per step.
        learning_rate: peak of a schedule that warms up over `warmup` steps and falls as a cosine to a tenth.
        workers: processes that make examples.
        save_every: steps between checkpoints.
    """

    out: Path
    examples: str
    size: str = "small"
    parent: Path | None = None
    split: str = "train"
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.05
    seed: int = 0
    workers: int = 1
    save_every: int = 500
    device: str = "auto"


def train_vlm(settings: VlmTraining, report: Callable[[dict[str, float]], None] | None = None) -> Path:
    """Train, save the model to `settings.out`, and return that folder. Continues an interrupted run.

    Args:
        settings: what to train, and how.
        report: called every 20 steps with step, loss, accuracy of next tokens, learning rate, examples a second.
    """
    torch.manual_seed(settings.seed)
    device = torch.device(_device(settings.device))
    model, processor = _load(settings)
    model.to(device).train()
    optimizers = _optimizers(model, settings)
    done = _resume(settings, model, optimizers)
    data = ChunkedExamples(
        EXAMPLES[settings.examples],
        settings.split,
        settings.batch_size,
        math.ceil(settings.steps / CHUNK),
        processor.tokenizer,
    )
    started, log = time.monotonic(), settings.out / "metrics.jsonl"
    with uniform_pictures(model):
        for step, batch in _batches(data, settings, done):
            rate = _learning_rate(step, settings)
            for group in (g for o in optimizers for g in o.param_groups):
                group["lr"] = rate
            loss, accuracy = answer_loss(model, batch.to(device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if (step + 1) % 20 == 0 or step + 1 == settings.steps:
                pace = (step + 1 - done) * settings.batch_size / (time.monotonic() - started)
                row = {"step": step + 1, "loss": loss.item(), "token_accuracy": accuracy.item(), "lr": rate}
                row["examples_per_second"] = round(pace, 1)
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                if report is not None:
                    report(row)
            if (step + 1) % settings.save_every == 0 and step + 1 < settings.steps:
                _checkpoint(settings, model, optimizers, step + 1)
    save(model.eval(), processor, settings.out)
    for file in settings.out.glob("checkpoint*"):
        file.unlink()
    return settings.out


def answer_loss(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy over the answers' tokens, and the share of them that greedy prediction gets right."""
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
    loss = F.cross_entropy(logits.float(), targets)
    return loss, (logits.argmax(-1) == targets).float().mean()


@torch.no_grad()
def held_out_loss(model: Any, tokenizer: object, examples: str, split: str = "validation", number: int = 256) -> float:
    """Mean loss on examples that no training saw."""
    data = ChunkedExamples(EXAMPLES[examples], split, number // CHUNK, 1, tokenizer)
    device = next(model.parameters()).device
    with uniform_pictures(model):
        losses = [answer_loss(model, b.to(device))[0].item() for b in data[0]]
    return sum(losses) / len(losses)


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load(settings: VlmTraining) -> tuple[Any, Any]:
    if settings.parent is None:
        tokenizer = train_tokenizer()
        return make_model(settings.size, tokenizer, settings.seed), make_processor(tokenizer)
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(settings.parent, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(settings.parent)


def _optimizers(model: Any, settings: VlmTraining) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the model, AdamW for embeddings, norms, biases and the patch projection."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    ids = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in ids]
    rate, decay = settings.learning_rate, settings.weight_decay
    return (
        torch.optim.Muon(inner, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=rate, weight_decay=0.0, betas=(0.9, 0.98)),
    )


def _learning_rate(step: int, settings: VlmTraining) -> float:
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def _batches(data: ChunkedExamples, settings: VlmTraining, done: int) -> Iterator[tuple[int, Batch]]:
    first = done // CHUNK
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(first, len(data)),
        num_workers=settings.workers,
        prefetch_factor=2 if settings.workers else None,
    )
    step = first * CHUNK
    for chunk in loader:
        for batch in chunk:
            if done <= step < settings.steps:
                yield step, batch
            step += 1


def _checkpoint(
    settings: VlmTraining, model: Any, optimizers: tuple[torch.optim.Optimizer, ...], step: int
) -> None:
    from safetensors.torch import save_file

    names = {p: n for n, p in model.named_parameters()}
    tensors = {f"model.{n}": p.detach().cpu() for n, p in model.named_parameters()}
    for optimizer in optimizers:
        for p, state in optimizer.state.items():
            tensors |= {f"{key}/{names[p]}": torch.as_tensor(value).detach().cpu() for key, value in state.items()}
    part = settings.out / "checkpoint.part"
    save_file(tensors, part, metadata={"step": str(step)})
    part.replace(settings.out / "checkpoint.safetensors")


def _resume(settings: VlmTraining, model: Any, optimizers: tuple[torch.optim.Optimizer, ...]) -> int:
    """Restore the last checkpoint, if any; the number of steps done."""
    settings.out.mkdir(parents=True, exist_ok=True)
    path, log = settings.out / "checkpoint.safetensors", settings.out / "metrics.jsonl"
    if not path.exists():
        log.write_text("")
        return 0
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        done = int(file.metadata()["step"])
        keys = {key for key in file.keys() if not key.startswith("model.")}
        for name, p in model.named_parameters():
            p.data.copy_(file.get_tensor(f"model.{name}"))
            optimizer = next(o for o in optimizers if any(p is q for g in o.param_groups for q in g["params"]))
            state = {key.split("/")[0]: file.get_tensor(key) for key in keys if key.endswith(f"/{name}")}
            optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in state.items()}
    lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= done]
    log.write_text("".join(f"{line}\n" for line in lines))
    return done
