"""Data for fine-tuning a verifier: exported rows on disk, where their chats are, and the order of all steps."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Sampler

from editr1.errors import ConfigError, DataError, ImageError
from editr1.images import prepare_pair
from editr1.training.sft.encode import Encoder, chat_messages
from editr1.verifier.modes import mode_template
from editr1.verifier.template import PromptTemplate, load_template, names

WINDOW = 16
"""Steps whose chats are sorted by length together."""

_COLUMNS = ("id", "source", "edited", "chats")
_FOR_JUDGING = ("context", "instruction", "principles", "gold")


def find_files(data: Sequence[str | Path]) -> tuple[list[Path], list[Path]]:
    """Parquet files to learn from, and held-out ones: those whose names begin with "validation" or "test".

    Args:
        data: run directories of `editr1 curate`, their exports, folders of Parquet, or single files.

    Raises:
        DataError: if something is not there, holds no Parquet, or nothing is left to learn from.
    """
    train: list[Path] = []
    held_out: list[Path] = []
    for entry in data:
        path = Path(entry).expanduser()
        if path.is_file():
            found = [path]
        else:
            folder = next((f for f in (path / "export" / "data", path / "data", path) if f.is_dir()), path)
            found = sorted(folder.glob("*.parquet"))
        if not found:
            raise DataError(
                f"there is no Parquet file at {path}: name an export of `editr1 curate`, a folder or a file"
            )
        for file in found:
            (held_out if file.name.startswith(("validation", "test")) else train).append(file)
    if not train:
        raise DataError(
            f"{', '.join(map(str, data))} holds held-out rows only (files that begin with validation or test)"
        )
    return train, held_out


def open_rows(files: Sequence[Path], *, for_judging: bool = False) -> Any:
    """The rows of some files as a `datasets.Dataset`; pictures stay encoded, and on disk.

    Raises:
        DataError: if a file cannot be read, columns are missing, or files differ in theirs.
    """
    from datasets import Dataset
    from datasets import Image as ImageFeature
    from datasets.exceptions import DatasetGenerationError

    try:
        rows = Dataset.from_parquet([str(f) for f in files])
    except (DatasetGenerationError, OSError, ValueError) as exc:
        reason = " ".join(str(exc.__cause__ or exc).split())[:200]
        raise DataError(f"{_listed(files)} cannot be read as Parquet of one schema ({reason})") from exc
    wanted = _COLUMNS + (_FOR_JUDGING if for_judging else ())
    if missing := [name for name in wanted if name not in rows.column_names]:
        raise DataError(f"{_listed(files)} has no column {', '.join(missing)}: an export of `editr1 curate` has it")
    for name in ("source", "edited"):
        if isinstance(rows.features[name], ImageFeature):
            rows = rows.cast_column(name, ImageFeature(decode=False))
    return rows


def find_template(hashes: Iterable[str], mode: str, named: str | None) -> PromptTemplate:
    """The template whose form in a mode has this hash, so that the model is later asked as it was taught.

    Args:
        hashes: `prompt_hash` of all chats in the mode.
        mode: of the chats.
        named: name or TOML file of the template, for one that does not ship with editr1.

    Raises:
        DataError: if the chats were rendered with several templates.
        ConfigError: if the template is another one, or is not known.
    """
    distinct = sorted(set(hashes))
    if len(distinct) != 1:
        raise DataError(f"the chats were rendered with several templates ({', '.join(distinct)}): train on one of them")
    for base in [load_template(named)] if named else map(load_template, names()):
        try:
            if mode_template(base, mode).hash == distinct[0]:
                return base
        except ConfigError:  # has no words for this mode
            continue
    if named:
        raise ConfigError(f"the template {named!r} is not the one that the chats were rendered with ({distinct[0]})")
    raise ConfigError(
        f"the chats were rendered with a template that does not ship with editr1 ({distinct[0]}): name its TOML "
        f"file in 'template'"
    )


@dataclass(frozen=True, slots=True)
class Chats:
    """The chats of some modes in a data set: rows on disk, and where the chats are.

    Attributes:
        rows: a `datasets.Dataset` with the columns of an export.
        index: a `datasets.Dataset` of {"row", "chat", "length", "answer"}: places, and lengths in tokens.
        prompt_hashes: of the chats in the first mode.
        left_out: chats that are longer than was allowed.
    """

    rows: Any
    index: Any
    prompt_hashes: frozenset[str]
    left_out: int

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each chat with its answer."""
        return list(self.index["length"])

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest answer."""
        return max(self.index["answer"])

    def digest(self) -> str:
        """16 hex digits that change with the chats that are there, and their order and lengths."""
        text = "\n".join(",".join(map(str, place.values())) for place in self.index)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def sorted(self) -> Chats:
        """The same, short chats first."""
        lengths = self.lengths
        return replace(self, index=self.index.select(sorted(range(len(self)), key=lengths.__getitem__)))

    def dataset(self, number: int) -> Any:
        """The places as a trainer takes them; `number` is that of `rows` among those of the `Collator`."""
        return self.index.select_columns(["row", "chat"]).add_column("data", [number] * len(self))


def index_chats(
    rows: Any,
    modes: Sequence[str],
    encoder: Encoder,
    *,
    max_length: int | None = None,
    workers: int = 0,
    first: AbstractContextManager[None],
) -> Chats:
    """Find the chats of the modes and measure them; each process after the first reads what the first one wrote.

    Args:
        rows: from `open_rows`.
        modes: wanted.
        encoder: measures.
        max_length: longer chats are left out.
        workers: processes that measure.
        first: lets the main process go ahead (`PartialState.main_process_first()`).

    Raises:
        DataError: if no chat is in one of the modes, or all are too long.
    """

    def measure(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {"row": [], "chat": [], "length": [], "answer": [], "mode": [], "hash": []}
        for row, chats, source in zip(indices, batch["chats"], batch["source"], strict=True):
            for place, chat in enumerate(chats):
                if chat["mode"] in modes:
                    blank = _blank(_size(source))  # for both: the edited picture is brought to the source's size
                    length, answer = encoder.length(chat_messages(chat, blank, blank), chat["answer"])
                    values = (row, place, length, answer, chat["mode"], chat["prompt_hash"])
                    for column, value in zip(found.values(), values, strict=True):
                        column.append(value)
        return found

    key = f"1:{rows._fingerprint}:{sorted(modes)}:{_processor_digest(encoder.processor)}"
    with first:
        index = rows.select_columns(["chats", "source"]).map(
            measure,
            batched=True,
            batch_size=64,
            with_indices=True,
            num_proc=workers if workers > 1 and len(rows) > 1000 else None,
            remove_columns=["chats", "source"],
            new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:16],
        )
    there = set(index["mode"])
    if missing := [mode for mode in modes if mode not in there]:
        raise DataError(f"no row has a chat in the mode {missing[0]!r}: list it in 'export.modes' of the curation")
    hashes = frozenset(h for h, mode in zip(index["hash"], index["mode"], strict=True) if mode == modes[0])
    lengths = list(index["length"])
    short = [i for i, length in enumerate(lengths) if max_length is None or length <= max_length]
    if not short:
        raise DataError(
            f"all {len(index)} chats are longer than max_length = {max_length}, the shortest {min(lengths)}"
        )
    left_out = len(index) - len(short)
    return Chats(rows, index.select(short) if left_out else index, hashes, left_out)


class Collator:
    """Reads the chats at some places and makes a batch of them.

    Args:
        rows: data sets that `data` of a place counts through.
        encoder: of the model.
    """

    def __init__(self, rows: Sequence[Any], encoder: Encoder) -> None:
        self.rows = list(rows)
        self.encoder = encoder

    def __call__(self, places: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        """A batch, as `Encoder.batch` gives it.

        Raises:
            DataError: if a picture cannot be read.
        """
        messages, answers = [], []
        for place in places:
            row = self.rows[place["data"]][place["row"]]
            chat = row["chats"][place["chat"]]
            try:
                source, edited, _ = prepare_pair(stored_picture(row["source"]), stored_picture(row["edited"]))
            except ImageError as exc:
                raise DataError(f"the row {row['id']!r} has a picture that cannot be used: {exc}") from exc
            messages.append(chat_messages(chat, source, edited))
            answers.append(chat["answer"])
        return self.encoder.batch(messages, answers)


def stored_picture(cell: Any) -> Any:
    """A picture's cell, {"bytes", "path"} or either, as `ImageLike`."""
    return cell["bytes"] or cell["path"] if isinstance(cell, Mapping) else cell


