"""A small export in the schema of curation, made without it, and a recipe that trains on it in a second."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editr1.curation.export import COLUMNS
from editr1.curation.shards import image, write_table
from editr1.judges.base import Message, Picture
from editr1.training.sft.recipe import SftRecipe
from editr1.types import Category, Check, Principle
from editr1.verifier.modes import (
    MODES,
    mode_template,
    think_answer,
    think_verify_answer,
    verify_answer,
    viescore_answer,
)
from editr1.verifier.render import render_score
from editr1.verifier.template import load_template

PRINCIPLES = (
    Principle("Is the star red?", Category.FOLLOW),
    Principle("Is the dog there?", Category.KEEP),
    Principle("Is it sharp?", Category.QUALITY),
)


def png(color: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


def stored(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages as an export has them."""
    return [
        {
            "role": m.role,
            "content": [
                {"type": "image", "text": None} if isinstance(p, Picture) else {"type": "text", "text": p.text}
                for p in m.content
            ],
        }
        for m in messages
    ]


def export_row(number: int, *, template: str = "compact", instruction: str | None = None) -> dict[str, Any]:
    """Row `number`: two edits a context; its gold is the number's lowest bits."""
    context, base = number // 2, load_template(template)
    checks = [Check(p, bool(number >> i & 1), f"seen {number >> i & 1}") for i, p in enumerate(PRINCIPLES)]
    score = 3.0 * sum(c.met for c in checks)
    reasoning = f"I look at picture {number}." + " It is fine." * (number % 5)
    instruction = instruction or f"Paint star {context} red."
    answers = {
        "think": think_answer(reasoning, score),
        "verify": verify_answer(checks, score, echo_question=base.echo_question),
        "think+verify": think_verify_answer(reasoning, checks, score, echo_question=base.echo_question),
        "viescore": viescore_answer(reasoning, checks),
    }
    chats, blank = [], Image.new("RGB", (1, 1))
    for mode in MODES:
        own = mode_template(base, mode)
        messages = stored(render_score(own, blank, blank, instruction, PRINCIPLES))
        chats.append({"mode": mode, "prompt_hash": own.hash, "messages": messages, "answer": answers[mode]})
    found = [{"met": c.met, "reason": c.reason} for c in checks]
    return {
        "id": f"e{number}",
        "source": image(png((context * 20 % 256, 90, 60))),
        "edited": image(png((number * 30 % 256, 40, 200))),
        "instruction": instruction,
        "principles": [p.to_dict() for p in PRINCIPLES],
        "kind": None,
        "editor": "painter",
        "context": f"c{context}",
        "subset": "random",
        "score": score,
        "average_score": sum(c.met for c in checks) / 3,
        "reasoning": reasoning,
        "checks": found,
        "gold": found,
        "accuracy": 1.0,
        "judge": "j",
        "variant": "plain",
        "chats": chats,
    }


def write_export(folder: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> Path:
    """An export of these rows; returns its folder."""
    for split, rows in (("train", train), ("validation", validation)):
        if rows:
            write_table(folder / f"data/{split}-00000.parquet", COLUMNS, rows, {})
    return folder


@pytest.fixture
def sft_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what `datasets` caches out of the user's home."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def sft_export(tmp_path: Path, sft_cache: None) -> Path:
    """12 rows to learn from and 4 held out."""
    rows = [export_row(n) for n in range(16)]
    return write_export(tmp_path / "export", rows[:12], rows[12:])


@pytest.fixture
def sft_row() -> Callable[..., dict[str, Any]]:
    """Makes rows of an export."""
    return export_row


@pytest.fixture
def sft_write() -> Callable[..., Path]:
    """Writes an export."""
    return write_export


@pytest.fixture(scope="session")
def sft_parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model on disk."""
    from editr1.judges.testing import tiny_qwen

    folder = tmp_path_factory.mktemp("sft-parent") / "tiny"
    tiny_qwen(folder, hidden_size=32, vision_hidden_size=16, initializer_range=0.05)
    return folder


@pytest.fixture
def sft_recipe(sft_export: Path, sft_parent: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SftRecipe]:
    """A recipe of 6 steps of 4 rows in float32; what is given replaces its settings."""
    # looking up every installed package takes longer than a whole small run
    monkeypatch.setattr("editr1.rundir.describe_environment", lambda seeds=None: {"seeds": seeds})

    def recipe(**changes: Any) -> SftRecipe:
        base: dict[str, Any] = {
            "name": "tiny",
            "model": str(sft_parent),
            "data": (str(sft_export),),
            "steps": 6,
            "batch_size": 4,
            "micro_batch_size": 2,
            "learning_rate": 1e-3,
            "warmup": 1,
            "precision": "fp32",
            "gradient_checkpointing": False,
            "log_every": 1,
            "save_every": 2,
            "workers": 0,
            "held_out": {"every": 0},
            "device": "cpu",
        }
        return SftRecipe(**(base | changes))

    return recipe
