"""What the noise of rollouts does to pictures: an editor learns from these, and is asked by the ODE.

    python benchmarks/rollout_noise.py
    python benchmarks/rollout_noise.py --noise ode --noise sde:0.9:4 --noise cps:0.5:4 --contexts 110 --out noise.json

A noise is ode, or KIND:LEVEL:WINDOW as in a recipe's [grpo] table: step, noise_level, and how many steps from the first
on are stochastic. Sticker edits, the same contexts and seeds for all. Printed are

- utility: by the oracle, from 0 to 10;
- spread: its standard deviation within a group, which advantages come from; best: of a group;
- stayed: percent of the pixels that had to stay which did, where some had to.

A sampler whose pictures are worse than the ODE's teaches an editor to mend what the sampler does, and not the edit.
In brackets 95 % intervals, by resampling contexts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from parts.common import describe_machine, make_parser, quieten, write_json
from PIL import Image

from editr1.editors import PipelineEditor, build_editor
from editr1.editors.sampling import sample
from editr1.evaluation.bootstrap import Estimate, bootstrap
from editr1.objectives.windows import fixed_window
from editr1.rewards.oracle import sticker_task
from editr1.rewards.pixels import TOLERANCE, largest_change
from editr1.rewards.sticker_pixels import pixel_utility
from editr1.stickers.draw import draw
from editr1.stickers.oracle import must_stay
from editr1.stickers.tasks import StickerTask
from editr1.training.editor.contexts import derive_seed, open_contexts
from editr1.training.editor.recipe import ContextsRecipe
from editr1.types import EditTask

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Of a rollout; the ODE's level is 0."""

    name: str
    kind: Literal["sde", "cps"] = "sde"
    level: float = 0.0
    size: int = 0

    @classmethod
    def parse(cls, text: str) -> Noise:
        """From an option.

        Raises:
            argparse.ArgumentTypeError: if it is none.
        """
        if text == "ode":
            return cls(text)
        kind, _, rest = text.partition(":")
        level, _, size = rest.partition(":")
        try:
            if kind not in ("sde", "cps"):
                raise ValueError
            return cls(text, cast(Literal["sde", "cps"], kind), float(level), int(size))
        except ValueError as exc:
            raise argparse.ArgumentTypeError(f"{text!r} is neither ode nor KIND:LEVEL:WINDOW, e.g. cps:0.5:4") from exc


def measured(
    editor: PipelineEditor, tasks: Sequence[EditTask], noise: Noise, group: int, steps: int
) -> tuple[Array, Array]:
    """(contexts, group) utility, and share of the pixels that stayed, NaN where none had to."""
    contexts = [context for context in editor.encode(tasks) for _ in range(group)]
    seeds = [derive_seed("rollout-noise", number, k) for number in range(len(tasks)) for k in range(group)]
    window = fixed_window(steps, noise.size) if noise.level else None
    utility, stayed = np.zeros(len(seeds)), np.full(len(seeds), np.nan)
    for rollout in sample(
        editor, contexts, seeds, steps, noise_level=noise.level, window=window, kind=noise.kind, batch_size=24
    ):
        for position, picture in zip(rollout.positions, rollout.images, strict=True):
            task = sticker_task(tasks[position // group].id)
            utility[position] = pixel_utility(task, picture)
            stayed[position] = kept(task, picture)
        print(f"{noise.name}: {rollout.positions[-1] + 1} of {len(seeds)}", file=sys.stderr)
    return utility.reshape(-1, group), stayed.reshape(-1, group)


def kept(task: StickerTask, picture: Image.Image) -> float:
    """Share of the pixels that had to stay which did; NaN if none had to."""
    stays = must_stay(task)
    if not stays.any():
        return float("nan")
    return float((largest_change(draw(task.before), picture)[stays] <= TOLERANCE).mean())


def estimates(utility: Array, stayed: Array) -> dict[str, Estimate]:
    """Over contexts."""
    some = np.isfinite(stayed).all(axis=1)
    columns = {
        "utility": utility.mean(axis=1),
        "spread": utility.std(axis=1),
        "best": utility.max(axis=1),
        "stayed": 100 * stayed[some].mean(axis=1),
    }
    return {
        name: bootstrap(np.stack([values, np.ones_like(values)], axis=1), lambda sums: sums[..., 0] / sums[..., 1])
        for name, values in columns.items()
    }


def main() -> None:
    """Print a line a noise."""
    parser = make_parser(__doc__)
    parser.add_argument("--editor", default="sticker-kontext-small")
    parser.add_argument("--noise", action="append", type=Noise.parse, help="repeatable")
    parser.add_argument("--contexts", type=int, default=66)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6, help="of the sampler")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args()
    if options.group < 2 or options.contexts < 2:
        parser.error("--group and --contexts must be at least 2")
    noises = options.noise or [Noise.parse(n) for n in ("ode", "sde:0.9:4", "sde:0.5:4", "cps:0.9:4", "cps:0.5:4")]
    quieten()
    editor = build_editor(options.editor)
    contexts = open_contexts(ContextsRecipe(stickers="rollout-noise", count=options.contexts))
    tasks = [contexts[number] for number in range(options.contexts)]
    print(f"{describe_machine()}\n{options.editor}: {options.contexts} contexts, groups of {options.group}")
    found: dict[str, Any] = {}
    for noise in noises:
        figures = estimates(*measured(editor, tasks, noise, options.group, options.steps))
        found[noise.name] = {key: value.to_dict() for key, value in figures.items()}
        cells = "  ".join(f"{key} {v.value:.2f} [{v.low:.2f}, {v.high:.2f}]" for key, v in figures.items())
        print(f"{noise.name:<10} {cells}", flush=True)
    if options.out:
        write_json(options.out, {"machine": describe_machine(), "editor": options.editor, "noises": found})


if __name__ == "__main__":
    main()
