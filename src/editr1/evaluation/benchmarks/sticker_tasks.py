"""Tasks of the embedded domain for editors, in all 11 categories; drawn and not read.

What stands behind `--data` is a draw, "<split>[:<number>]". Finished pictures lie at `<images>/<kind>/<index>.png`.
Their truth is read off their pixels (`editr1.evaluation.oracle`), or any judge is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from editr1.evaluation.benchmarks.editors import (
    BenchmarkTask,
    EditorBenchmark,
    LoadedSamples,
    Sample,
    checked,
    make_edit,
    picture_folder,
    take_edited,
)
from editr1.evaluation.benchmarks.pictures import PictureStore
from editr1.evaluation.benchmarks.sticker_draws import Draw, png
from editr1.stickers.tasks import StickerTask, sample_task
from editr1.types import EditKind

NUMBER = 330


def load(data: str, images: str, store: PictureStore) -> LoadedSamples:
    """The tasks of a draw, each with its picture in `images`; what is missing is listed.

    Raises:
        DataError: if `data` is no draw, or there are no pictures.
    """
    drawn, root = Draw.parse(data, NUMBER), picture_folder(images, "<kind>/<index>.png")
    loaded = LoadedSamples(f"{drawn.split}:{drawn.number}")
    for index in range(drawn.number):
        task = sample_task(drawn.split, index)
        loaded.add(task.id, partial(_sample, task, index, root, store))
    return checked(loaded, "sticker tasks", images)


def tasks(data: str, store: PictureStore) -> Iterator[BenchmarkTask]:
    """The tasks of a draw for an editor."""
    drawn = Draw.parse(data, NUMBER)
    for index in range(drawn.number):
        task = sample_task(drawn.split, index)
        source = store.take(png(task.before), Path(), "source")
        yield BenchmarkTask(task.id, source, task.instruction, f"{task.kind.value}/{index}")


def _sample(task: StickerTask, index: int, root: Path, store: PictureStore) -> Sample:
    source = store.take(png(task.before), Path(), "source")
    edited = take_edited(store, root / task.kind.value, str(index))
    edit = make_edit(source, edited, task.instruction, task.kind.value, task.principles)
    return Sample(task.id, edit, task.kind.value, where=task.id, size=source.size)


BENCHMARK = EditorBenchmark(
    name="stickers",
    title="sticker tasks",
    licence="openly licensed",
    commercial=True,
    load=load,
    tasks=tasks,
    prompt="oracle",
    figures={name: name for name in ("followed", "kept", "stayed", "unchanged", "SC", "PQ", "score")},
    sometimes=frozenset({"stayed"}),
    categories=len(EditKind),
    draw=lambda data: f"draw {Draw.parse(data, NUMBER).split}",
    protocol="by the oracle, off the pixels: how far the steps were followed, how much was left as it was and sound, "
    "10 times the share of the pixels that had to stay which did, 10 for an edit that is none, and the utility of the "
    "whole; mean per category, then over 11 categories",
)
