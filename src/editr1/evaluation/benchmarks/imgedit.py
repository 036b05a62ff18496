"""ImgEdit-Bench, basic suite, by PKU-YuanGroup. The licence of its data is unclear to us: read its card before use.

`basic_edit.json` maps 737 keys to {id, prompt, edit_type}; `id` is the source's path relative to the file. Finished
pictures lie at `<images>/<key>.png`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from editr1.errors import DataError
from editr1.evaluation.benchmarks.base import Problem, attempt
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

_FILE = "basic_edit.json"
_KEYS = ("id", "prompt", "edit_type")


def load(data: str, images: str, store: PictureStore) -> LoadedSamples:
    """The tasks in `data`, the JSON file or its folder, each with its picture in `images`; what is missing is listed.

    Raises:
        DataError: if there are no tasks, or no pictures.
    """
    path, root = _file(data), picture_folder(images, "<key>.png")
    loaded = LoadedSamples(str(path))
    for key, given in _read(path).items():
        where = f"{path.name}:{key}"
        loaded.add(where, partial(_sample, key, given, path.parent, root, store, where))
    return checked(loaded, "ImgEdit-Bench", images)


def tasks(data: str, store: PictureStore) -> Iterator[BenchmarkTask | Problem]:
    """The tasks in `data` for an editor; finished pictures go to `<images>/<key>.png`.

    Raises:
        DataError: if there are none.
    """
    path = _file(data)
    for key, given in _read(path).items():
        yield attempt(f"{path.name}:{key}", partial(_task, key, given, path.parent, store))


def _file(data: str) -> Path:
    path = Path(data).expanduser()
    return path / _FILE if path.is_dir() else path


def _read(path: Path) -> Mapping[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) < len(pairs):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise DataError(f"{path} has keys twice: {', '.join(twice[:5])}")
        return data

    try:
        tasks = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except OSError as exc:
        raise DataError(f"cannot read {path}: {exc.strerror}; name {_FILE} or its folder") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"{path} is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise DataError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(tasks, dict) or not tasks:
        raise DataError(f"{path} must map keys to {{{', '.join(_KEYS)}}}, got {type(tasks).__name__}")
    return tasks


def _checked_task(task: Any) -> Mapping[str, str]:
    if not isinstance(task, Mapping):
        raise DataError(f"a task must be an object with {', '.join(_KEYS)}")
    wrong = [name for name in _KEYS if not isinstance(task.get(name), str) or not task[name].strip()]
    if wrong:
        raise DataError(f"{' and '.join(wrong)} must hold text; there are {', '.join(map(str, task))}")
    return task


def _task(key: str, given: Any, root: Path, store: PictureStore) -> BenchmarkTask:
    task = _checked_task(given)
    if Path(key).name != key:
        raise DataError(f"the key {key!r} is no name of a file")
    return BenchmarkTask(key, store.take(task["id"], root, "id"), task["prompt"], key)


def _sample(key: str, given: Any, root: Path, images: Path, store: PictureStore, where: str) -> Sample:
    task = _checked_task(given)
    source = store.take(task["id"], root, "id")
    kind = task["edit_type"].strip()
    edit = make_edit(source, take_edited(store, images, key), task["prompt"], kind)
    return Sample(key, edit, kind, where=where, size=source.size)


BENCHMARK = EditorBenchmark(
    name="imgedit",
    title="ImgEdit-Bench",
    licence="not stated",
    commercial=True,
    load=load,
    tasks=tasks,
    prompt="imgedit",
    figures={"score": "score"},
    categories=9,
    protocol="three numbers from 1 to 5 by kind of edit, averaged per picture; mean per kind, then over 9 kinds",
)
