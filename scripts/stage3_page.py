r"""Write docs/results/stage3.md and its figure: reinforcement learning of the embedded editor, with each reward.

With BASE the folder or name of the editor before, and for each RUN of `editr1 train editor` its LoRA:

editr1 eval editor stickers --data editor-test:330 --editor BASE                 --out runs/stage3/base
editr1 eval editor stickers --data editor-test:330 --editor BASE --lora RUN/lora --out runs/stage3/NAME
python scripts/stage3_page.py runs/stage3/base NAME=RUN=runs/stage3/NAME ...

What the page shows is copied to docs/results/stage3.json, so that it can be written again without the runs; runs that
are not given stay as they are there, if the editor before is the same:
python scripts/stage3_page.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curves import draw_curves
from pages import line, read, rule, without_pauses

from editr1.evaluation.gsb import gsb, marks_of_runs
from editr1.evaluation.paired import pair_editors
from editr1.evaluation.runs import read_result, read_rows

DOCS = Path(__file__).parents[1] / "docs"
MARGIN = 0.5
"""Utilities (0 to 10) that differ by less are the same, as in the pairs of `editr1 stickers evaluate`."""
KEPT = ("algorithm", "steps", "contexts_per_step", "group_size", "learning_rate", "seed")
PLOTS = {
    "eval_reward": "reward on held-out contexts",
    "eval_watch/truth": "oracle's utility of them, watched",
    "reward": "reward in training",
    "unchanged": "share of pictures that are the source",
    "diversity": "difference within a group, levels",
    "kl": "KL",
}
WATCHED = ("stayed", "unchanged")
OF_JUDGE = {"reward": "part/judge", "eval_reward": "eval_part/judge"}
ORACLE = {"eval_watch/truth": "eval_reward"}
"""Where the oracle is the reward itself, it is not watched beside it."""


def gather(name: str, run: Path, measured: Path, base: Path) -> dict[str, Any]:
    """What the page shows of one trained editor."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    recipe = read(run / "config.json")
    judge = recipe["rewards"]["judge"]
    paired = pair_editors(read_rows(base), read_rows(measured), 1)
    curves = {key: [[r["step"], r[key]] for r in rows if key in r] for key in PLOTS}
    for key, of_judge in OF_JUDGE.items():  # where the reward is a sum, what the judge has in it
        curves[key] = [[r["step"], r[of_judge]] for r in rows if of_judge in r] or curves[key]
    if judge["kind"] == "oracle":
        curves |= {key: curves[stands_in] for key, stands_in in ORACLE.items()}
    settings = {key: recipe[key] for key in KEPT} | {"sampling steps": recipe["sampling"]["steps"]}
    if recipe["algorithm"] == "nft":
        settings |= {"noise": "none (ODE)", "KL": recipe["nft"]["kl"]}
    else:
        kl = recipe["grpo"]["kl"]
        noise = f"{recipe['grpo']['step']}, {recipe['grpo']['noise_level']}"
        settings |= {"noise": noise, "KL": f"{kl}, {recipe['grpo']['kl_form']}" if kl else kl}
    pixels = recipe["rewards"].get("pixels", {"watch": True})
    settings["pixel preservation"] = "none" if pixels["watch"] else f"weight {pixels['weight']:g}"
    settings["advantages"] = recipe["advantages"]["scale"]
    settings["moving average"] = recipe["ema"]["decay"] if recipe["ema"] else "none"
    settings["verdicts a picture"] = 1 if judge["kind"] == "oracle" else judge["score"]["passes"]
    return {
        "name": name,
        "recipe": settings,
        "reward": judge["kind"] if judge["kind"] == "oracle" else judge["score"]["judge"]["model"] or "embedded",
        "minutes": without_pauses([row["time"] for row in rows]) / 60,
        "cores": read(run / "environment.json")["machine"]["cores"],
        "curves": curves,
        "figures": figures(measured),
        "gsb": gsb(marks_of_runs(base, measured, MARGIN).by_context).to_dict(),
        "differences": {figure: found.to_dict() for figure, found in paired.differences.items()},
        "categories": {kind: found.to_dict() for kind, found in paired.categories.items()},
    }


