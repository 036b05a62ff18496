"""Pixels that had to stay and did: cheap, needs no model, and blind to whether the instruction was followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from editr1.errors import ConfigError, DataError
from editr1.images import prepare_pair
from editr1.rewards.base import EditSample, Mask, OnResult, RewardResult, each
from editr1.types import EditKind, VerdictStatus

GLOBAL_KINDS = frozenset({EditKind.BACKGROUND, EditKind.STYLE, EditKind.TONE})
"""Edits that may change every pixel: nothing had to stay, as far as pixels can tell."""

TOLERANCE = 16
"""Levels of 255 that rounding, JPEG or an autoencoder may move a pixel by."""

UNCHANGED_LEVELS = 3.0
"""Mean difference, in levels of 255, up to which an edit may count as none at all."""

CHANGED_LEVEL, UNCHANGED_SHARE = 32, 0.005
"""A pixel counts as changed beyond this level; an edit is none at all with at most this share of changed pixels."""

Levels = npt.NDArray[np.float32]


class PixelPreservation:
    """Share of the pixels that had to stay which stayed, in [0, 1].

    A pixel stayed if no channel moved by more than `tolerance` levels of 255. Which pixels had to stay is said by
    `mask_of`, else by the sample's `keep`; where nobody knows, it is derived: an instruction may change `allowance` of
    the picture, so the share of pixels that changed most is left out, and the rest had to stay. What the derived mask
    cannot see is a wrong change of no more than that share; what it does see is drift, and changes all over.

    A sample fails if nothing had to stay: the mask is empty, or the task's kind is one of `GLOBAL_KINDS` and there is
    no mask. Never train on this reward alone: its best edit is none at all. Watch it, or give it a small weight beside
    a verifier; as a part of a `WeightedSum`, make it one that is not required if tasks of all kinds come.

    Args:
        tolerance: levels of 255 that rounding, JPEG or an autoencoder may move a pixel by.
        allowance: share of the picture, in (0, 1), that an instruction may change.
        mask_of: gives the pixels that have to stay, (height, width) bool, or None if it does not know.
        name: of the reward.

    Raises:
        ConfigError: if an option is out of range.
    """

    def __init__(
        self,
        *,
        tolerance: int = TOLERANCE,
        allowance: float = 0.35,
        mask_of: Callable[[EditSample], Mask | None] | None = None,
        name: str = "pixels",
    ) -> None:
        if not 0 <= tolerance < 255 or not 0 < allowance < 1:
            raise ConfigError(
                f"tolerance must lie in 0-254 and allowance between 0 and 1, got {tolerance} and {allowance}"
            )
        self.tolerance = tolerance
        self.allowance = allowance
        self.name = name
        self._mask_of = mask_of

    def score(self, samples: Sequence[EditSample], *, on_result: OnResult | None = None) -> list[RewardResult]:
        """Reward all samples."""
        return each(samples, self._one, on_result)

    def _one(self, sample: EditSample) -> RewardResult:
        source, edited, _ = prepare_pair(sample.task.source, sample.edited)
        change = largest_change(source, edited)
        mask = self._mask_of(sample) if self._mask_of is not None else None
        mask = sample.keep if mask is None else mask
        if mask is None:
            if sample.task.kind in GLOBAL_KINDS:
                return _nothing_to_keep(f"an edit of kind {sample.task.kind} may change every pixel")
            mask = derived_mask(change, self.allowance)
        else:
            mask = checked_mask(mask, change.shape)
        if not mask.any():
            return _nothing_to_keep("the mask is empty")
        return RewardResult.of(float((change[mask] <= self.tolerance).mean()))


def largest_change(source: Image.Image, edited: Image.Image) -> Levels:
    """By how many levels of 255 the channel that changed most did, (height, width)."""
    return np.abs(levels(source) - levels(edited)).max(axis=2)


def levels(image: Image.Image) -> Levels:
    """Of an RGB picture, (height, width, 3), from 0 to 255."""
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def unchanged(source: Image.Image, edited: Image.Image) -> bool:
    """Whether an edit is none at all: pictures of one size that hardly differ, on average and in any place."""
    difference = np.abs(levels(source) - levels(edited))
    changed = float((difference.max(axis=2) > CHANGED_LEVEL).mean())
    return bool(difference.mean() <= UNCHANGED_LEVELS and changed <= UNCHANGED_SHARE)


def derived_mask(change: Levels, allowance: float) -> Mask:
    """All pixels but the share that changed most; of equal changes, those further up and left are left out first.

    Args:
        change: (height, width), in levels.
        allowance: the share to leave out, in (0, 1).

    Returns:
        (height, width), bool.
    """
    left_out = np.argsort(-change, axis=None, kind="stable")[: int(allowance * change.size)]
    mask = np.ones(change.size, bool)
    mask[left_out] = False
    return mask.reshape(change.shape)


def checked_mask(mask: npt.NDArray[Any], shape: tuple[int, ...]) -> Mask:
    """The mask, if it is one for pictures of this shape.

    Raises:
        DataError: if it has another shape or holds something else than truth values.
    """
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise DataError(
            f"the mask of pixels to keep is {mask.dtype}{list(mask.shape)}: give bool of the source's size, "
            f"{list(shape)}"
        )
    return mask


def _nothing_to_keep(why: str) -> RewardResult:
    return RewardResult.failed(VerdictStatus.ERROR, f"no pixel had to stay: {why}")
