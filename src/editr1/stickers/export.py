"""Sticker edits on disk: pictures and one JSONL file in the form that `editr1 score` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from editr1.files import write_atomic
from editr1.stickers.draw import draw
from editr1.stickers.faults import StickerEdit
from editr1.stickers.oracle import utility


def truth(edit: StickerEdit) -> dict[str, Any]:
    """What the simulation knows of an edit: utility in [0, 10], each principle's truth, the faults made."""
    return {
        "utility": round(utility(edit.task, edit.scene), 2),
        "checks": edit.task.truth(edit.scene),
        "faults": list(edit.faults),
    }


def export_edits(edits: Iterable[StickerEdit], folder: Path) -> Path:
    """Write `edits.jsonl` and `images/` into a folder; returns the JSONL file's path.

    A source picture that several edits share is written once.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    lines = []
    for edit in edits:
        stem = edit.task.id.replace("/", "-")
        source, edited = images / f"{stem}.png", images / f"{stem}-{edit.editor}.png"
        if not source.exists():
            draw(edit.task.before).save(source)
        edit.picture().save(edited)
        row = {
            "id": edit.id,
            "source": source.relative_to(folder).as_posix(),
            "edited": edited.relative_to(folder).as_posix(),
            "instruction": edit.task.instruction,
            "principles": [p.to_dict() for p in edit.task.principles],
            "kind": edit.task.kind.value,
            "editor": edit.editor,
            "truth": truth(edit),
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    path = folder / "edits.jsonl"
    write_atomic(path, "".join(f"{line}\n" for line in lines))
    return path
