"""Commands that do nothing but leave the files that the real ones leave, so that the plan itself can be tested."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editr1.evaluation.reproduction.places import Place
from editr1.evaluation.reproduction.run import Outcome, State
from editr1.types import EditKind

KINDS = [kind.value for kind in EditKind]


def estimate(value: float, width: float = 0.05, items: int = 100) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width, "items": items}


class FakeEditr1:
    """Stands for `editr1`; `commands` are those that were run, each by its first words and its folder.

    Args:
        fail: folder names of commands that fail.
        stop_after: a KeyboardInterrupt comes once so many commands were run.
    """

    def __init__(self, fail: Sequence[str] = (), stop_after: int | None = None) -> None:
        self.fail, self.stop_after = set(fail), stop_after
        self.commands: list[str] = []

    def __call__(self, arguments: Sequence[str], log: Path) -> int:
        out = Path(arguments[arguments.index("--out") + 1])
        if self.stop_after is not None and len(self.commands) >= self.stop_after:
            raise KeyboardInterrupt
        self.commands.append(out.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if out.name in self.fail:
            log.write_text("$ editr1\nloading\nerror: the sky fell\n\n")
            return 2
        out.mkdir(parents=True, exist_ok=True)
        words = [word for word in arguments[:3] if not word.endswith(".toml")]
        self._leave(words, list(arguments), out)
        return 0

    def _leave(self, words: list[str], arguments: list[str], out: Path) -> None:
        if words[0] == "curate":
            _write(out / "manifest.json", {"rows": {"train": 9}})
        elif words[:2] == ["train", "ablation"]:
            rows = [row(size, mode) for size in ("small", "large") for mode in MODES]
            gain = {"of": "small-think+verify", "less": "small-think", "strict": estimate(0.1), "p_value": 0.01}
            _write(out / "ablation.json", {"rows": rows, "pairs": 100, "differences": [gain]})
            for size in ("small", "large"):
                for mode in ("think+verify", "viescore"):
                    _write(out / f"{size}-{mode}" / "model" / "config.json", {"name": f"{size}-{mode}"})
        elif words[:2] == ["preferences", "build"]:
            (out / "train.parquet").write_bytes(b"PAR1")
        elif words[:2] == ["stickers", "train"]:
            _write(out / "model/config.json", {"name": out.name})
        elif words[:2] in (["train", "gcpo"], ["train", "editor"], ["stickers", "train-editor"]):
            lora = words[:2] == ["train", "editor"]
            _write(out / ("lora/pytorch_lora_weights.safetensors" if lora else "model/config.json"), {"name": out.name})
            names = ("heldout/strict", "win_ratio", "reward", "eval_reward")
            rows = [{"step": step, **dict.fromkeys(names, step / 10)} for step in range(5)]
            (out / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        elif words[:2] == ["eval", "rm"]:
            accuracy = ACCURACY.get(out.name, 0.8)
            _write(out / "result.json", pair_result(accuracy))
            (out / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in pair_rows(accuracy)))
        else:
            assert words[:2] == ["eval", "editor"], words
            _leave_edits(out, UTILITY.get(out.name, 5.0))


MODES = {"think": 0.6, "verify": 0.65, "think+verify": 0.7, "viescore": 0.62}
ACCURACY = {"accuracy--gcpo-small": 0.75, "accuracy--gcpo-large": 0.85}
UTILITY = {"edits--base": 4.0, "edits--gcpo-small": 6.0, "edits--gcpo-large": 7.0}


def row(size: str, mode: str, seed: int = 0, more: float = 0.0) -> dict[str, Any]:
    """A row of `ablation.json`."""
    value = MODES[mode] + (0.1 if size == "large" else 0.0) + more
    return {"size": size, "mode": mode, "seed": seed, "figures": {"strict": estimate(value)}, "failed": 0}


def pair_result(strict: float) -> dict[str, Any]:
    """`result.json` of `eval rm`."""
    figures = {name: estimate(strict) for name in ("strict", "half_credit", "macro_strict", "failures_as_wrong")}
    overall = figures | {"ties": estimate(0.1), "pairs": 100, "failed": 2, "tasks": {}}
    return {"manifest": {"benchmark": "pairs"}, "failures": {"unparseable": 3}, "dimensions": {"overall": overall}}


def pair_rows(strict: float) -> list[dict[str, Any]]:
    """`pairs.jsonl` of `eval rm`: of 20 pairs, the first ones are right."""
    named = {"label": "first", "task": "add", "dimension": "overall", "group": "", "edits": ["one", "two"]}
    right = round(20 * strict)
    return [named | {"id": f"p{i}", "choice": "first" if i < right else "second"} for i in range(20)]


def _leave_edits(out: Path, utility: float) -> None:
    """`result.json`, `pairs.jsonl` and pictures of `eval editor stickers`; the best editor is best at task 2."""
    from PIL import Image

    figures = {name: estimate(utility, 0.2) for name in ("followed", "kept", "score")}
    table = {"macro": figures, "categories": dict.fromkeys(KINDS, figures), "judged": 22, "failed": 0}
    _write(out / "result.json", {"manifest": {"editor": out.name}, "tables": {"full": table}, "failures": {}})
    lines = []
    Image.new("RGB", (96, 96), "teal").save(out / "picture.png")
    for i in range(22):
        pictures = {"source": "picture.png", "edited": "picture.png"}
        scores = {"score": utility + i % 3 - 1 + (2 if (i, utility) == (2, 7.0) else 0)}
        about = {"key": f"k{i}", "context": f"c{i}", "category": KINDS[i % 11], "instruction": f"edit {i}"}
        lines.append({**about, "pictures": pictures, "scores": scores})
    (out / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


RECIPES = (
    "curate.toml", "base-small.toml", "base-large.toml", "ablation.toml", "gcpo.toml", "gcpo-large.toml",
    "editor-kontext-base.toml", "editor-qwen-base.toml", "editor-flow-grpo.toml",
)  # fmt: skip


def write_recipes(folder: Path) -> Path:
    """Recipes of all steps; what they say matters to the commands alone."""
    folder.mkdir(parents=True)
    for name in RECIPES:
        text = 'set = ["steps=500"]\n' if name == "ablation.toml" else ""
        (folder / name).write_text(text)
        tomllib.loads(text)
    return folder


def ship(here: Place, step: str, result: Any) -> None:
    """The result of a step ships."""
    path = here.shipped_file(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(Outcome(step, step, State.MADE, "", result, {"seconds": 5.0, "key": "k"}).to_dict()))


def ship_model(here: Place, name: str) -> None:
    """A model ships, as far as a look at its folder tells."""
    (here.models / name).mkdir(parents=True)
    (here.models / name / "config.json").write_text("{}")
