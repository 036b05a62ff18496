"""The paper's tables and figures, each of ours beside the published one; what is not there is said to be missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.published import published
from editr1.evaluation.reproduction.effects import editor_effects, judge_effects
from editr1.evaluation.reproduction.making import with_making
from editr1.evaluation.reproduction.places import SIZES, Place
from editr1.evaluation.reproduction.run import Outcome, State
from editr1.evaluation.reproduction.shapes import (
    POINTS,
    SIGNED,
    Cell,
    Exhibit,
    Line,
    PictureRow,
    Plot,
    Reproduction,
    cell_of,
    estimate_of,
)
from editr1.evaluation.runs import read_rows

MODES = {"think": "T", "verify": "V", "think+verify": "T+V", "viescore": "viescore"}
PICTURES = 4


def reproduction(place: Place, outcomes: Sequence[Outcome]) -> Reproduction:
    """The exhibits that follow from the steps' results."""
    by_name = {outcome.step: outcome for outcome in outcomes}
    bare = (
        _accuracy(by_name),
        _benchmark(by_name),
        judge_effects(by_name),
        _editors(by_name, place),
        editor_effects(by_name),
        _study(by_name),
        _dynamics(by_name, "gcpo", "GCPO of the verifiers", "Figure 3"),
        _dynamics(by_name, "editor", "RL of the editors", "Training rewards and evaluation rewards"),
    )
    machines = dict.fromkeys(filter(None, (_machine(outcome) for outcome in outcomes if outcome.there)))
    exhibits = tuple(with_making(exhibit, place, by_name) for exhibit in bare)
    return Reproduction(exhibits, tuple(outcomes), tuple(machines), place.settings.from_checkpoints)


def _machine(outcome: Outcome) -> str:
    machine = outcome.manifest.get("environment", {}).get("machine")
    if not machine:
        return ""
    return ", ".join([f"{machine['cores']} cores ({machine['processor']})", *machine.get("gpus", ())])


def _accuracy(outcomes: Mapping[str, Outcome]) -> Exhibit:
    columns = ("T", "V", "T+V", "GCPO", "viescore")
    by_name = {row.name: row for row in published("accuracy")}
    lines = []
    for size, stands_for in SIZES.items():
        row = by_name[stands_for].figures
        cells = [cell_of(*_ablated(outcomes, size, column), row.get(column)) for column in columns]
        cells[3] = cell_of(*_strict(outcomes, f"accuracy/gcpo-{size}"), row.get("GCPO"))
        lines.append(Line(f"{size} verifier", stands_for, tuple(cells)))
        found = _strict(outcomes, f"accuracy/sft-{size}")
        shipped = (Cell(), Cell(), cell_of(*found, None), Cell(), Cell())
        lines.append(Line(f"{size} verifier that GCPO starts from", "", shipped))
    lines += _published_alone("accuracy", SIZES.values(), columns)
    return Exhibit(
        "accuracy",
        "Accuracy of reward models: thinking, verifying, both, and GCPO",
        "the table of the ablation",
        "Share of pairs whose preferred edit is scored higher; a tie is wrong, pairs marked 'same' are left out. The "
        "paper asks people about photographs; ours are simulated people who compare sticker edits. Every T, V, T+V and "
        "viescore model is fine-tuned on the same edits from the same base. The viescore column is the paper's model "
        "trained on VIEScore-prompted data. Of the paper's hosted models there is no counterpart here.",
        columns=columns,
        lines=tuple(lines),
        steps=("ablation", "accuracy"),
    )


def _published_alone(table: str, shown: Iterable[str], figures: Sequence[str]) -> list[Line]:
    """The rows of a published table that nothing here stands for."""
    known = set(shown)
    rows = [row for row in published(table) if row.name not in known]
    return [Line("", row.name, tuple(Cell(paper=row.figures.get(name)) for name in figures)) for row in rows]


def _ablated(outcomes: Mapping[str, Outcome], size: str, column: str) -> tuple[Outcome | None, Estimate | None, str]:
    """A cell of the ablation, over its seeds: outcome, figure, note."""
    outcome = outcomes.get("ablation")
    if outcome is None or not outcome.there:
        return outcome, None, ""
    found = []
    for row in outcome.result["rows"]:
        figure = (row.get("figures") or {}).get("strict")
        if row.get("size") == size and MODES.get(str(row.get("mode")), row.get("mode")) == column and figure:
            found.append(estimate_of(figure))
    if not found:
        return outcome, None, ""
    if len(found) == 1:
        return outcome, found[0], ""
    # several seeds: their mean, and as interval the widest that one of them reaches
    mean = Estimate(
        fmean(e.value for e in found), min(e.low for e in found), max(e.high for e in found), found[0].items
    )
    return outcome, mean, f"mean of {len(found)} seeds"


