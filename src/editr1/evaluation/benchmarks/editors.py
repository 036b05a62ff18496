"""What a benchmark of editors is: how its tasks and the finished pictures become edits, and how they are summed up."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from editr1.errors import DataError
from editr1.evaluation.benchmarks.base import Problem, attempt
from editr1.evaluation.benchmarks.pictures import PictureStore, StoredPicture
from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.judgements import Edit, Judgement
from editr1.evaluation.metrics import macro_mean, mean
from editr1.evaluation.published import Published
from editr1.types import Principle


@dataclass(frozen=True, slots=True)
class Sample:
    """A finished picture of a benchmark's task.

    Attributes:
        key: unique in the benchmark.
        category: that means are taken over first.
        language: of the instruction.
        intersection: whether it belongs to the benchmark's smaller subset.
    """

    key: str
    edit: Edit
    category: str
    language: str = ""
    intersection: bool = True
    where: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class LoadedSamples:
    """What came of a benchmark's tasks and a folder of pictures."""

    name: str
    revision: str | None = None
    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rows: int = 0
    _first: dict[str, Sample] = field(default_factory=dict, init=False, repr=False)  # by key, contradicted ones too

    def add(self, where: str, make: Callable[[], Sample]) -> None:
        """Count a row, and keep the sample that it makes.

        A row that makes none is a problem; so is one that says again what a former one with its key said, and if the
        two contradict each other, neither is kept.
        """
        self.rows += 1
        found = attempt(where, make)
        if isinstance(found, Problem):
            self.problems.append(found)
            return
        former = self._first.setdefault(found.key, found)
        if former is found:
            self.samples.append(found)
        elif replace(former, where="") == replace(found, where=""):
            why = f"the key {found.key} was there already, at {former.where}"
            self.problems.append(Problem(where, "duplicate", why))
        else:
            self.samples = [sample for sample in self.samples if sample.key != found.key]
            why = f"the key {found.key} says otherwise at {former.where}: neither is used"
            self.problems.append(Problem(where, "contradiction", why))

    @property
    def counts(self) -> dict[str, int]:
        """Problems by kind."""
        return dict(sorted(Counter(p.kind for p in self.problems).items()))

    @property
    def hash(self) -> str:
        """16 hex digits over the tasks: keys, categories, instructions, principles, not what an editor made of them."""
        digest = hashlib.sha256()
        for sample in sorted(self.samples, key=lambda s: s.key):
            asked = json.dumps([p.to_dict() for p in sample.edit.principles or ()])
            parts = (sample.key, sample.category, sample.edit.context, str(sample.intersection), asked)
            digest.update("\x00".join(parts).encode("utf-8", "replace"))
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """A task that an editor is given.

    Attributes:
        key: unique in the benchmark.
        place: of the finished picture below the folder of pictures, without its suffix, in the official layout.
        source_place: likewise where the layout wants the source beside; empty where it does not.
    """

    key: str
    source: StoredPicture
    instruction: str
    place: str
    source_place: str = ""


def unique_tasks(rows: Iterable[BenchmarkTask | Problem]) -> list[BenchmarkTask]:
    """The tasks, each once; those of which two rows say different things are left out, as `LoadedSamples.add` does."""
    first: dict[str, BenchmarkTask] = {}
    contradicted: set[str] = set()
    for task in rows:
        if isinstance(task, Problem):
            continue
        former = first.setdefault(task.key, task)
        if (former.source.digest, former.instruction) != (task.source.digest, task.instruction):
            contradicted.add(task.key)
    return [task for key, task in first.items() if key not in contradicted]


LoadSamples = Callable[[str, str, PictureStore], LoadedSamples]
ReadTasks = Callable[[str, PictureStore], Iterable[BenchmarkTask | Problem]]


@dataclass(frozen=True, slots=True)
class EditorBenchmark:
    """Tasks for editors with their protocol.

    Attributes:
        load: the tasks with the pictures of a folder in the official layout.
        tasks: the tasks alone, for an editor; rows that cannot be used come as problems in their place.
        draw: of `--data`, what pictures are of, where their places in the folder do not tell; else empty.
        prompt: the rating prompt of the official protocol, in our words; "oracle" where the truth is known.
        figures: what is reported, name -> the judgement's part; a judge that lacks a part lacks the figure.
        sometimes: those figures that not every task has; their means are over the tasks that do.
        categories: how many there are.
        published_table: the subset that the published figures are of.
    """

    name: str
    title: str
    licence: str
    commercial: bool
    load: LoadSamples
    tasks: ReadTasks
    prompt: str
    figures: Mapping[str, str]
    categories: int
    protocol: str
    published: tuple[Published, ...] = ()
    sometimes: frozenset[str] = frozenset()
    published_table: str = ""
    draw: Callable[[str], str] = lambda data: ""


def make_edit(
    source: StoredPicture,
    edited: StoredPicture,
    instruction: str,
    kind: str = "",
    principles: tuple[Principle, ...] | None = None,
) -> Edit:
    """An edit that is identified by all that a judge is given; equal source and instruction make one context."""
    asked = (json.dumps([p.to_dict() for p in principles]),) if principles else ()
    context = _hash(source.digest, instruction)
    return Edit(
        id=_hash(source.digest, edited.digest, instruction, kind, *asked),
        source=source.path,
        edited=edited.path,
        instruction=instruction,
        kind=kind,
        principles=principles,
        context=context,
    )


