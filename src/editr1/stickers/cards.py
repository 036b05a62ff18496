"""Model cards of the embedded models, written from a run's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TEMPLATE = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
tags: [image-editing, reward-model, synthetic]
---
# {name}

{what}

- **Architecture**: `Qwen2_5_VLForConditionalGeneration`, {millions:.1f} M parameters, bfloat16; pictures of about 96x96
  pixels become 36 tokens; a byte-level BPE of the domain, with one token for each fixed part of an answer.
- **Learnt from**: {examples:,} examples of the mixture `{mixture}` (split `{split}`), made on the fly by
  `editr1.stickers`: scenes, edits, faults, descriptions and traces are all simulated. No human data, no real edits.
- **Training**: {origin}, {steps:,} steps of {batch}, peak learning rate {rate:g}, seed {seed}, {seconds} on {machine}.
  Recipe: `recipes/sticker/{recipe}.toml`; settings in full in `training.json` beside this card.
- **On {held} held-out examples**: loss {loss:.3f}, next-token accuracy {accuracy:.1%}.
- **Limits**: it knows sticker pictures drawn by `editr1.stickers` and nothing else. On any other picture its answers
  mean nothing.

The stickers are glyphs of Noto Color Emoji (SIL OFL 1.1); the backdrops' sources and licences are listed in
`editr1/stickers/assets/LICENSES.md`.

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("path/to/{name}")
processor = AutoProcessor.from_pretrained("path/to/{name}")
```
"""

_WHAT = {
    "describe": "A small vision-language model that describes sticker pictures. It is the base that the embedded "
    "verifiers of editr1 are fine-tuned from; it cannot judge edits.",
    "verify": "The embedded verifier of editr1: it judges edits of sticker pictures, principle by principle, with a "
    "score from 0 to 10, and splits instructions into principles.",
}

HELD_OUT = 512
NOTICE = (
    "the embedded verifier knows sticker pictures only (see `editr1 stickers`); for your own pictures name a real "
    "model, e.g. --model Qwen/Qwen2.5-VL-7B-Instruct"
)


def write_card(
    folder: Path, config: dict[str, Any], *, parameters: int, seconds: float, machine: str, held_out: dict[str, float]
) -> Path:
    """Write `README.md` and `training.json` beside a model's weights; returns the card's path.

    Args:
        folder: of the model.
        config: the recipe, resolved.
        parameters: how many the model has.
        seconds: that the training took.
        machine: what it ran on.
        held_out: loss and token_accuracy on HELD_OUT examples.
    """
    record = {"recipe": config, "seconds": round(seconds), "machine": machine, "held_out": held_out}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    card = folder / "README.md"
    card.write_text(
        _TEMPLATE.format(
            name=config["name"],
            what=_WHAT[config["examples"]],
            millions=parameters / 1e6,
            examples=config["steps"] * config["batch_size"],
            mixture=config["examples"],
            split=config["split"],
            origin=f"from {config['parent']}" if config["parent"] else "from fresh weights",
            steps=config["steps"],
            batch=config["batch_size"],
            rate=config["learning_rate"],
            seed=config["seed"],
            seconds=f"{seconds / 60:.0f} minutes",
            machine=machine,
            recipe=config["name"].removeprefix("sticker-"),
            held=HELD_OUT,
            loss=held_out["loss"],
            accuracy=held_out["token_accuracy"],
        ),
        encoding="utf-8",
    )
    return card
