"""GEdit-Bench (`stepfun-ai/GEdit-Bench`), MIT: 606 English and as many Chinese instructions in 11 categories.

Finished pictures lie where the official scripts put them, `<images>/fullset/<task>/<language>/<key>.png`, with the
source beside as `<key>_SRCIMG.png`; `<images>` may also be the folder `fullset` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from editr1.errors import DataError, ImageError
from editr1.evaluation.benchmarks.base import Problem, column, text
from editr1.evaluation.benchmarks.editors import (
    BenchmarkTask,
    EditorBenchmark,
    LoadedSamples,
    Sample,
    checked,
    make_edit,
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
    root = Path(images)
    root = root / "fullset" if (root / "fullset").is_dir() else root
    if not root.is_dir():
        raise DataError(f"there is no folder {images}: name the one that holds fullset/<task>/<language>/<key>.png")
    table = open_table(data, HUB)
    loaded = LoadedSamples(table.name, table.revision)
    seen: dict[str, str] = {}
    for row in table.rows():
        loaded.rows += 1
        try:
            if row.data is None:
                raise DataError(row.error)
            sample = _sample(row, root, store)
        except (DataError, ImageError) as exc:
            kind = "picture" if isinstance(exc, ImageError) else "row"
            loaded.problems.append(Problem(row.where, kind, str(exc)))
            continue
        if sample.key in seen:
            why = f"the key {sample.key} was there already, at {seen[sample.key]}"
            loaded.problems.append(Problem(row.where, "duplicate", why))
            continue
        seen[sample.key] = row.where
        loaded.samples.append(sample)
    return checked(loaded, "GEdit-Bench", images)


def tasks(data: str, store: PictureStore) -> Iterator[BenchmarkTask | Problem]:
    """The tasks in `data` for an editor; finished pictures go where `load` looks for them.

    Raises:
        DataError: if there are none.
    """
    for row in open_table(data, HUB).rows():
        try:
            if row.data is None:
                raise DataError(row.error)
            key, task, language = _names(row)
            source = store.take(column(row, "input_image"), row.root, "input_image")
            place = f"fullset/{task}/{language}/{key}"
            yield BenchmarkTask(f"{task}/{language}/{key}", source, text(row, "instruction"), place, f"{place}_SRCIMG")
        except (DataError, ImageError) as exc:
            yield Problem(row.where, "picture" if isinstance(exc, ImageError) else "row", str(exc))


def _names(row: Row) -> tuple[str, str, str]:
    """Key, task and language of a row."""
    key, task, language = text(row, "key"), text(row, "task_type"), text(row, "instruction_language")
    for name, value, known in (("task_type", task, list(EditKind)), ("instruction_language", language, LANGUAGES)):
        if value not in known:
            raise DataError(f"the column {name} holds {value!r}, which is none of {', '.join(known)}")
    if Path(key).name != key:
        raise DataError(f"the column key holds {key!r}, which is no name of a file")
    return key, task, language


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
)