def _strict(
    outcomes: Mapping[str, Outcome], step: str, figure: str = "strict"
) -> tuple[Outcome | None, Estimate | None, str]:
    outcome = outcomes.get(step)
    if outcome is None or not outcome.there:
        return outcome, None, ""
    figures = outcome.result["figures"]
    failed = figures["failed"]
    note = f"{failed} pair{'' if failed == 1 else 's'} without an answer" if failed else ""
    return outcome, estimate_of(figures[figure]), note


def _benchmark(outcomes: Mapping[str, Outcome]) -> Exhibit:
    paper = {row.name: row.figures["overall"] for row in published("editscore")}
    rows = (
        ("holistic-small", "small viescore-style scorer", ""),
        ("holistic-large", "large viescore-style scorer", "EditScore-7B"),
        ("holistic-large-4", "the same, 4 passes", "EditScore-7B, 4 passes"),
        ("sft-small", "small verifier, SFT", ""),
        ("gcpo-small", "small verifier, SFT + GCPO", ""),
        ("sft-large", "large verifier, SFT", "Edit-R1 RRM 7B, SFT"),
        ("gcpo-large", "large verifier, SFT + GCPO", "Edit-R1 RRM 7B, SFT + GCPO"),
    )
    lines = []
    for step, ours, theirs in rows:
        macro = _strict(outcomes, f"benchmark/{step}", "macro_strict")
        ties = _strict(outcomes, f"benchmark/{step}", "ties")
        lines.append(Line(ours, theirs, (cell_of(*macro, paper.get(theirs)), cell_of(*ties, None))))
    lines += _published_alone("editscore", (theirs for _, _, theirs in rows), ("overall", "ties"))
    return Exhibit(
        "benchmark",
        "The verifier against a holistic scorer",
        "EditRewardBench (EditScore/EditReward-Bench)",
        "Strict accuracy, averaged over kinds of edit: the paper's over 13 tasks of photographs with labels of "
        "experts, ours over 11 kinds of sticker edits whose better one the oracle knows. A viescore-style scorer, "
        "fine-tuned on the same edits as the verifier, stands in EditScore's place.",
        columns=("accuracy", "ties"),
        lines=tuple(lines),
        steps=("benchmark",),
    )


_EDITORS = (
    ("base", "sticker Kontext", "FLUX.1-Kontext"),
    ("sft-small", "+ RL with the small SFT verifier", "FLUX.1-Kontext + RL with SFT-RRM 3B"),
    ("gcpo-small", "+ RL with the small GCPO verifier", "FLUX.1-Kontext + RL with GCPO-RRM 3B"),
    ("sft-large", "+ RL with the large SFT verifier", "FLUX.1-Kontext + RL with SFT-RRM 7B"),
    ("gcpo-large", "+ RL with the large GCPO verifier", "FLUX.1-Kontext + RL with GCPO-RRM 7B"),
    ("oracle", "+ RL with the oracle itself", ""),
    ("qwen-base", "sticker Qwen-Image-Edit", "Qwen-Image-Edit"),
    ("qwen-gcpo-large", "the same + RL with the large GCPO verifier", "Qwen-Image-Edit + RL with GCPO-RRM 7B"),
)
_FIGURES = {"followed": "SC", "kept": "PQ", "score": "O"}


def _editors(outcomes: Mapping[str, Outcome], place: Place) -> Exhibit:
    paper = {row.name: row for row in published("gedit")}
    lines, bars = [], {}
    for name, ours, theirs in _EDITORS:
        outcome = outcomes.get(f"edits/{name}")
        table = outcome.result["table"] if outcome is not None and outcome.there else None
        figures = paper[theirs].figures if theirs else {}
        cells = []
        for figure, letter in _FIGURES.items():
            found = None if table is None else estimate_of(table["macro"][figure])
            cells.append(cell_of(outcome, found, "", figures.get(letter)))
        lines.append(Line(ours, theirs, tuple(cells)))
        if table is not None:
            bars[ours] = {kind: estimate_of(row["score"]) for kind, row in table["categories"].items()}
    lines += _published_alone("gedit", (theirs for _, _, theirs in _EDITORS), tuple(_FIGURES.values()))
    return Exhibit(
        "editors",
        "The editor before and after RL, by the verifier that rewarded it",
        "GEdit-Bench-EN, judged by GPT-4.1",
        "Three numbers from 0 to 10, averaged over 11 categories. The paper's are GPT-4.1's ratings; ours are read off "
        "the pixels by the oracle: how far the instruction was followed stands beside SC, how much else was left as it "
        "was and sound beside PQ, the utility of the whole beside O. The two scales are not the same: compare rows "
        "with rows, not ours with the paper's. No counterpart here has the row of Seed-1.5-VL as reward.",
        scale=POINTS,
        columns=("followed / SC", "kept / PQ", "utility / O"),
        lines=tuple(lines),
        bars=bars or None,
        pictures=_pictures(outcomes, place),
        steps=("edits",),
    )


