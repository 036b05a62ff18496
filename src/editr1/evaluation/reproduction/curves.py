"""Training dynamics: curves out of a run's `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editr1.evaluation.reproduction.places import MissingInput
from editr1.rundir import RunDir

POINTS = 120
"""A curve has so many points at most: each is the mean of the rows that it stands for."""

GCPO_PLOTS: Mapping[str, tuple[str, ...]] = {
    "held-out accuracy": ("heldout/strict", "heldout/half_credit"),
    "win ratio of rollouts": ("win_ratio",),
    "mean scores of rollouts": ("score_preferred", "score_other"),
    "weighted advantage": ("weighted_advantage",),
    "tokens of reasoning": ("reasoning_tokens",),
}
"""Title of a plot -> the metrics in it; figure 3 of the paper is about these."""

EDITOR_PLOTS: Mapping[str, tuple[str, ...]] = {
    "reward in training and on held-out contexts": ("reward", "eval_reward"),
    "oracle, only watched": ("watch/truth", "eval_watch/truth"),
    "share of pictures that are the source": ("unchanged", "eval_unchanged"),
    "diversity in a group": ("diversity",),
    "KL to the editor before RL": ("kl",),
}
"""The same of an editor's run."""


def read_curves(folder: Path, plots: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The curves of a run: title -> metric -> points [step, value]; metrics that were not logged are left out.

    Raises:
        MissingInput: if the run logged none of them.
    """
    rows = list(RunDir(folder).metrics())
    found = {}
    for title, names in plots.items():
        curves = {name: points(rows, name) for name in names}
        if curves := {name: curve for name, curve in curves.items() if len(curve) > 1}:
            found[title] = curves
    if not found:
        raise MissingInput(f"{folder / 'metrics.jsonl'} has no metric that is drawn: train it to have some")
    return {"plots": found, "steps": max(row["step"] for row in rows)}


def points(rows: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """The values of a metric by step, thinned to `POINTS` by means of neighbours."""
    logged = [(float(row["step"]), float(row[name])) for row in rows if isinstance(row.get(name), int | float)]
    share = -(-len(logged) // POINTS) or 1
    parts = [logged[start : start + share] for start in range(0, len(logged), share)]
    return [[round(sum(column) / len(part), 6) for column in zip(*part, strict=True)] for part in parts]
