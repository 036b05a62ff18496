"""GEdit-Bench (`stepfun-ai/GEdit-Bench`), MIT: 606 English and as many Chinese instructions in 11 categories.

Finished pictures lie where the official scripts put them, `<images>/fullset/<task>/<language>/<key>.png`, with the
source beside as `<key>_SRCIMG.png`; `<images>` may also be the folder `fullset` itself.
"""

from __future__ import annotations

from pathlib import Path

from editr1.errors import DataError, ImageError
from editr1.evaluation.benchmarks.base import Problem, Published, column, text
from editr1.evaluation.benchmarks.editors import (
    EditorBenchmark,
    LoadedSamples,
    Sample,
    checked,
    make_edit,
    take_edited,
)
from editr1.evaluation.benchmarks.pictures import PictureStore, StoredPicture
from editr1.evaluation.benchmarks.tables import HubSource, Row, open_table
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


def _sample(row: Row, root: Path, store: PictureStore) -> Sample:
    key, task, language = text(row, "key"), text(row, "task_type"), text(row, "instruction_language")
    for name, value, known in (("task_type", task, list(EditKind)), ("instruction_language", language, LANGUAGES)):
        if value not in known:
            raise DataError(f"the column {name} holds {value!r}, which is none of {', '.join(known)}")
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


def _published(name: str, sc: float, pq: float, overall: float) -> Published:
    return Published(name, {"SC": sc, "PQ": pq, "O": overall}, "en full, judged by GPT-4.1")


BENCHMARK = EditorBenchmark(
    name="gedit",
    title="GEdit-Bench",
    licence="MIT",
    commercial=True,
    load=load,
    prompt="scpq",
    figures={"SC": "SC", "PQ": "PQ", "O": "score"},
    categories=len(EditKind),
    protocol="edited resized to the source's size; SC and PQ each the smaller of two numbers from 0 to 10, O = "
    "sqrt(SC * PQ) per picture; mean per category, then over 11 categories; full set and intersection, en and cn",
    published=(
        _published("FLUX.1-Kontext", 6.27, 7.25, 5.77),
        _published("FLUX.1-Kontext + RL with Seed-1.5-VL", 6.74, 6.44, 6.03),
        _published("FLUX.1-Kontext + RL with SFT-RRM 3B", 6.52, 6.26, 5.63),
        _published("FLUX.1-Kontext + RL with GCPO-RRM 3B", 6.67, 7.09, 6.10),
        _published("FLUX.1-Kontext + RL with SFT-RRM 7B", 6.81, 7.25, 6.20),
        _published("FLUX.1-Kontext + RL with GCPO-RRM 7B", 6.86, 7.20, 6.24),
        _published("Qwen-Image-Edit", 7.94, 7.78, 7.45),
        _published("Qwen-Image-Edit + RL with GCPO-RRM 7B", 7.99, 7.76, 7.50),
    ),
)