class TrainingOrder(Sampler[int]):
    """The places of all steps of a run, epoch after epoch: a function of lengths, sizes and seed, and of nothing else.

    Each epoch is a new order of all chats. Those of WINDOW steps are sorted by length and cut into steps, and the steps
    are shuffled again: chats of a step are of similar length, and no length comes at a set time.

    Args:
        lengths: of the chats.
        batch_size: chats in a step.
        steps: of the run.
        seed: of all orders.
        bucket: False keeps the orders as drawn.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, steps: int, *, seed: int = 0, bucket: bool = True
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.bucket = bucket

    def __len__(self) -> int:
        return self.batch_size * self.steps

    def __iter__(self) -> Iterator[int]:
        drawn = self._drawn()
        for start in range(0, self.steps, WINDOW):
            steps = min(WINDOW, self.steps - start)
            window = [next(drawn) for _ in range(steps * self.batch_size)]
            if self.bucket:
                window.sort(key=self.lengths.__getitem__)
            order = list(range(steps))
            if self.bucket:
                random.Random(f"sft-steps/{self.seed}/{start}").shuffle(order)
            for step in order:
                yield from window[step * self.batch_size : (step + 1) * self.batch_size]

    def _drawn(self) -> Iterator[int]:
        epoch = 0
        while True:
            places = list(range(len(self.lengths)))
            random.Random(f"sft-epoch/{self.seed}/{epoch}").shuffle(places)
            yield from places
            epoch += 1


def _size(cell: Any) -> tuple[int, int]:
    """Width and height of an upright picture, from its header."""
    ref = stored_picture(cell)
    try:
        with Image.open(io.BytesIO(ref) if isinstance(ref, bytes) else ref) as picture:
            turned = picture.getexif().get(0x0112, 1) >= 5  # lies on its side
            return (picture.height, picture.width) if turned else picture.size
    except (OSError, TypeError, Image.DecompressionBombError) as exc:
        raise DataError(f"a source picture cannot be read ({exc}): check the data with its maker") from exc


@lru_cache(maxsize=64)
def _blank(size: tuple[int, int]) -> Image.Image:
    return Image.new("1", size)


def _processor_digest(processor: Any) -> str:
    """Changes with all that decides how many tokens a chat has."""
    parts = (
        processor.chat_template or processor.tokenizer.chat_template,
        processor.image_processor.to_json_string(),
        len(processor.tokenizer),
        processor.tokenizer("Is the red star gone? 0.5\n<score>10.0</score>").input_ids,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _listed(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} (and {len(files) - 1} more)"
