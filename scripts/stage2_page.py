r"""Write docs/results/stage2.md and its figure: GCPO from the fine-tuned verifiers, small and large.

For each size, with PARENT the fine-tuned model and RUN the run of `editr1 train gcpo`:

editr1 eval rm stickers --data test:2000:cy --model PARENT    --out runs/stage2/small/sft
editr1 eval rm stickers --data test:2000:cy --model RUN/model --out runs/stage2/small/gcpo
editr1 stickers evaluate --model PARENT    --out runs/stage2/small/sft.json
editr1 stickers evaluate --model RUN/model --out runs/stage2/small/gcpo.json
python scripts/stage2_page.py small=RUN=runs/stage2/small large=...

What the page shows is copied to docs/results/stage2.json, so that it can be written again without the runs; a size that
is not given stays as it is there:
python scripts/stage2_page.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curves import draw_curves
from pages import line, read, rule, without_pauses

from editr1.evaluation.paired import compare_runs
from editr1.evaluation.runs import read_result
from editr1.evaluation.stickers import accuracy_difference

DOCS = Path(__file__).parents[1] / "docs"
PLOTS = (
    ("heldout/strict", "held-out pairs: preferred edit scored higher"),
    ("win_ratio", "win ratio of rollouts of the preferred edit"),
    ("weighted_advantage", "weighted advantage"),
    ("reasoning_tokens", "tokens of reasoning"),
    ("entropy", "entropy, nats a token"),
    ("pairs_without_advantage", "share of pairs without advantage"),
)
ORACLE = {
    "edits": {"accuracy": "oracle: principles right", "balanced": "oracle: met and unmet principles weighted alike"},
    "pairs": {"strict": "oracle: better of two edits scored higher"},
    "probes": {"ordered": "oracle: right edit above unchanged and wrong picture"},
}
"""Figures of `editr1 stickers evaluate`, and what the page calls them."""
KEPT = ("rollouts", "pairs_per_step", "steps", "learning_rate", "schedule", "temperature", "beta", "clip", "seed")


def gather(size: str, run: Path, measured: Path) -> dict[str, Any]:
    """What the page shows of one size."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    recipe = read(run / "config.json")
    by_dimension, warnings = compare_runs(str(measured / "sft"), str(measured / "gcpo"))
    compared = by_dimension.get("overall")
    if compared is None or warnings:
        raise SystemExit(f"{measured}: the two runs do not compare: {', '.join(warnings) or 'no pair in common'}")
    judges = {}
    for name in ("sft", "gcpo"):
        result, oracle = read_result(str(measured / name)), read(measured / f"{name}.json")
        judges[name] = {
            "pairs": result["dimensions"],
            "oracle": {
                part: {name: whole(oracle[part][name]) for name in names}
                for part, names in ORACLE.items()
                if part in oracle
            },
        }
    return {
        "size": size,
        "recipe": {name: recipe[name] for name in ("parent", *KEPT)}
        | {"trained": "all weights" if recipe.get("lora") is None else f"LoRA, rank {recipe['lora']['rank']}"},
        "minutes": without_pauses([row["time"] for row in rows]) / 60,
        "cores": read(run / "environment.json")["machine"]["cores"],
        "curves": {name: [[r["step"], r[name]] for r in rows if name in r] for name, _ in PLOTS},
        "judges": judges,
        "difference": {
            "strict": estimate(compared.difference),
            "half_credit": estimate(compared.half_credit_difference),
            "better": compared.only_second,
            "worse": compared.only_first,
            "p_value": compared.p_value,
            "principles": principles(measured),
        },
    }


def principles(measured: Path) -> dict[str, float]:
    """By how much more of the principles GCPO's model is right, on the same edits, by the oracle."""
    parent, reinforced = (read(measured / f"{name}.json")["edits"]["agreed"] for name in ("sft", "gcpo"))
    return estimate(accuracy_difference(parent, reinforced))


def whole(found: dict[str, Any]) -> dict[str, Any]:
    """A figure itself, or that over all kinds of principles."""
    return found.get("All", found)


