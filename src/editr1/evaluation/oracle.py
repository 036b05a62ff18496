"""The oracle of the embedded domain as a judge of an editor's pictures: no model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from editr1.errors import Editr1Error
from editr1.evaluation.judgements import Edit, Judgement, OnJudgement
from editr1.images import load_image
from editr1.rewards.oracle import sticker_task
from editr1.rewards.pixels import TOLERANCE, largest_change, levels, unchanged
from editr1.rewards.sticker_pixels import pixel_utility, step_progress, unasked_cost
from editr1.stickers.draw import draw
from editr1.stickers.kinds import SIDE
from editr1.stickers.oracle import must_stay
from editr1.types import VerdictStatus

VERSION = "pixels-2"
"""Changes when the same picture may be judged otherwise."""


class OracleScorer:
    """Reads utility, and what it is made of, off the pixels of sticker edits.

    Parts, from 0 to 10: "followed" is 10 times the mean progress of the steps; "kept" is 10 less the cost of what
    changed unasked and of noise, blur, frames and garish colours; "stayed" is 10 times the share of the pixels that had
    to stay which did, within the reward's own tolerance, and is left out where none had to; "unchanged" is 10 if the
    edit is none at all. The score is the utility, which is 0 where nothing was followed.

    Args:
        tasks: id of an edit -> id of its sticker task.
    """

    kind = "oracle"

    def __init__(self, tasks: Mapping[str, str]) -> None:
        self._tasks = tasks

    def score_many(self, edits: Sequence[Edit], *, on_judgement: OnJudgement) -> None:
        """Judge all edits; one whose picture cannot be read is a failure."""
        for index, edit in enumerate(edits):
            try:
                on_judgement(index, self._judge(edit))
            except Editr1Error as exc:
                on_judgement(index, Judgement(edit.id, VerdictStatus.ERROR, error=str(exc), final=True))

    def describe(self) -> dict[str, Any]:
        """The same fields as of any judge."""
        return {
            "scorer": self.kind,
            "judge": "sticker oracle",
            "fingerprint": f"oracle:{VERSION}",
            "prompt_hash": "",
            "sampling": {"temperature": 0.0},
            "passes": 1,
            "max_tries": 1,
        }

    def versions(self) -> list[str]:
        """None: the fingerprint says it all."""
        return []

    def _judge(self, edit: Edit) -> Judgement:
        task = sticker_task(self._tasks[edit.id])
        picture = load_image(edit.edited)
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        source, seen = draw(task.before), levels(picture)
        parts = {
            "followed": 10 * float(np.mean(step_progress(task, seen))),
            "kept": float(np.clip(10 - unasked_cost(task, seen), 0, 10)),
            "unchanged": 10.0 * unchanged(source, picture),
        }
        stays = must_stay(task)
        if stays.any():
            parts["stayed"] = 10 * float((largest_change(source, picture)[stays] <= TOLERANCE).mean())
        return Judgement(edit.id, VerdictStatus.OK, score=pixel_utility(task, picture), parts=parts)