def figures(measured: Path) -> dict[str, Any]:
    """Means over categories of a measured editor."""
    (table,) = read_result(str(measured))["tables"].values()
    if table["failed"]:
        raise SystemExit(f"{measured}: {table['failed']} pictures were not judged")
    macro: dict[str, Any] = table["macro"]
    return macro | {"pictures": table["judged"]}


def spread(found: Mapping[str, float], factor: float = 1.0, sign: str = "+", places: int = 1) -> str:
    """E.g. "+4.5 [+2.3, +6.7]"."""
    value, low, high = (f"{factor * found[key]:{sign}.{places}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def results(found: Mapping[str, Any]) -> list[str]:
    """The tables of results."""
    base, runs = found["base"], found["runs"]
    lines = [
        line("editor", "utility", "GSB against before", "good / same / bad", "stayed", "unchanged"),
        rule(6),
        line("before", f"{base['score']['value']:.2f}", "", "", *(f"{10 * base[k]['value']:.1f}" for k in WATCHED)),
    ]
    for run in runs:
        marks = run["gsb"]
        lines.append(
            line(
                run["name"],
                f"{run['figures']['score']['value']:.2f}",
                spread(marks["gsb"], 100),
                f"{marks['good']} / {marks['same']} / {marks['bad']}",
                *(f"{10 * run['figures'][key]['value']:.1f}" for key in WATCHED),
            )
        )
    lines += [
        "",
        "Differences from before, task by task:",
        "",
        line("editor", "utility", "stayed", "unchanged"),
        rule(4),
    ]
    for run in runs:
        gained = run["differences"]
        cells = (spread(gained["score"], places=2), *(spread(gained[key], 10) for key in WATCHED))
        lines.append(line(run["name"], *cells))
    return lines


def page(found: Mapping[str, Any], notes: str) -> str:
    """The whole page."""
    runs = found["runs"]
    kinds = list(runs[0]["categories"])
    lines = [
        "# Stage 3 on stickers: reinforcement learning of the editor",
        "",
        f"The embedded Kontext editor on {found['base']['pictures']} held-out contexts, a picture of each by the ODE,",
        "from the same noise before and after. The oracle judges: utility from 0 to 10, read off the pixels. GSB is",
        f"(G - B) / (G + S + B) in percent; pictures whose utilities differ by less than {MARGIN} are the same.",
        "*Stayed*: percent of the pixels that had to stay which did (16 levels of tolerance), on tasks where some had",
        "to. *Unchanged*: percent of pictures that are the source. In brackets 95 % bootstrap intervals; means are",
        "over the 11 categories.",
        "`scripts/stage3_page.py` wrote this page; its head says which commands it reads.",
        "",
        *results(found),
        "",
        "Utility gained, by category:",
        "",
        line("", *(run["name"] for run in runs)),
        rule(1 + len(runs)),
        *(line(kind, *(spread(run["categories"][kind], places=1) for run in runs)) for kind in kinds),
        "",
        "![Training dynamics](../images/editor-dynamics.svg)",
        "",
        line("setting", *(run["name"] for run in runs)),
        rule(1 + len(runs)),
        line("reward", *(run["reward"] for run in runs)),
    ]
    for name in runs[0]["recipe"]:
        lines.append(line(name.replace("_", " "), *(run["recipe"][name] for run in runs)))
    lines.append(line("minutes of training", *(f"{run['minutes']:.0f}" for run in runs)))
    return "\n".join(lines) + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")


def main(arguments: Sequence[str]) -> None:
    """Gather, or read what was gathered before; write."""
    kept, notes = DOCS / "results/stage3.json", DOCS / "results/stage3-notes.md"
    if arguments:
        base, given = Path(arguments[0]), [argument.split("=") for argument in arguments[1:]]
        before = read(kept) if kept.is_file() else {}
        same = before.get("base") == figures(base)
        runs = {run["name"]: run for run in (before["runs"] if same else ())}
        runs |= {name: gather(name, Path(run), Path(measured), base) for name, run, measured in given}
        found = {"base": figures(base), "runs": list(runs.values())}
        kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    found = read(kept)
    text = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    (DOCS / "results/stage3.md").write_text(page(found, text), encoding="utf-8")
    plots = {title: {run["name"]: run["curves"][key] for run in found["runs"]} for key, title in PLOTS.items()}
    (DOCS / "images/editor-dynamics.svg").write_text(draw_curves(plots), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
