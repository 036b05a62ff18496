"""Scoring a file of edits: verdicts are kept as they come in, and a second run does what the first left over."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from editr1.cli import options
from editr1.datasets import BadRow, EditRow, VerdictFile, count_rows, read_edits
from editr1.errors import DataError, ImageError, JudgeError
from editr1.images import load_image
from editr1.types import EditVerdict, VerdictStatus
from editr1.verifier.template import load_template

if TYPE_CHECKING:
    from editr1.config import ScoreConfig
    from editr1.verifier import Verifier

_TOLD_FAILURES = 20
# Edits handed to the verifier at once, for each call under way: enough that no slot idles, few enough to hold.
_CHUNK_PER_SLOT = 8
# So many verdicts in a row that the judge failed to give mean that it is gone.
_GONE_AFTER = 3


@dataclass
class Tally:
    """What became of the edits of one run.

    Attributes:
        before: edits whose verdict a former run had left.
        ok: verdicts with a score, of this run.
        failed: edits without one; `bad_rows` counts rows that could not even be read.
        scores: of all verdicts there are.
        stopped: why the run ended early, if it did.
    """

    before: int = 0
    ok: int = 0
    failed: int = 0
    bad_rows: int = 0
    scores: list[float] = field(default_factory=list)
    stopped: str | None = None

    @property
    def exit_code(self) -> int:
        """0 if every edit has a verdict, 2 if none has, else 1."""
        if not (self.failed or self.bad_rows or self.stopped):
            return 0
        return 1 if self.ok or self.before else 2


def score_file(
    path: Path, config: ScoreConfig, *, out: Path | None, as_json: bool, limit: int | None, quiet: bool
) -> int:
    """Score the edits in a file.

    Args:
        path: JSONL or Parquet, see `editr1.datasets.edits`.
        config: of the judge and the verifier.
        out: file that verdicts are appended to as they come; one line per edit in the end.
        as_json: print each verdict as a line of JSON.
        limit: only the first so many rows.
        quiet: no progress bar and no notices.

    Returns:
        the exit code, see `Tally`.

    Raises:
        DataError: if the file cannot be read or holds no rows, or if `out` holds something other than verdicts.
        ConfigError, ModelError, JudgeError: if the verifier cannot be set up.
    """
    rows = islice(read_edits(path), limit)
    total = min(count_rows(path), limit or sys.maxsize)
    if not total:
        raise DataError(f"{path} holds no edits")
    if out is not None and out.resolve() == path.resolve():
        raise DataError(f"--out names the file of edits itself, {path}: name another")
    file = VerdictFile(out) if out is not None else None
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    with _progress(errors, shown=not quiet and errors.is_terminal) as progress:
        bar = progress.add_task("scoring", total=total)
        run = _Run(config, file, errors, lambda: progress.advance(bar), as_json=as_json, quiet=quiet)
        try:
            run.score_all(rows)
        except KeyboardInterrupt:
            run.tally.stopped = "interrupted"
        finally:
            if file is not None:
                file.finish(run.order)
    if not as_json and out is None:
        run.show_table()
    errors.print(_summary(run.tally, total, out), markup=False)
    return run.tally.exit_code


class _Run:
    """One pass over the rows."""

    def __init__(
        self,
        config: ScoreConfig,
        file: VerdictFile | None,
        errors: Console,
        advance: Callable[[], None],
        *,
        as_json: bool,
        quiet: bool,
    ) -> None:
        self.config = config
        self.file = file
        self.errors = errors
        self.advance = advance
        self.as_json = as_json
        self.quiet = quiet
        self.tally = Tally()
        self.order: list[str] = []
        self.results: list[tuple[EditRow, EditVerdict]] = []
        self.told: set[str] = set()
        self.silence: list[str] = []  # the judge's failures since it last answered

    def score_all(self, rows: Iterable[EditRow | BadRow]) -> None:
        """Score what has no verdict yet, in chunks, until the rows end or the judge is gone.

        Raises:
            JudgeError: if the judge cannot work at all, i.e. gave no verdict before it failed.
        """
        todo = self._missing(rows)
        verifier = None
        while chunk := list(islice(todo, _CHUNK_PER_SLOT * self.config.judge.concurrency)):
            if verifier is None:  # only now: a run that finds all done needs no model
                verifier = options.build_verifier(self.config, quiet=self.quiet)
                self._warn_of_others(verifier.judge.name, verifier.template.hash)
            try:
                self._score_chunk(verifier, chunk)
            except JudgeError as exc:
                if not self.tally.ok:
                    raise
                self.silence = [str(exc)] * _GONE_AFTER
            if len(self.silence) >= _GONE_AFTER:
                self.tally.stopped = self.silence[-1]
                return
        if verifier is None:  # nothing was left to do: it may have been done with other settings
            template = self.config.template and load_template(self.config.template).hash
            self._warn_of_others(self.config.judge.model or "embedded", template)

    def show_table(self) -> None:
        """Print one line per verdict: without a file, this is all that is left of them."""
        for row, verdict in self.results:
            score = "-" if verdict.score is None else f"{verdict.score:.1f}"
            typer.echo(f"{score:>5}  {verdict.status.value:<12}  {row.id}")

    def _missing(self, rows: Iterable[EditRow | BadRow]) -> Iterator[EditRow]:
        """The rows to be scored; reports bad rows and counts those that are done on the way."""
        for row in rows:
            if isinstance(row, BadRow):
                self.tally.bad_rows += 1
                self._complain(row.where, row.why)
                self.advance()
                continue
            self.order.append(row.id)
            former = self.file.verdicts.get(row.id) if self.file is not None else None
            if former is not None and former.score is not None:
                self.tally.before += 1
                self.tally.scores.append(former.score)
                self.advance()
                continue
            yield row

    def _score_chunk(self, verifier: Verifier, chunk: Sequence[EditRow]) -> None:
        items = [row.as_item() for row in chunk]
        verifier.score_many(items, on_verdict=lambda index, verdict: self._take(chunk[index], verdict))

    def _take(self, row: EditRow, verdict: EditVerdict) -> None:
        """Keep a verdict as soon as it is there."""
        if self.file is not None:
            self.file.append(row, verdict)
        if self.as_json:
            typer.echo(json.dumps(verdict.to_dict() | {"id": row.id}, ensure_ascii=False))
        elif self.file is None:
            self.results.append((row, verdict))
        if verdict.score is not None:
            self.tally.ok += 1
            self.tally.scores.append(verdict.score)
        else:
            self.tally.failed += 1
            self._complain(row.where, f"{verdict.status.value}: {verdict.error or 'no reason given'}")
        if verdict.status not in (VerdictStatus.ERROR, VerdictStatus.TIMEOUT):
            self.silence.clear()
        elif _pictures_load(row):
            self.silence.append(verdict.error or verdict.status.value)
        self.advance()

    def _complain(self, where: str, why: str) -> None:
        """Tell of a failure; the summary counts those that are not told: more of the same, or too many."""
        if why in self.told or len(self.told) >= _TOLD_FAILURES:
            return
        self.told.add(why)
        self.errors.print(f"warning: {where}: {why}", markup=False)

    def _warn_of_others(self, name: str, prompt_hash: str | None) -> None:
        """Say so if the file holds verdicts of another judge, template or number of passes: they are kept, and one
        file then mixes two.
        """
        if self.file is None:
            return
        kept = [verdict for verdict in self.file.verdicts.values() if verdict.ok]
        if others := {verdict.judge for verdict in kept} - {name}:
            self._tell_of_others(f"verdicts of {', '.join(sorted(others))}", f"from {name}")
        if prompt_hash is not None and {verdict.prompt_hash for verdict in kept} - {prompt_hash}:
            self._tell_of_others("verdicts by another prompt template", "by this one")
        counts = {1 if v.passes is None else len(v.passes.scores) + v.passes.failed for v in kept}
        if other_counts := counts - {self.config.passes}:
            found = " and ".join(f"{count}" for count in sorted(other_counts))
            self._tell_of_others(f"verdicts of {found} passes", f"of {self.config.passes}")

    def _tell_of_others(self, kept: str, wanted: str) -> None:
        path = self.file and self.file.path
        self.errors.print(
            f"warning: {path} holds {kept}, which are kept; name another --out to have all {wanted}", markup=False
        )


def _pictures_load(row: EditRow) -> bool:
    """Whether a failure was the judge's: with a picture that cannot be read, it was not."""
    try:
        load_image(row.quadruple.task.source)
        load_image(row.quadruple.edited)
    except ImageError:
        return False
    return True


def _progress(console: Console, *, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not shown,
        transient=True,
    )


def _summary(tally: Tally, total: int, out: Path | None) -> str:
    """The last lines: what is there, what is not, and how to go on."""
    have = tally.ok + tally.before
    parts = [f"{have} of {total} edits have a verdict"]
    if tally.before:
        parts[0] += f" ({tally.before} from before)"
    if tally.scores:
        parts.append(f"mean score {sum(tally.scores) / len(tally.scores):.2f}")
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    if tally.bad_rows:
        parts.append(f"{tally.bad_rows} rows could not be read")
    text = ", ".join(parts)
    if tally.stopped == "interrupted":
        text = f"interrupted: {text}"
    elif tally.stopped is not None:
        text = f"error: the judge stopped answering ({tally.stopped}); {text}"
    if out is not None and have:
        text += f"; they are kept in {out}"
    if out is not None and have + tally.bad_rows < total:
        text += ": run the same command again to score only what is missing"
    return text
