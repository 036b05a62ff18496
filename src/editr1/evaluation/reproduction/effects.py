"""The paper's claims as differences between two rows: ours with paired intervals, theirs from the published figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.published import published
from editr1.evaluation.reproduction.places import SIZES
from editr1.evaluation.reproduction.run import Outcome
from editr1.evaluation.reproduction.shapes import SIGNED, SIGNED_POINTS, Cell, Exhibit, Line, cell_of, estimate_of

_MODES = {"T": "think", "V": "verify", "viescore": "viescore"}


def judge_effects(outcomes: Mapping[str, Outcome]) -> Exhibit:
    """What the ways to train a verifier are worth, each against another on the same pairs."""
    paper = {row.name: row.figures for row in published("accuracy")}
    lines = []
    for size, stands_for in SIZES.items():
        figures = paper[stands_for]
        for column, mode in _MODES.items():
            theirs = figures["T+V"] - figures[column] if column in figures else None
            ours = _of_ablation(outcomes, f"{size}-think+verify", f"{size}-{mode}")
            lines.append(_line(f"T+V less {column}, {size}", stands_for, *ours, theirs))
        theirs = figures["GCPO"] - figures["T+V"]
        lines.append(_line(f"GCPO less SFT, {size}", stands_for, *_step(outcomes, f"effect/gcpo-{size}"), theirs))
    small, large = (paper[name]["T+V"] for name in SIZES.values())
    lines.append(_line("large less small, SFT", "7B less 3B", *_step(outcomes, "effect/size"), large - small))
    bench = {row.name: row.figures["overall"] for row in published("editscore")}
    for size in SIZES:
        theirs = bench["Edit-R1 RRM 7B, SFT"] - bench["EditScore-7B"] if size == "large" else None
        name = f"verifier (SFT) less viescore-style scorer, {size}"
        ours = _step(outcomes, f"effect/verifier-{size}")
        lines.append(_line(name, "RRM 7B less EditScore-7B" if theirs else "", *ours, theirs))
    return Exhibit(
        "effects",
        "Which effects appear: reward models",
        "differences within its tables",
        "Each row is a difference in accuracy between two of ours on the same pairs, with an interval of paired items: "
        "one above zero says that the effect is there in this domain and at this size, one that holds zero that these "
        "pairs cannot tell. The published differences are those of published figures; they have no interval.",
        scale=SIGNED,
        columns=("difference",),
        lines=tuple(lines),
        steps=("ablation", "effect/gcpo-*", "effect/verifier-*", "effect/size"),
    )


def editor_effects(outcomes: Mapping[str, Outcome]) -> Exhibit:
    """What RL with each verifier does to the editor, task by task."""
    paper = {row.name: row.figures["O"] for row in published("gedit")}
    kontext, qwen = paper["FLUX.1-Kontext"], paper["Qwen-Image-Edit"]
    rows = (
        ("sft-small", "RL with the small SFT verifier", "FLUX.1-Kontext + RL with SFT-RRM 3B", kontext),
        ("gcpo-small", "RL with the small GCPO verifier", "FLUX.1-Kontext + RL with GCPO-RRM 3B", kontext),
        ("sft-large", "RL with the large SFT verifier", "FLUX.1-Kontext + RL with SFT-RRM 7B", kontext),
        ("gcpo-large", "RL with the large GCPO verifier", "FLUX.1-Kontext + RL with GCPO-RRM 7B", kontext),
        ("oracle", "RL with the oracle itself", "", 0.0),
        ("qwen-gcpo-large", "the same on sticker Qwen-Image-Edit", "Qwen-Image-Edit + RL with GCPO-RRM 7B", qwen),
    )
    lines = []
    for step, ours, theirs, base in rows:
        figure = paper[theirs] - base if theirs else None
        lines.append(_line(ours, theirs, *_step(outcomes, f"effect/editor-{step}"), figure))
    return Exhibit(
        "editor-effects",
        "Which effects appear: editors after RL",
        "differences within its table of GEdit-Bench-EN",
        "Utility after RL less utility before, on the same tasks, in points of 10 by the oracle; published: the "
        "difference in O by GPT-4.1. The two scales are not the same.",
        scale=SIGNED_POINTS,
        columns=("difference",),
        lines=tuple(lines),
        steps=("effect/editor-*",),
    )


def _line(
    ours: str, paper: str, outcome: Outcome | None, found: Estimate | None, note: str, figure: float | None
) -> Line:
    cell: Cell = cell_of(outcome, found, note, None if figure is None else round(figure, 4))
    return Line(ours, paper if figure is not None else "", (cell,))


def _step(outcomes: Mapping[str, Outcome], name: str) -> tuple[Outcome | None, Estimate | None, str]:
    outcome = outcomes.get(name)
    if outcome is None or not outcome.there:
        return outcome, None, ""
    return outcome, estimate_of(outcome.result["difference"]), f"p = {outcome.result['p_value']:.2g}"


def _of_ablation(outcomes: Mapping[str, Outcome], of: str, less: str) -> tuple[Outcome | None, Estimate | None, str]:
    """A difference that the ablation computed, of its first seed."""
    outcome = outcomes.get("ablation")
    if outcome is None or not outcome.there:
        return outcome, None, ""
    entries: list[dict[str, Any]] = list(outcome.result.get("differences") or ())
    for entry in entries:
        if (entry["of"], entry["less"]) == (of, less):
            return outcome, estimate_of(entry["strict"]), f"p = {entry['p_value']:.2g}"
    return outcome, None, ""
