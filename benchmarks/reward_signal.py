"""How much a reward tells an editor: how far the advantages that it gives are those of the truth, on sticker edits.

    python benchmarks/reward_signal.py
    python benchmarks/reward_signal.py --verifier sticker-gcpo-small --verifier sticker-gcpo-large --passes 1 --passes 4
    python benchmarks/reward_signal.py --editor sticker-kontext-small --contexts 110 --group 16 --out signal.json

An editor learns from differences within a group, (reward - mean) / deviation. The editor makes groups of pictures as
editor RL does, by the ODE from other noise each, and every reward scores the same ones. Printed are

- agreement: the mean over groups of the correlation of a reward with the oracle's utility, 0 for groups that it is flat
  in. It is the mean product of the reward's advantages and the true ones: 1 learns from the truth, 0 from noise;
- flat: the share of groups that it gives one value throughout, which teach nothing;
- best of N: the utility of the picture that it puts on top, less the group's mean; a tie counts as its mean;
- gain: the mean product of its advantages, brought to a mean square of 1 over all groups, and the utility: what a step
  of a given length along them is worth. With differences divided by their group's deviation ("std") a group in which
  the reward tells next to nothing apart weighs as much as any; not divided ("global"), as much as it tells;
- seconds a picture, the first group left out.

Groups that the oracle is flat in are left out. In brackets 95 % intervals, by resampling groups.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from parts.common import describe_machine, make_parser, quieten, write_json

from editr1.cli.options import build_verifier
from editr1.config import ScoreConfig
from editr1.editors import build_editor, sample_images
from editr1.evaluation.bootstrap import Array, Estimate, bootstrap
from editr1.rewards import EditSample, OracleReward, Reward, VerifierReward
from editr1.rewards.base import values
from editr1.training.editor.contexts import derive_seed, open_contexts
from editr1.training.editor.recipe import ContextsRecipe


def groups(options: argparse.Namespace) -> list[list[EditSample]]:
    """The pictures, group by group."""
    editor = build_editor(options.editor)
    contexts = open_contexts(ContextsRecipe(stickers="reward-signal", count=options.contexts))
    made = []
    for number in range(options.contexts):
        task = contexts[number]
        seeds = [derive_seed("reward-signal", number, k) for k in range(options.group)]
        pictures = sample_images(
            editor, editor.encode([task]) * options.group, seeds, options.steps, batch_size=options.group
        )
        sample = EditSample(task, task.source)
        made.append([replace(sample, edited=p, id=f"{task.id}.{k}") for k, p in enumerate(pictures)])
        print(f"group {number + 1} of {options.contexts}", file=sys.stderr)
    return made


def scored(reward: Reward, made: Sequence[Sequence[EditSample]]) -> tuple[Array, float]:
    """(groups, G) values, NaN for failures; and the seconds that a picture took."""
    found, seconds = [], []
    for group in made:
        start = time.perf_counter()
        found.append(values(reward.score(group)))
        seconds.append((time.perf_counter() - start) / len(group))
    return np.array(found, dtype=np.float64), float(np.mean(seconds[1:] or seconds))


def group_figures(reward: Array, truth: Array) -> tuple[float, float, float]:
    """Of one group (G,): correlation, 0 if the reward is flat; whether it is; gain of its best over the mean.

    Pictures without a reward are left out.
    """
    known = np.isfinite(reward)
    reward, truth = reward[known], truth[known]
    if len(reward) < 2 or np.ptp(reward) == 0:
        return 0.0, 1.0, 0.0
    gain = float(truth[reward == reward.max()].mean() - truth.mean())
    return (0.0 if np.ptp(truth) == 0 else float(np.corrcoef(reward, truth)[0, 1])), 0.0, gain


def gains(rewards: Array, truth: Array) -> Array:
    """Of each group, terms of the gain's two ratios: (std) product, square, (global) product, square, 1."""
    rows = []
    for reward, true in zip(rewards, truth, strict=True):
        known = np.isfinite(reward)
        spread = reward[known] - reward[known].mean() if known.any() else np.zeros(0)
        size = float(np.sqrt((spread**2).mean())) if len(spread) else 0.0
        product = float((spread * true[known]).mean()) if len(spread) else 0.0
        rows.append([product / size, 1.0, product, size**2, 1.0] if size else [0.0, 0.0, 0.0, 0.0, 1.0])
    return np.array(rows)