def _pictures(outcomes: Mapping[str, Outcome], place: Place) -> tuple[PictureRow, ...]:
    """Some tasks with the pictures of the editor before and after RL: those where utility differs most."""
    there = [n for n, _, _ in _EDITORS if (o := outcomes.get(f"edits/{n}")) is not None and o.state is State.MADE]
    after = [name for name in there if name not in ("base", "qwen-base", "qwen-gcpo-large")]
    if "base" not in there or not after:
        return ()
    shown = after[-1] if "gcpo-large" not in after else "gcpo-large"
    folders = {name: place.folder(f"edits/{name}") for name in ("base", shown)}
    rows = {name: {row["key"]: row for row in read_rows(folder)} for name, folder in folders.items()}

    def utility(name: str, key: str) -> float:
        return float(rows[name][key]["scores"]["score"])

    def change(key: str) -> float:
        return utility(shown, key) - utility("base", key)

    judged = [{key for key, row in rows[name].items() if "score" in row["scores"]} for name in ("base", shown)]
    shared = sorted((k for k in rows["base"] if k in judged[0] & judged[1]), key=change)
    chosen = [*shared[::-1][:PICTURES], *(k for k in shared[:2] if change(k) < 0)]
    found = []
    for key in dict.fromkeys(chosen):
        first, second = rows["base"][key], rows[shown][key]
        source = ("source", folders["base"] / first["pictures"]["source"])
        edited = [
            (f"{name}, utility {utility(name, key):.1f}", folders[name] / row["pictures"]["edited"])
            for name, row in (("base", first), (shown, second))
        ]
        found.append(PictureRow(first["instruction"], (source, *edited)))
    return tuple(found)


def _study(outcomes: Mapping[str, Outcome]) -> Exhibit:
    (paper,) = published("gsb")
    lines = []
    for size in SIZES:
        outcome = outcomes.get(f"gsb/gcpo-{size}")
        found, note = None, ""
        if outcome is not None and outcome.there:
            result = outcome.result["gsb"]
            found = estimate_of(result["gsb"])
            note = (
                f"good {result['good']}, same {result['same']}, bad {result['bad']}; sign test over contexts "
                f"p = {result['p_value']:.2g}"
            )
        theirs = paper.figures["GSB"] if size == "large" else None
        name = f"RL with the {size} GCPO verifier, against the editor before"
        lines.append(Line(name, paper.name if size == "large" else "", (cell_of(outcome, found, note, theirs),)))
    return Exhibit(
        "gsb",
        "Which editor people prefer",
        "the human study",
        "GSB = (G - B) / (G + S + B). The paper asked people. Ours are two simulated people, who see the oracle's "
        "utility of each picture with noise; it is no human study and says nothing about what people like.",
        scale=SIGNED,
        columns=("GSB",),
        lines=tuple(lines),
        steps=("gsb",),
    )


def _dynamics(outcomes: Mapping[str, Outcome], group: str, title: str, place: str) -> Exhibit:
    """One plot for each title, with the curves of all runs of a group."""
    plots: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {}
    missing = []
    for name, outcome in outcomes.items():
        prefix = f"dynamics/{group}-"
        if not name.startswith(prefix):
            continue
        if not outcome.there:
            missing.append(f"{name.removeprefix(prefix)}: {outcome.why}")
            continue
        for plot, curves in outcome.result["plots"].items():
            for metric, points in curves.items():
                label = f"{name.removeprefix(prefix)}, {metric}"
                plots.setdefault(plot, {})[label] = tuple((float(x), float(y)) for x, y in points)
    about = _ABOUT_DYNAMICS[group]
    if not any(name.startswith(f"dynamics/{group}-") for name in outcomes):
        missing.append("not asked for")
    shown = tuple(Plot(title, curves) for title, curves in plots.items())
    steps = (f"dynamics/{group}-*",)
    return Exhibit(f"dynamics-{group}", title, place, about, plots=shown, missing=tuple(missing), steps=steps)


_ABOUT_DYNAMICS = {
    "gcpo": "What a GCPO run logs by step. In the paper the weighted advantage drifts below zero: right judgements "
    "come to have the longer reasoning. The paper's curves are not published as numbers, so none is drawn beside.",
    "editor": "Rewards as editors learn. In the paper a GCPO-trained verifier gives lower rewards in training, for it "
    "is stricter, and editors trained on it do better in evaluation. A reward is on its verifier's own scale: compare "
    "what the oracle says of the pictures, not rewards of different verifiers.",
}
