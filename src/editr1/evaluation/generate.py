"""Pictures of an editor for a benchmark's tasks, in the official layout: fixed seeds, no work twice, many processes.

<folder>/generation.json    what the pictures were made with
<folder>/<place>.png        each finished picture, written at once
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from editr1.errors import ConfigError, ImageError
from editr1.evaluation.benchmarks.editors import BenchmarkTask
from editr1.files import write_atomic, write_json
from editr1.images import load_image
from editr1.judges.files import model_digest
from editr1.types import EditTask

if TYPE_CHECKING:
    from editr1.editors import PipelineEditor

SETTINGS_FILE = "generation.json"


@dataclass
class Generated:
    """What became of the pictures asked for.

    Attributes:
        made: by this process, now; `before`: found finished.
        failures: a sentence for each task whose source cannot be read.
    """

    made: int = 0
    before: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EditorSettings:
    """What pictures depend on, beside the tasks; a folder of pictures is bound to it.

    Attributes:
        model, lora: folders or hub ids.
        steps: of the sampler; the editor's own number if None.
        seed: of the whole.
        tasks: whose pictures they are, where places in the folder do not say so by themselves.
    """

    model: str
    lora: str | None = None
    steps: int | None = None
    seed: int = 0
    tasks: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All fields, with a hash of the weights that are here: a model may be trained anew in its place.

        Raises:
            ModelError: if an editor or LoRA that ships is meant, and is not there.
        """
        from editr1.editors.names import resolve_editor, resolve_lora

        weights = [model_digest(resolve_editor(self.model))]
        if self.lora is not None:
            weights.append(model_digest(resolve_lora(self.lora)))
        data = {"editor": self.model, "lora": self.lora, "weights": weights, "steps": self.steps, "seed": self.seed}
        return data | ({"tasks": self.tasks} if self.tasks else {})


def generate(
    tasks: Sequence[BenchmarkTask],
    folder: str | Path,
    settings: EditorSettings,
    load: Callable[[], PipelineEditor],
    *,
    batch_size: int = 4,
    share: tuple[int, int] = (0, 1),
    advance: Callable[[int], None] = lambda number: None,
) -> Generated:
    """Make the pictures that a folder lacks.

    Each task has a noise seed of its own, a function of the seed and its key. But for the rounding of kernels, a
    picture does not depend on its batch, on the number of processes, or on what was made before.

    Args:
        tasks: all of them, in every process alike.
        folder: of the pictures.
        settings: what they depend on.
        load: makes the editor; not called if nothing is missing.
        batch_size: pictures made together.
        share: number of this process, and how many there are; each takes every so-many-th task.
        advance: told how many more of this process's tasks are done.

    Raises:
        ConfigError: if the folder holds pictures that were made with other settings.
    """
    folder = Path(folder)
    _bind(folder, settings.to_dict())
    found = Generated()
    mine = [task for number, task in enumerate(tasks) if number % share[1] == share[0]]
    missing = [task for task in mine if not _finished(folder, task)]
    found.before = len(mine) - len(missing)
    advance(found.before)
    editor = load() if missing else None
    for start in range(0, len(missing), batch_size):
        assert editor is not None
        _make(missing[start : start + batch_size], folder, editor, settings, batch_size, found)
        advance(len(missing[start : start + batch_size]))
    return found


def noise_seed(key: str, seed: int) -> int:
    """The seed of a task's noise, in [0, 2^31)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode("utf-8", "replace")).digest()[:4], "big") >> 1


def read_generation(folder: str | Path) -> dict[str, Any] | None:
    """What the pictures of a folder were made with, for the manifest; None if it does not say."""
    path = Path(folder) / SETTINGS_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _bind(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what the pictures of a folder are made with, or refuse to mix two kinds.

    Raises:
        ConfigError: if the folder holds pictures that were made with other settings.
    """
    former = read_generation(folder)
    if former is None:
        write_json(folder / SETTINGS_FILE, settings)
        return
    different = [key for key in {**former, **settings} if former.get(key) != settings.get(key)]
    if different:
        raise ConfigError(
            f"the pictures in {folder} were made with another {', '.join(different)} (see {SETTINGS_FILE}): name "
            "another folder"
        )


def _finished(folder: Path, task: BenchmarkTask) -> bool:
    """Whether picture and, where the layout wants it, source are there; the picture is written last."""
    return (folder / f"{task.place}.png").is_file()


def _make(
    tasks: Sequence[BenchmarkTask],
    folder: Path,
    editor: PipelineEditor,
    settings: EditorSettings,
    batch_size: int,
    found: Generated,
) -> None:
    """A batch of pictures."""
    from editr1.editors import sample_images

    contexts, encoded = [], []
    for task in tasks:
        try:
            contexts += editor.encode([EditTask(task.key, task.source.path, task.instruction)])
        except ImageError as exc:
            found.failures.append(f"{task.key}: {exc}")
        else:
            encoded.append(task)
    seeds = [noise_seed(task.key, settings.seed) for task in encoded]
    images = sample_images(editor, contexts, seeds, settings.steps, batch_size=batch_size)
    for task, image in zip(encoded, images, strict=True):
        if task.source_place:
            # as the editor saw it: upright, on white, in 8 bits
            write_atomic(folder / f"{task.source_place}.png", _png(load_image(task.source.path)))
        write_atomic(folder / f"{task.place}.png", _png(image))
        found.made += 1


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
