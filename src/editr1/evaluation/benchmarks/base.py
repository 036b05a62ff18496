"""What a benchmark of reward models is: how its rows become pairs, and how the results become its official figures."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from editr1.errors import DataError, Editr1Error, ImageError
from editr1.evaluation.benchmarks.pictures import PictureStore, StoredPicture
from editr1.evaluation.benchmarks.tables import HubSource, Row, Table, open_table
from editr1.evaluation.bootstrap import Estimate
from editr1.evaluation.metrics import Choice, PairResult
from editr1.evaluation.published import Published
from editr1.types import Principle

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two edits of one context, and which one people preferred.

    Attributes:
        id: unique in the benchmark.
        label: what people said; `first` and `second` are as published, so judges must not be shown them in this order.
        task: kind of edit, in the benchmark's own words; empty if it has none.
        dimension: what the preference is about.
        group: pairs of one group are right only together.
        principles: what to check, if the data says.
        where: the row it came from.
    """

    id: str
    source: StoredPicture
    instruction: str
    first: StoredPicture
    second: StoredPicture
    label: Choice
    task: str = ""
    dimension: str = "overall"
    group: str = ""
    principles: tuple[Principle, ...] | None = None
    where: str = ""

    @property
    def content(self) -> str:
        """16 hex digits over what a judge of two edits is given: it is judged anew where this is another."""
        parts = (self.source.digest, self.first.digest, self.second.digest, self.instruction, self.dimension)
        return hashlib.sha256("\x00".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a data set that was left out, in half a sentence.

    `kind` is "row" (cannot be read), "picture", "duplicate", "contradiction" or "unsupported".
    """

    where: str
    kind: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


class Unsupported(Editr1Error, ValueError):
    """A row that is sound, but that no judge here can be asked about."""


def attempt(where: str, make: Callable[[], T]) -> T | Problem:
    """What a row makes, or the problem with it."""
    try:
        return make()
    except ImageError as exc:
        return Problem(where, "picture", str(exc))
    except Unsupported as exc:
        return Problem(where, "unsupported", str(exc))
    except DataError as exc:
        return Problem(where, "row", str(exc))


Figures = dict[str, Estimate]
ReadRow = Callable[[Row, PictureStore], Pair]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A published set of pairs with its protocol.

    Attributes:
        name: as on the command line; `title`: for people, owner included.
        licence: of the data; `commercial` is false where it forbids commercial use.
        hub: where it is published.
        read: makes a pair of a row; raises DataError, ImageError or Unsupported.
        official: the figures of the official protocol, by name.
        published: others' figures, by the names that `official` uses.
        protocol: the official protocol in a sentence or two.
        tasks: how many there are, where the official figure is a mean over tasks.
        under: of a local folder, which files to take if there are several sets in it.
        rows: opens the table, where it is not one of rows.
    """

    name: str
    title: str
    licence: str
    commercial: bool
    read: ReadRow
    official: Callable[[Sequence[PairResult]], Figures]
    protocol: str
    hub: HubSource | None = None
    published: tuple[Published, ...] = ()
    tasks: int = 0
    under: str = ""
    rows: Callable[[str], tuple[Table, Iterable[Row]]] | None = None

    def open(self, data: str) -> tuple[Table, Iterable[Row]]:
        """The table and its rows.

        Raises:
            DataError: if there is none.
        """
        if self.rows is not None:
            return self.rows(data)
        table = open_table(data, self.hub, self.under)
        return table, table.rows()


@dataclass(slots=True)
class Loaded:
    """What came out of a data set.

    Attributes:
        pairs: that can be judged.
        problems: what was left out, one entry a row.
        rows: how many rows there were.
        table: what was read.
    """

    table: Table
    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rows: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Problems by kind."""
        return dict(sorted(Counter(p.kind for p in self.problems).items()))

    @property
    def hash(self) -> str:
        """16 hex digits over everything that is judged and measured: ids, pictures, words, principles, labels."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            parts = (pair.id, pair.source.digest, pair.first.digest, pair.second.digest, pair.instruction, pair.label)
            asked = json.dumps([p.to_dict() for p in pair.principles or ()])
            whole = (*parts, pair.task, pair.dimension, pair.group, asked)
            digest.update("\x00".join(whole).encode("utf-8", "replace"))
        return digest.hexdigest()[:16]


def load_pairs(benchmark: Benchmark, data: str, store: PictureStore, limit: int | None = None) -> Loaded:
    """Read a data set. Rows that cannot be used are listed and the rest goes on.

    A row that says again what a former one with its id said is left out; if the two contradict each other, both are.

    Args:
        benchmark: whose rows these are.
        data: a file, a folder, or an id on the hub.
        store: for the pictures.
        limit: only the first so many rows.

    Raises:
        DataError: if there is no data, or no row of it can be used; the message gives the first row's trouble.
        MissingExtraError: for hub data without `datasets`.
    """
    table, rows = benchmark.open(data)
    loaded = Loaded(table)
    found: dict[str, Pair] = {}
    contradicted: set[str] = set()
    for row in islice(rows, limit):
        loaded.rows += 1
        pair = attempt(row.where, partial(_read, benchmark, row, store))
        if isinstance(pair, Problem):
            loaded.problems.append(pair)
            continue
        former = found.setdefault(pair.id, pair)
        if former is pair:
            continue
        if _content(former) == _content(pair):
            why = f"the key {pair.id} was there already, at {former.where}"
            loaded.problems.append(Problem(row.where, "duplicate", why))
        else:
            contradicted.add(pair.id)
            why = f"the key {pair.id} says otherwise at {former.where}: neither is used"
            loaded.problems.append(Problem(row.where, "contradiction", why))
    loaded.pairs = [pair for key, pair in found.items() if key not in contradicted]
    if not loaded.pairs:
        first = f"; the first of {len(loaded.problems)}: {loaded.problems[0]}" if loaded.problems else ""
        raise DataError(f"{data} holds no pair of {benchmark.title} that can be used{first}")
    return loaded


def _read(benchmark: Benchmark, row: Row, store: PictureStore) -> Pair:
    if row.data is None:
        raise DataError(row.error)
    return benchmark.read(row, store)


def _content(pair: Pair) -> tuple[Any, ...]:
    """What a row says, the two edits in an order that does not depend on how they were listed."""
    edits, label = (pair.first.digest, pair.second.digest), pair.label
    if edits[0] > edits[1]:
        edits, label = (edits[1], edits[0]), label.swapped
    return (pair.source.digest, pair.instruction, edits, label, pair.task, pair.dimension)


def column(row: Row, name: str) -> Any:
    """A column that must be there.

    Raises:
        DataError: if it is not; the message says which ones are, or why the row cannot be read.
    """
    if row.data is None:
        raise DataError(row.error)
    if name in row.data:
        return row.data[name]
    raise DataError(f"the column {name} is missing; there are {', '.join(map(str, row.data)) or 'none'}")


def text(row: Row, name: str) -> str:
    """A column that must hold text.

    Raises:
        DataError: if it does not.
    """
    value = column(row, name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"the column {name} must hold text, got {value!r}")
    return value.encode("utf-8", "replace").decode("utf-8")  # without halves of surrogate pairs, which no file holds


def one_of(row: Row, name: str, known: Collection[str]) -> str:
    """A column that must hold one of several names.

    Raises:
        DataError: if it holds another.
    """
    value = text(row, name)
    if value not in known:
        raise DataError(f"the column {name} holds {value!r}, which is none of {', '.join(known)}")
    return value


def choice(row: Row, name: str, meanings: Mapping[str, Choice]) -> Choice:
    """A column that must hold one of several words.

    Raises:
        DataError: if it holds another.
    """
    value = str(column(row, name)).strip()
    if value not in meanings:
        raise DataError(f"the column {name} holds {value!r}, which is none of {', '.join(meanings)}")
    return meanings[value]


def present(estimates: Iterable[tuple[str, Estimate | None]]) -> Figures:
    """The figures that could be computed."""
    return {name: estimate for name, estimate in estimates if estimate is not None}


def by_dimension(results: Sequence[PairResult]) -> Iterator[tuple[str, list[PairResult]]]:
    """The results of each dimension, in order of first appearance."""
    for name in dict.fromkeys(r.dimension for r in results):
        yield name, [r for r in results if r.dimension == name]