def gain_of(column: int) -> Callable[[Array], Array]:
    """The ratio over groups: mean product, over the root of the mean square."""

    def ratio(sums: Array) -> Array:
        count = sums[..., -1]
        square = np.maximum(sums[..., column + 1] / count, 1e-12)
        found: Array = sums[..., column] / count / np.sqrt(square)
        return found

    return ratio


def estimates(rewards: Array, truth: Array) -> dict[str, Estimate]:
    """Over groups that the truth varies in."""
    rows = [group_figures(r, t) for r, t in zip(rewards, truth, strict=True) if np.ptp(t) > 0]
    table = np.array([[*row, 1.0] for row in rows])
    titles = ("agreement", "flat", "best_of_n")
    found = {
        title: bootstrap(table, lambda sums, column=column: sums[..., column] / sums[..., -1])  # type: ignore[misc]
        for column, title in enumerate(titles)
    }
    varies = np.ptp(truth, axis=1) > 0
    terms = gains(rewards[varies], truth[varies])
    return found | {
        f"gain_{name}": bootstrap(terms, gain_of(2 * place)) for place, name in enumerate(("std", "global"))
    }


def verifier_reward(model: str, passes: int) -> Reward:
    """A shipped verifier, or that of a path, on the oracle's scale."""
    config = ScoreConfig.model_validate({"judge": {"model": model}, "passes": passes})
    return VerifierReward(build_verifier(config, quiet=True), scale="score", name=f"{model}, {passes} passes")


def cells_of(figures: dict[str, Estimate]) -> str:
    """On one line."""
    return "  ".join(f"{key.replace('_', ' ')} {v.value:.2f} [{v.low:.2f}, {v.high:.2f}]" for key, v in figures.items())


def main() -> None:
    """Print a line a reward."""
    parser = make_parser(__doc__)
    parser.add_argument("--editor", default="sticker-kontext-small")
    parser.add_argument("--verifier", action="append", help="name or path; repeatable")
    parser.add_argument("--passes", type=int, action="append", help="answers that make a verdict; repeatable")
    parser.add_argument("--contexts", type=int, default=44)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6, help="of the sampler")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args()
    if options.group < 2 or options.contexts < 2:
        parser.error("--group and --contexts must be at least 2")
    quieten()
    made = groups(options)
    truth, _ = scored(OracleReward(scale="score"), made)
    used = int((np.ptp(truth, axis=1) > 0).sum())
    print(f"{describe_machine()}\n{options.editor}: {used} groups of {options.group} that the oracle is not flat in")
    print("the oracle itself:", cells_of(estimates(truth, truth)))
    print(f"mean utility {truth.mean():.2f}, of the best of a group {truth.max(axis=1).mean():.2f}")
    found: dict[str, Any] = {}
    for model in options.verifier or ["sticker-verifier-small", "sticker-gcpo-small"]:
        for passes in options.passes or [1]:
            rewards, seconds = scored(verifier_reward(model, passes), made)
            figures = estimates(rewards, truth)
            name = f"{model}, {passes} pass{'es' if passes > 1 else ''}"
            found[name] = {key: value.to_dict() for key, value in figures.items()} | {"seconds": seconds}
            print(f"{name}: {cells_of(figures)}  {seconds:.3f} s", flush=True)
    if options.out:
        about = {"machine": describe_machine(), "editor": options.editor, "groups": used, "group": options.group}
        write_json(options.out, about | {"utility": float(truth.mean()), "rewards": found})


if __name__ == "__main__":
    main()