@dataclass(frozen=True, slots=True)
class CategoryTable:
    """Figures of one language and subset.

    Attributes:
        macro: by figure, the mean of the categories' means.
        categories: by category and figure; a category without a task that has a figure lacks it.
        judged, failed: numbers of pictures.
        expected: how many categories the benchmark has; with fewer, the means are not its official figures.
    """

    macro: dict[str, Estimate]
    categories: dict[str, dict[str, Estimate]]
    judged: int
    failed: int
    expected: int

    @property
    def complete(self) -> bool:
        """Whether every category is there."""
        return len(self.categories) >= self.expected

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "macro": {name: e.to_dict() for name, e in self.macro.items()},
            "categories": {c: {n: e.to_dict() for n, e in row.items()} for c, row in self.categories.items()},
            "judged": self.judged,
            "failed": self.failed,
            "complete": self.complete,
        }


def summarise(
    benchmark: EditorBenchmark,
    samples: Sequence[Sample],
    judgements: Mapping[str, Judgement],
    seed: int = 0,
    bounds: tuple[float, float] | None = None,
) -> dict[str, CategoryTable]:
    """Tables by "<language> <subset>", e.g. "en full"; pictures without a score are counted and left out.

    Args:
        benchmark: whose figures these are.
        samples: the pictures.
        judgements: by id of an edit.
        seed: of the bootstrap.
        bounds: range of the judge's numbers, see `bootstrap`.
    """
    tables = {}
    for name, chosen in _subsets(samples):
        good, failed = [], 0
        for sample in chosen:
            judgement = judgements.get(sample.edit.id)
            if judgement is None or judgement.score is None:
                failed += 1
            else:
                good.append((sample, judgement))
        if not good:
            continue
        rows: dict[str, dict[str, Estimate]] = {c: {} for c in sorted({s.category for s, _ in good})}
        macro = {}
        for figure, part in benchmark.figures.items():
            having = [(s.category, _value(j, part)) for s, j in good if _has(j, part)]
            if not having or (len(having) < len(good) and figure not in benchmark.sometimes):
                continue
            names, values = zip(*having, strict=True)
            macro[figure] = macro_mean(values, names, seed, bounds=bounds)
            for category in dict.fromkeys(names):
                of = [value for name, value in having if name == category]
                rows[category][figure] = mean(of, seed, bounds=bounds)
        tables[name] = CategoryTable(macro, rows, len(good), failed, benchmark.categories)
    return tables


def figures_of(judgement: Judgement, benchmark: EditorBenchmark) -> dict[str, float]:
    """A benchmark's figures of one picture; without those whose parts the judge did not give, empty without a score."""
    if judgement.score is None:
        return {}
    return {name: _value(judgement, part) for name, part in benchmark.figures.items() if _has(judgement, part)}


def subset_name(language: str, intersection: bool) -> str:
    """As tables are called, e.g. "en full"."""
    return f"{language} {'intersection' if intersection else 'full'}".strip()


def in_subset(name: str, language: str, intersection: bool) -> bool:
    """Whether a task belongs to the subset of that name."""
    return name == subset_name(language, False) or (intersection and name == subset_name(language, True))


def _subsets(samples: Sequence[Sample]) -> Iterator[tuple[str, list[Sample]]]:
    for language in dict.fromkeys(s.language for s in samples):
        spoken = [s for s in samples if s.language == language]
        yield subset_name(language, False), spoken
        common = [s for s in spoken if s.intersection]
        if len(common) < len(spoken):
            yield subset_name(language, True), common


def _has(judgement: Judgement, part: str) -> bool:
    return part == "score" or part in judgement.parts


def _value(judgement: Judgement, part: str) -> float:
    value = judgement.score if part == "score" else judgement.parts[part]
    assert value is not None
    return value


def picture_folder(images: str, layout: str) -> Path:
    """The folder of an editor's finished pictures.

    Args:
        images: where it is said to be.
        layout: how pictures lie in it, for the message.

    Raises:
        DataError: if there is none.
    """
    if not Path(images).is_dir():
        raise DataError(f"there is no folder {images}: name the one that holds {layout}")
    return Path(images)


def take_edited(store: PictureStore, folder: Path, stem: str) -> StoredPicture:
    """The finished picture `stem` in a folder, whatever its format.

    Raises:
        ImageError: if there is none, or it is no picture.
    """
    for suffix in (".png", ".jpg", ".jpeg", ".webp"):
        if (folder / f"{stem}{suffix}").is_file():
            return store.take(f"{stem}{suffix}", folder, "edited")
    return store.take(f"{stem}.png", folder, "edited")


def checked(loaded: LoadedSamples, title: str, images: str) -> LoadedSamples:
    """The loaded samples, if there are any.

    Raises:
        DataError: if there are none.
    """
    if not loaded.samples:
        first = f"; the first of {len(loaded.problems)}: {loaded.problems[0]}" if loaded.problems else ""
        raise DataError(f"{images} holds no picture for a task of {title}{first}")
    return loaded


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "replace")).hexdigest()[:16]
