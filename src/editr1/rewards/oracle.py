"""The oracle of the embedded domain as a reward: what a judge that makes no mistakes would say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from editr1.errors import DataError
from editr1.images import load_image
from editr1.rewards.base import EditSample, Mask, OnResult, RewardResult, each
from editr1.rewards.sticker_pixels import pixel_utility
from editr1.rewards.verifier import Scale, check_scale
from editr1.stickers.oracle import must_stay, utility
from editr1.stickers.scene import Scene
from editr1.stickers.tasks import StickerTask, sample_task
from editr1.types import EditKind


class OracleReward:
    """Utility of a sticker edit, by the truth: no model is asked.

    A sample whose `truth` is the `Scene` that its picture was drawn from gets the exact utility; any other picture has
    it read off its pixels (`sticker_pixels.pixel_utility`). For comparison and for watching: an editor trained on it
    learns from more than any judge of real pictures can know.

    Args:
        scale: "unit" for utility divided by 10, "score" for [0, 10].
        task_of: gives a sample's sticker task; by default the task's id, "<split>/<index>", says which it is.
        name: of the reward.
    """

    def __init__(
        self,
        *,
        scale: Scale = "unit",
        task_of: Callable[[EditSample], StickerTask] | None = None,
        name: str = "oracle",
    ) -> None:
        self.scale = check_scale(scale)
        self.name = name
        self._task_of = task_of or (lambda sample: sticker_task(sample.task.id))

    def score(self, samples: Sequence[EditSample], *, on_result: OnResult | None = None) -> list[RewardResult]:
        """Reward all samples; one that is of no sticker task is a failure."""
        return each(samples, self._one, on_result)

    def _one(self, sample: EditSample) -> RewardResult:
        task = self._task_of(sample)
        if isinstance(sample.truth, Scene):
            worth = utility(task, sample.truth)
        else:
            worth = pixel_utility(task, load_image(sample.edited))
        return RewardResult.of(worth / 10 if self.scale == "unit" else worth)


def keep_mask(sample: EditSample) -> Mask:
    """The pixels that a right sticker edit leaves alone, for `PixelPreservation(mask_of=keep_mask)`."""
    return must_stay(sticker_task(sample.task.id))


@lru_cache(maxsize=4096)
def sticker_task(identity: str) -> StickerTask:
    """The task that an id names, "<split>/<index>[/<kind>][/<multi-step>]": it is a function of it.

    Raises:
        DataError: if the id names none.
    """
    split, _, rest = identity.partition("/")
    index, *more = rest.split("/")
    kinds = {kind.value: kind for kind in EditKind}
    kind = kinds[more.pop(0)] if more and more[0] in kinds else None
    several = {"True": True, "False": False}.get(more.pop(0)) if more else None
    if not split or not index.isdigit() or more:
        raise DataError(f"{identity!r} is no sticker task: its id has the form <split>/<index>")
    task = sample_task(split, int(index), kind, several)
    if task.id != identity:
        raise DataError(f"{identity!r} is no sticker task: the closest is {task.id!r}")
    return task
