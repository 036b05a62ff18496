"""EditScore/EditReward-Bench ("EditRewardBench"), Apache-2.0. Not to be confused with TIGER-Lab's of the same name.

About 944 pairs on prompt following, 890 on consistency and as many overall, in 13 tasks. Index 0 of `output_images` is
the preferred picture, so a pairwise judge must never see the two in the published order.
"""

from __future__ import annotations

from collections.abc import Sequence

from editr1.errors import DataError
from editr1.evaluation.benchmarks.base import (
    Benchmark,
    Figures,
    Pair,
    by_dimension,
    column,
    one_of,
    present,
    text,
)
from editr1.evaluation.benchmarks.pictures import PictureStore
from editr1.evaluation.benchmarks.tables import HubSource, Row
from editr1.evaluation.metrics import Choice, PairResult, accuracy
from editr1.evaluation.published import published

TASKS = (
    *("subject-add", "subject-remove", "subject-replace"),
    *("color_alter", "material_alter", "style_change", "tone_transfer"),
    *("background_change", "extract"),
    *("ps_human", "text_change", "motion_change", "compose"),
)
DIMENSIONS = ("prompt_following", "consistency", "overall")


def read(row: Row, store: PictureStore) -> Pair:
    """A row: `key` [id, id], `instruction`, `input_image`, `output_images` [2], `task_type`, `dimension`."""
    keys, outputs = column(row, "key"), column(row, "output_images")
    if not isinstance(outputs, Sequence) or isinstance(outputs, str | bytes) or len(outputs) != 2:
        raise DataError(f"output_images must hold two pictures, got {type(outputs).__name__} of {_length(outputs)}")
    if not isinstance(keys, Sequence) or isinstance(keys, str) or len(keys) != 2:
        raise DataError(f"key must hold two ids, got {keys!r}")
    task, dimension = one_of(row, "task_type", TASKS), one_of(row, "dimension", DIMENSIONS)
    preferred, other = (store.take(outputs[i], row.root, f"output_images[{i}]") for i in range(2))
    return Pair(
        id="|".join((*sorted(map(str, keys)), dimension)),
        source=store.take(column(row, "input_image"), row.root, "input_image"),
        instruction=text(row, "instruction"),
        first=preferred,
        second=other,
        label=Choice.FIRST,
        task=task,
        dimension=dimension,
        where=row.where,
    )


def official(results: Sequence[PairResult]) -> Figures:
    """Per dimension, the mean over 13 tasks of each task's strict accuracy: a tie is wrong.

    A dimension in which a task is missing, or has no answered pair, has no official figure.
    """
    found = ((name, accuracy(of)) for name, of in by_dimension(results))
    return present((name, a.macro_strict if a and len(a.tasks) == len(TASKS) else None) for name, a in found)


def _length(value: object) -> str:
    return str(len(value)) if isinstance(value, Sequence | dict) else "no length"


BENCHMARK = Benchmark(
    name="editscore",
    title="EditScore/EditReward-Bench",
    licence="Apache-2.0",
    commercial=True,
    read=read,
    official=official,
    protocol="edited resized to the source's size, each picture scored once, right only if the preferred one scores "
    "strictly higher; mean per task, then over 13 tasks; per dimension",
    hub=HubSource("EditScore/EditReward-Bench", split="train"),
    tasks=len(TASKS),
    published=published("editscore"),
)
