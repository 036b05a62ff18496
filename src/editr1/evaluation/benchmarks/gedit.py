"""GEdit-Bench (`stepfun-ai/GEdit-Bench`), MIT: 606 English and as many Chinese instructions in 11 categories.

Finished pictures lie where the official scripts put them, `<images>/fullset/<task>/<language>/<key>.png`, with the
source beside as `<key>_SRCIMG.png`; `<images>` may also be the folder `fullset` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from editr1.errors import DataError
from editr1.evaluation.benchmarks.base import Problem, attempt, column, one_of, text
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
from editr1.evaluation.benchmarks.pictures import PictureStore, StoredPicture
from editr1.evaluation.benchmarks.tables import HubSource, Row, open_table
from editr1.evaluation.published import published
from editr1.types import EditKind

HUB = HubSource("stepfun-ai/GEdit-Bench", split="train")
LANGUAGES = ("en", "cn")


def load(data: str, images: str, store: PictureStore) -> LoadedSamples:
    """The tasks in `data`, each with its picture in `images`; what is missing is listed.

    Raises:
        DataError: if there are no tasks, or no pictures.
    """
    root = picture_folder(images, "fullset/<task>/<language>/<key>.png")
    root = root / "fullset" if (root / "fullset").is_dir() else root
    table = open_table(data, HUB)
    loaded = LoadedSamples(table.name, table.revision)
    for row in table.rows():
        loaded.add(row.where, partial(_sample, row, root, store))
    return checked(loaded, "GEdit-Bench", images)


def tasks(data: str, store: PictureStore) -> Iterator[BenchmarkTask | Problem]:
    """The tasks in `data` for an editor; finished pictures go where `load` looks for them.

    Raises:
        DataError: if there are none.
    """
    for row in open_table(data, HUB).rows():
        yield attempt(row.where, partial(_task, row, store))


def _names(row: Row) -> tuple[str, str, str]:
    """Key, task and language of a row."""
    key, task = text(row, "key"), one_of(row, "task_type", list(EditKind))
    language = one_of(row, "instruction_language", LANGUAGES)
    if Path(key).name != key:
        raise DataError(f"the column key holds {key!r}, which is no name of a file")
    return key, task, language


def _task(row: Row, store: PictureStore) -> BenchmarkTask:
    key, task, language = _names(row)
    source = store.take(column(row, "input_image"), row.root, "input_image")
    place = f"fullset/{task}/{language}/{key}"
    return BenchmarkTask(f"{task}/{language}/{key}", source, text(row, "instruction"), place, f"{place}_SRCIMG")


def _sample(row: Row, root: Path, store: PictureStore) -> Sample:
    key, task, language = _names(row)
    folder = root / task / language
    source = _source(row, folder, key, store)
    edit = make_edit(source, take_edited(store, folder, key), text(row, "instruction"))
    return Sample(
        key=f"{task}/{language}/{key}",
        edit=edit,
        category=task,
        language=language,
        intersection=bool(column(row, "Intersection_exist")),
        where=row.where,
        size=source.size,
    )


def _source(row: Row, folder: Path, key: str, store: PictureStore) -> StoredPicture:
    """The picture that the editor was given, as it saved it; else the one in the row."""
    saved = folder / f"{key}_SRCIMG.png"
    if saved.is_file():
        return store.take(saved.name, folder, "source")
    return store.take(column(row, "input_image"), row.root, "input_image")


BENCHMARK = EditorBenchmark(
    name="gedit",
    title="GEdit-Bench",
    licence="MIT",
    commercial=True,
    load=load,
    tasks=tasks,
    prompt="scpq",
    figures={"SC": "SC", "PQ": "PQ", "O": "score"},
    categories=len(EditKind),
    protocol="edited resized to the source's size; SC and PQ each the smaller of two numbers from 0 to 10, O = "
    "sqrt(SC * PQ) per picture; mean per category, then over 11 categories; full set and intersection, en and cn",
    published=published("gedit"),
    published_table="en full",
)