def estimate(value: Any) -> dict[str, float]:
    """With its 95 % interval."""
    return {"value": value.value, "low": value.low, "high": value.high}


def percent(found: Mapping[str, float] | None) -> str:
    """E.g. "84.5 [82.3, 86.7]"."""
    return "-" if not found else f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def page(sizes: Sequence[Mapping[str, Any]], notes: str) -> str:
    """The whole page."""
    head = line("", *(f"{s['size']}, {name}" for s in sizes for name in ("SFT", "GCPO")))
    lines = [
        "# Stage 2 on stickers: GCPO",
        "",
        "Pictures, edits and the people who prefer one of two are simulated. `scripts/stage2_page.py` wrote this page;",
        "its head says which commands it reads.",
        "",
        "```bash",
        *(f"editr1 train gcpo recipes/sticker/{recipe_name(s)}" for s in sizes),
        "```",
        "",
        "In percent, with 95 % bootstrap intervals.",
        "",
        head,
        rule(1 + 2 * len(sizes)),
    ]
    found = [s["judges"][name] for s in sizes for name in ("sft", "gcpo")]
    for title, key in (
        ("preferred edit scored higher", "strict"),
        ("ties", "ties"),
        ("with half credit", "half_credit"),
    ):
        lines.append(line(title, *(percent(main_figures(f).get(key)) for f in found)))
    for part, figures in ORACLE.items():
        for figure, title in figures.items():
            measured = [f["oracle"].get(part, {}).get(figure) for f in found]
            if any(measured):
                lines.append(line(title, *(percent(m) for m in measured)))
    lines += ["", line("GCPO less SFT, same pairs", *(s["size"] for s in sizes)), rule(1 + len(sizes))]
    for title, key in (
        ("preferred edit scored higher", "strict"),
        ("with half credit", "half_credit"),
        ("oracle: principles right, same edits", "principles"),
    ):
        lines.append(line(title, *(percent(s["difference"][key]) for s in sizes)))
    lines.append(
        line("pairs gained / lost", *(f"{s['difference']['better']} / {s['difference']['worse']}" for s in sizes))
    )
    lines.append(line("exact McNemar test", *(f"p = {s['difference']['p_value']:.2g}" for s in sizes)))
    lines += ["", "![Training dynamics of both sizes](../images/gcpo-dynamics.svg)", ""]
    lines += [line("setting", *(s["size"] for s in sizes)), rule(1 + len(sizes))]
    for name in sizes[0]["recipe"]:
        lines.append(line(name.replace("_", " "), *(s["recipe"][name] for s in sizes)))
    lines.append(line("minutes of training", *(f"{s['minutes']:.0f}" for s in sizes)))
    return "\n".join(lines) + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")


def recipe_name(size: Mapping[str, Any]) -> str:
    """The recipe of a size."""
    return "gcpo.toml" if size["size"] == "small" else f"gcpo-{size['size']}.toml"


def main_figures(judge: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the only dimension."""
    (figures,) = judge["pairs"].values() if isinstance(judge["pairs"], dict) else judge["pairs"]
    return figures


def main() -> None:
    """Gather, or read what was gathered before; write."""
    kept, notes = DOCS / "results/stage2.json", DOCS / "results/stage2-notes.md"
    if sys.argv[1:]:
        given = [argument.split("=") for argument in sys.argv[1:]]
        found = {size["size"]: size for size in (read(kept) if kept.is_file() else ())}
        found |= {size: gather(size, Path(run), Path(measured)) for size, run, measured in given}
        kept.write_text(json.dumps(list(found.values()), indent=1) + "\n", encoding="utf-8")
    sizes = read(kept)
    text = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    (DOCS / "results/stage2.md").write_text(page(sizes, text), encoding="utf-8")
    plots = {title: {size["size"]: size["curves"].get(name, []) for size in sizes} for name, title in PLOTS}
    (DOCS / "images/gcpo-dynamics.svg").write_text(draw_curves(plots), encoding="utf-8")


if __name__ == "__main__":
    main()
