"""How much of GCPO's gradient is signal: what the gradients of batches that have no pair in common share.

    python benchmarks/gcpo_signal.py
    python benchmarks/gcpo_signal.py recipes/sticker/gcpo.toml --set stickers.people=plain
    python benchmarks/gcpo_signal.py --adapter --pairs 16 --batches 12 --set temperature=0.6

The weights stay as they are. If batches of n pairs have gradients at a cosine c to each other, n (1 - c) / c pairs have
as much signal as noise: an optimizer has to see that many before its direction is worth following. Look at it before a
long run, part by part of the model: where the cosine is 0, training does nothing but add noise. All weights are looked
at, or with --adapter those of the recipe's LoRA, of which one half has no gradient before the first step.

The share is that of the mean |g|^2 which is common to all batches: the mean product of two of them over the mean square
of one, as it is and with each weight divided by its root mean square over the batches, as Adam does. Its error is the
jackknife's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from itertools import combinations
from pathlib import Path
from statistics import fmean, pvariance, stdev
from typing import Any

import torch
from transformers import TrainerCallback

from editr1.config import load
from editr1.training.gcpo.recipe import GcpoRecipe
from editr1.training.gcpo.run import train_gcpo

MOVED = 1e-12
"""Root mean square below which a weight counts as without a gradient."""

PARTS = {"vision tower": ("visual",), "embeddings": ("embed", "lm_head"), "norms": ("norm",), "text layers": ("",)}


def part_of(name: str) -> str:
    """The part of the model that a weight belongs to."""
    return next(part for part, words in PARTS.items() if any(word in name for word in words))


class Gradients(TrainerCallback):
    """Keeps the gradient of each step, by part of the model."""

    def __init__(self) -> None:
        self.batches: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """As transformers' Trainer calls it."""
        parts: dict[str, list[torch.Tensor]] = {}
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                parts.setdefault(part_of(name), []).append(weight.grad.detach().float().flatten().cpu())
        self.batches.append({part: torch.cat(some) for part, some in parts.items()})
        print(f"batch {len(self.batches)} of {state.max_steps}", file=sys.stderr)


def share(gradients: torch.Tensor) -> tuple[float, float]:
    """Of the mean square of (batches, weights) that is common to all, and its jackknife error."""

    def estimate(rows: torch.Tensor) -> float:
        number, total, squares = len(rows), rows.sum(0), rows.square().sum()
        return float((total @ total - squares) / (number - 1) / squares)

    number = len(gradients)
    without = [estimate(torch.cat([gradients[:i], gradients[i + 1 :]])) for i in range(number)]
    return estimate(gradients), ((number - 1) * pvariance(without)) ** 0.5


def main() -> None:
    """Print a table: part, weights, mean cosine with its standard error; then the shares over all weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("recipes/sticker/gcpo.toml"))
    parser.add_argument("--pairs", type=int, default=32, help="in a batch")
    parser.add_argument("--batches", type=int, default=4, help="3 or more")
    parser.add_argument("--adapter", action="store_true", help="of the recipe's LoRA instead of all weights")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="a setting of the recipe")
    args = parser.parse_args()
    fixed = [f"pairs_per_step={args.pairs}", f"steps={args.batches}", f"save_every={args.batches}"]
    if args.batches < 3:
        parser.error("--batches must be at least 3: the error of a share leaves one out")
    fixed += ["train_vision=true", "learning_rate=1e-12", "warmup=0", "heldout_pairs=0", "samples=0", "sample_every=0"]
    if "stickers" in tomllib.loads(args.recipe.read_text(encoding="utf-8")):
        fixed += [f"stickers.train={3 * args.pairs * args.batches}", "stickers.heldout=4"]
    gradients = Gradients()
    with tempfile.TemporaryDirectory() as folder:
        recipe = load(GcpoRecipe, args.recipe, [*args.overrides, *fixed])
        recipe = recipe if args.adapter else recipe.model_copy(update={"lora": None})
        train_gcpo(recipe, Path(folder), callbacks=[gradients])
    found = gradients.batches
    print(f"cosines between the gradients of {args.batches} batches of {args.pairs} pairs")
    for part in found[0]:
        vectors = [torch.nn.functional.normalize(batch[part], dim=0) for batch in found]
        cosines = [float(a @ b) for a, b in combinations(vectors, 2)]
        spread = stdev(cosines) / len(cosines) ** 0.5 if len(cosines) > 1 else float("nan")
        print(f"{part:13} {len(vectors[0]):>9,} weights  {fmean(cosines):6.3f} +- {spread:.3f}")
    whole = torch.stack([torch.cat(list(batch.values())) for batch in found])
    size = whole.square().mean(0).sqrt()
    for title, scaled in (("as it is", whole), ("as Adam scales it", whole[:, size > MOVED] / size[size > MOVED])):
        value, error = share(scaled)
        print(f"share of |g|^2 that {args.batches} batches have in common, {title}: {value:.3f} +- {error:.3f}")


if __name__ == "__main__":
    main()
