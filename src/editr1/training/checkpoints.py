"""What transformers' Trainer saved, moved to where a run directory has it."""

from __future__ import annotations

import shutil
from pathlib import Path

from editr1.rundir import RunDir

UNREAD = {"training_args.bin"}
"""A pickle of the settings that nothing reads: the recipe stands in the run directory."""


def adopt_checkpoint(run: RunDir, written: Path, step: int, keep: int | None) -> None:
    """Move a checkpoint into a run directory; `latest` is written last.

    Args:
        run: the run directory.
        written: folder that the trainer wrote; it is gone afterwards.
        step: of training, when it was written.
        keep: how many checkpoints stay, the newest; None for all.
    """

    def take(folder: Path) -> None:
        for item in sorted(written.iterdir()):
            if item.name not in UNREAD:
                item.rename(folder / item.name)

    run.save_checkpoint(step, take)
    shutil.rmtree(written)
    if keep is not None:
        for old in sorted(run.checkpoints.glob("step-*"))[:-keep]:
            shutil.rmtree(old)
