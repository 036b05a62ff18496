r"""Write docs/results/stage1.md: curation, the shipped verifiers' fine-tuning, and the ablation, from their runs.

python scripts/stage1_page.py --curation runs/sticker-curate --verifier runs/sticker-verifier-small \
    --verifier runs/sticker-verifier-large --ablation runs/sticker-ablation

What the page shows of a run is copied to docs/results/stage1.json, so that it can be written again without the runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pages import line, read, without_pauses

RESULTS = Path(__file__).parents[1] / "docs/results"
STAGES = ("select", "decompose", "edit", "trace", "verify", "choose")
HELD_OUT = (
    ("parsed", "answers that can be read", True),
    ("principle_accuracy", "checks that agree with the gold", True),
    ("principle_balanced_accuracy", "the same, met and unmet principles weighted alike", True),
    ("pair_accuracy", "better of two edits of one context scored higher", True),
    ("pair_ties", "ties", True),
    ("loss", "loss", False),
)


def gather(args: argparse.Namespace) -> dict[str, Any]:
    """What the page shows, from the runs."""
    manifest = read(args.curation / "manifest.json")
    found: dict[str, Any] = {
        "curation": {
            "rows": manifest["rows"],
            "seed": manifest["seed"],
            "stages": {
                stage: {
                    "in": manifest[stage]["in"],
                    "out": manifest[stage]["out"],
                    "rejects": manifest[stage]["rejects"],
                    "calls": sum(j["calls"] for j in manifest[stage]["judges"].values()),
                    "seconds": round(stage_seconds(args.curation / "work" / stage)),
                }
                for stage in STAGES
            },
        },
        "verifiers": [verifier(run) for run in args.verifier],
    }
    if args.ablation:
        table = read(args.ablation / "ablation.json")
        for row in table["rows"]:
            row["training"] |= {"seconds": seconds(args.ablation / cell_name(row) / "metrics.jsonl")}
            row.pop("recipe")
        found["ablation"] = {name: table[name] for name in ("pairs", "rows", "differences")}
        found["ablation"]["page"] = (args.ablation / "ablation.md").read_text(encoding="utf-8")
    return found


def verifier(run: Path) -> dict[str, Any]:
    """A fine-tuning run: what it learnt from, how long it took, what was measured at its end."""
    training, environment = read(run / "model/training.json"), read(run / "environment.json")
    kept = ("steps", "batch_size", "learning_rate", "optimizer", "schedule", "warmup", "seed", "modes", "compile")
    return {
        "name": training["recipe"]["name"],
        "model": training["recipe"]["model"],
        "settings": {name: training["recipe"][name] for name in kept},
        "parameters": training["parameters"],
        "chats": training["chats"],
        "held_out": training["held_out"],
        "seconds": seconds(run / "metrics.jsonl"),
        "cores": environment["machine"]["cores"],
    }


def verifier_command(found: dict[str, Any]) -> str:
    """What trains it, and puts it where shipped models are."""
    compiled = " --set compile=true" if found["settings"]["compile"] else ""
    return f"editr1 train sft recipes/sticker/sft-{found['name'].rpartition('-')[2]}.toml{compiled} --ship"


def cell_name(row: dict[str, Any]) -> str:
    """Folder of a cell of the ablation."""
    return f"{row['size']}-{row['mode']}" + (f"-{row['seed']}" if row["seed"] else "")


def seconds(metrics: Path) -> float:
    """Of training."""
    return without_pauses([json.loads(line)["time"] for line in metrics.read_text(encoding="utf-8").splitlines()])


def stage_seconds(folder: Path) -> float:
    """Of a stage of curation."""
    return without_pauses([file.stat().st_mtime for file in folder.iterdir()])


def percent(value: float) -> str:
    """E.g. "93.4 %"."""
    return f"{100 * value:.1f} %"


def page(found: dict[str, Any], notes: str) -> str:
    """The whole page."""
    curation, verifiers = found["curation"], found["verifiers"]
    lines = [
        "# Stage 1 on stickers: curation, fine-tuning, ablation",
        "",
        "Everything here is simulated: pictures, editors, judges, humans. The figures say nothing about photographs.",
        "",
        "```bash",
        "editr1 curate recipes/sticker/curate.toml",
        *(verifier_command(v) for v in verifiers),
        *(["editr1 train ablation recipes/sticker/ablation.toml"] if "ablation" in found else []),
        "```",
        "",
        "## Curation",
        "",
        f"Seed {curation['seed']}; {curation['rows']['train']:,} rows to learn from, "
        f"{curation['rows']['validation']:,} held out by context.",
        "",
        line("stage", "in", "out", "rejected", "calls of judges", "seconds"),
        line(*["---"] * 6),
    ]
    for stage, row in curation["stages"].items():
        rejects = ", ".join(f"{count:,} {kind}" for kind, count in row["rejects"].items()) or "none"
        lines.append(line(stage, f"{row['in']:,}", f"{row['out']:,}", rejects, f"{row['calls']:,}", row["seconds"]))
    lines += ["", "Seconds are those between a stage's files; pauses are left out."]
    lines += [
        "",
        "## The verifiers",
        "",
        line("", *(v["name"] for v in verifiers)),
        line(*["---"] * (len(verifiers) + 1)),
    ]
    lines.append(line("from", *(v["model"] for v in verifiers)))
    lines.append(line("parameters", *(f"{v['parameters'] / 1e6:.1f} M" for v in verifiers)))
    lines.append(line("chats", *(f"{v['chats']:,}" for v in verifiers)))
    for name in ("steps", "batch_size", "learning_rate", "optimizer", "seed"):
        lines.append(line(name.replace("_", " "), *(v["settings"][name] for v in verifiers)))
    lines.append(line("minutes of training", *(f"{v['seconds'] / 60:.0f}" for v in verifiers)))
    for name, title, share in HELD_OUT:
        values = [v["held_out"].get(name) for v in verifiers]
        lines.append(line(title, *("-" if x is None else percent(x) if share else f"{x:.3f}" for x in values)))
    lines += [
        "",
        "The last rows are measured on held-out rows at the end of training, against the simulated strict judge.",
        "Against the oracle: [the embedded verifier](embedded-verifier.md).",
    ]
    if "ablation" in found:
        total = sum(row["training"]["seconds"] for row in found["ablation"]["rows"])
        lines += [
            "",
            "## T, V, T+V and a holistic baseline",
            "",
            f"{found['ablation']['pairs']:,} held-out pairs of simulated humans who had a preference; {total / 60:.0f} "
            "minutes of training in all. Brackets: 95 % bootstrap intervals over pairs.",
            "",
            found["ablation"]["page"].rstrip(),
        ]
    return "\n".join(lines) + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")


def main() -> None:
    """Gather, or read what was gathered before; write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curation", type=Path)
    parser.add_argument("--verifier", type=Path, action="append", default=[])
    parser.add_argument("--ablation", type=Path)
    args = parser.parse_args()
    kept, notes = RESULTS / "stage1.json", RESULTS / "stage1-notes.md"
    if args.curation:
        kept.write_text(json.dumps(gather(args), indent=1) + "\n", encoding="utf-8")
    text = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    (RESULTS / "stage1.md").write_text(page(read(kept), text), encoding="utf-8")


if __name__ == "__main__":
    main()
