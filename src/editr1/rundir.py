"""The run directory: what every long command writes, and all that report, resume and compare read.

    runs/<name>/
      config.json       resolved, with every default
      environment.json  code revision, packages, machine, seeds
      metrics.jsonl     one object a step: {"step", "time", ...}
      samples/          pictures and rollouts at set steps
      checkpoints/      step-000100/ ..., and `latest`, which is written last
      report.html

Everything is written so that a crash at any moment leaves a directory that can be resumed from.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from editr1.errors import ConfigError, DataError
from editr1.files import repair_tail, write_atomic, write_json

_CHECKPOINT = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run directory on disk. Make one with `RunDir.create`, find one again with `RunDir.open`."""

    path: Path

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        seeds: Mapping[str, int] | None = None,
        resume: bool = False,
    ) -> RunDir:
        """Make the folders and write `config.json` and `environment.json`.

        Args:
            path: of the run; parents are made.
            config: the resolved configuration, JSON-ready (`Recipe.model_dump(mode="json")`).
            seeds: by what they seed, for the record.
            resume: continue a run that is there already. Its `config.json` stays, and what this start was given
                goes into `config.<n>.json` if it differs; likewise for the environment.

        Raises:
            ConfigError: if the directory holds a run already and `resume` is not set.
        """
        run = cls(Path(path))
        if (run.path / "config.json").exists() and not resume:
            raise ConfigError(f"{run.path} holds a run already: resume it, or choose another directory")
        for folder in (run.samples, run.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        _write_beside(run.path, "config", dict(config))
        _write_beside(run.path, "environment", describe_environment(seeds))
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """An existing run.

        Raises:
            DataError: if the folder holds no `config.json`.
        """
        run = cls(Path(path))
        if not (run.path / "config.json").is_file():
            raise DataError(f"{run.path} is no run directory: it has no config.json")
        return run

    @property
    def config(self) -> dict[str, Any]:
        """What `config.json` holds."""
        data: dict[str, Any] = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return data

    @property
    def metrics_file(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """The folder of pictures and rollouts."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """`report.html`, whether it is there yet or not."""
        return self.path / "report.html"

    def metrics(self) -> Iterator[dict[str, Any]]:
        """All rows of `metrics.jsonl`, in order; none if nothing was logged. A torn last line is left out.

        Raises:
            DataError: if a line other than the last cannot be read.
        """
        if not self.metrics_file.is_file():
            return
        lines = self.metrics_file.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as exc:
                if number == len(lines):
                    return
                raise DataError(f"{self.metrics_file}:{number} is not JSON: {exc}") from exc

    def log(self, *, after: int | None = None) -> MetricsLog:
        """Open `metrics.jsonl` for appending.

        Args:
            after: the step of the checkpoint that the run resumes from. Rows of later steps, which the resumed run
                will write anew, are dropped. None keeps all rows.
        """
        return MetricsLog(self.metrics_file, after=after)

    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> Path:
        """Write a checkpoint so that a crash never leaves half a one.

        Args:
            step: names the folder, `step-000100`.
            write: fills the folder it is given, which becomes the checkpoint once it returns.

        Returns:
            the checkpoint's folder; `latest` names it from now on.
        """
        final = self.checkpoints / f"step-{step:06d}"
        partial = self.checkpoints / f".{final.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        write_atomic(self.checkpoints / "latest", final.name + "\n")
        return final

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Step and folder of the last whole checkpoint, or None if there is none.

        Raises:
            DataError: if `latest` names a checkpoint that is gone.
        """
        pointer = self.checkpoints / "latest"
        if not pointer.is_file():
            return None
        name = pointer.read_text(encoding="utf-8").strip()
        match = _CHECKPOINT.fullmatch(name)
        if match is None or not (self.checkpoints / name).is_dir():
            raise DataError(f"{pointer} names {name!r}, which is not there: write the name of a checkpoint into it")
        return int(match[1]), self.checkpoints / name


class MetricsLog:
    """Appends rows to `metrics.jsonl`, each flushed as it is written. Use it as a context manager."""

    def __init__(self, path: Path, *, after: int | None = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        repair_tail(path)
        if after is not None and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= after]
            if len(kept) < len(lines):
                write_atomic(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, **values: Any) -> None:
        """Append one row. Numbers that are not finite are written as null, for JSON has no name for them."""
        row = {"step": step, "time": round(time.time(), 3)} | values
        self._file.write(json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def describe_environment(seeds: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Code revision, package versions, machine and seeds: what somebody needs to get the same numbers again."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "revision": _revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "gpus": _gpus()},
        "packages": dict(sorted((d.metadata["Name"], d.version) for d in distributions() if d.metadata["Name"])),
        "seeds": dict(seeds or {}),
    }


def _revision() -> dict[str, Any] | None:
    """Commit of the code that runs, and whether files differ from it; None outside a git checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # An installed copy may lie inside somebody else's checkout, whose revision would say nothing about us.
        if not git("ls-files", Path(__file__).name):
            return None
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def _gpus() -> list[str]:
    """Names of the CUDA devices, asked of torch only if the program has loaded it anyway."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _write_beside(folder: Path, stem: str, data: dict[str, Any]) -> None:
    """Write `stem.json`, or on a resumed run `stem.<n>.json` if the content is a new one."""
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        if json.loads(path.read_text(encoding="utf-8")) == data:
            return
        number += 1
        path = folder / f"{stem}.{number}.json"
    write_json(path, data)


def _finite(value: Any) -> Any:
    """The value with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
