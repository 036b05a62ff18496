"""Model cards of the embedded editors, written from a run's own files, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from editr1.editors.sticker_pipeline import OPTIONS
from editr1.files import write_atomic, write_json
from editr1.training.finish import machine
from editr1.types import EditKind

_TEMPLATE = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: image-to-image
tags: [image-editing, synthetic]
---
# {name}

A small image editor of the real {pipeline} classes, from fresh weights, for the embedded domain of editr1: 96x96
pictures of stickers on a backdrop. It stands where {stands_for} would stand, is pretrained part of the way on right
**and faulty** edits, and is there to be improved by reinforcement learning. On photographs it does nothing sensible.

- **Architecture**: {millions:.1f} M parameters in all, bfloat16: {parts}. Source and edit are 36 tokens each;
  {steps} steps of the sampler, {text}.
- **Learnt from**: {edits:,} edits of {tasks:,} tasks (split `{split}`), drawn by `editr1.stickers`: scenes,
  instructions and faults are all simulated. No human data, no real edits. {right:.0%} of the edits are right; the
  others, as shares of all: {faults}.
- **Training**: {first}; then transformer and text encoders together by flow matching, {flow_steps:,} steps of
  {flow_batch} edits, peak learning rate {rate:g}, seed {seed}; {minutes:.0f} minutes of optimisation on {machine}.
  What ships is a moving average of the weights. One command:
  `editr1 stickers train-editor recipes/sticker/{recipe}.toml`; settings in full in `training.json` beside this card.
- **Autoencoder**, held-out pictures: PSNR {psnr:.1f} dB, mean absolute error {l1:.1f} levels of 255; {copies:.0%}
  of its copies of right results are called right.
- **Held-out tasks** ({number} of split `{held_split}`, one picture each): {share:.1%} right, mean utility {oracle:.1f}
  of 10 by the pixel oracle, {good:.1%} of at least 8. A picture is named after the nearest of the drawings that the
  task could have led to, see `editr1/training/pretrain/evaluate.py`.

| kind of edit | right |
|---|---|
{kinds}

What became of the others, as shares of all pictures: {modes}.

The stickers are glyphs of Noto Color Emoji (SIL OFL 1.1); the backdrops' sources and licences are listed in
`editr1/stickers/assets/LICENSES.md`.

```python
from editr1.editors import build_editor, sample_images
from editr1.stickers.tasks import sample_task

editor = build_editor("{name}")  # or a path; DiffusionPipeline.from_pretrained takes the path too
contexts = editor.encode([sample_task("test", 0).edit_task()])
(picture,) = sample_images(editor, contexts, seeds=[0])
```

In plain diffusers the pipeline brings pictures to about 1024x1024 first, a size that this model has never seen.
`editr1.json` says how it is to be used, and `editr1 edit --editor {name}` follows it.
"""

_ABOUT = {
    "kontext": {
        "pipeline": "`FluxKontextPipeline`",
        "stands_for": "FLUX.1-Kontext-dev",
        "text": "no guidance, instructions of at most 40 tokens",
    },
    "qwen": {
        "pipeline": "`QwenImageEditPipeline`",
        "stands_for": "Qwen-Image-Edit",
        "text": "no classifier-free guidance; the text encoder sees the source as 9 tokens",
    },
}


def write_editor_card(
    folder: Path,
    config: Mapping[str, Any],
    *,
    parameters: Mapping[str, int],
    rows: Sequence[Mapping[str, Any]],
    shares: Mapping[str, float],
    held_out: Mapping[str, float],
) -> Path:
    """Write `README.md` and `training.json` beside a pipeline; returns the card's path.

    Args:
        folder: of the model.
        config: the recipe, resolved.
        parameters: of each model in the pipeline.
        rows: of the run's metrics.
        shares: of right edits and of each fault in the data, as counted.
        held_out: figures of the finished model, as `summarise` and `measure_vae` name them.
    """
    seconds = optimisation_seconds(rows)
    record = {
        "recipe": dict(config),
        "seconds": round(seconds),
        "machine": machine(),
        "data": {name: round(share, 4) for name, share in shares.items() if share},
        "held_out": {name: round(value, 4) for name, value in held_out.items()},
    }
    write_json(folder / "training.json", record)
    edits, vae, flow, words = config["edits"], config["vae"], config["flow"], config["text"]
    first = (
        f"autoencoder {vae['steps']:,} steps of {vae['batch_size']} pictures; text encoders {words['steps']:,} steps"
        f"\n  of {words['batch_size']} instructions, to tell what they ask for"
        if config.get("start") is None
        else f"started from `{config['start']}`, whose tokenizers and autoencoder it has"
    )
    text = _TEMPLATE.format(
        name=config["name"],
        millions=sum(parameters.values()) / 1e6,
        parts=", ".join(f"{name.replace('_', ' ')} {count / 1e6:.1f} M" for name, count in parameters.items()),
        steps=config["held_out"]["steps"] or OPTIONS.steps,
        edits=edits["number"],
        tasks=-(-edits["number"] // edits["per_task"]),
        split=edits["split"],
        right=shares["right"],
        faults=_listed({name: share for name, share in shares.items() if name != "right" and share}),
        first=first,
        flow_steps=flow["steps"],
        flow_batch=flow["batch_size"],
        rate=flow["learning_rate"],
        seed=config["seed"],
        minutes=seconds / 60,
        machine=record["machine"],
        recipe=f"editor-{config['editor']}-base",
        psnr=held_out["vae/psnr"],
        l1=held_out["vae/l1"],
        copies=held_out["vae/right"],
        number=config["held_out"]["final"] * len(EditKind),
        held_split=config["held_out"]["split"],
        share=held_out["right"],
        oracle=held_out["oracle"],
        good=held_out["good"],
        kinds="\n".join(
            f"| {name.removeprefix('right/')} | {value:.0%} |"
            for name, value in held_out.items()
            if name.startswith("right/")
        ),
        modes=_listed({n.removeprefix("mode/"): v for n, v in held_out.items() if n.startswith("mode/")}),
        **_ABOUT[config["editor"]],
    )
    return write_atomic(folder / "README.md", text)


def optimisation_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds that the trainings took, by their logged pace: pauses, measurements and encoding do not count."""
    total = float(sum(row["seconds"] for row in rows if row.get("stage") == "text"))
    for stage, pace in (("vae", "pictures_per_second"), ("flow", "examples_per_second")):
        own = [row for row in rows if row.get("stage") == stage and row.get(pace)]
        gaps = sorted(b["time"] - a["time"] for a, b in pairwise(own))
        if gaps:
            usual = gaps[len(gaps) // 2]
            total += sum(min(gap, 2 * usual) for gap in gaps) + usual
    return total


def _listed(shares: Mapping[str, float]) -> str:
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name.replace('_', ' ')} {share:.1%}" for name, share in ordered) or "none"
