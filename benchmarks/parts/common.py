"""What the benchmarks share: options, the machine and its speed, turns, medians with their range."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

EMBEDDED = Path(__file__).parents[2] / "src/editr1/models/sticker-verifier-small"
"""The verifier that ships, where it does."""

SideT = TypeVar("SideT")


@dataclass(frozen=True)
class Spread:
    """A median with its range; as text "0.123 (0.120-0.130)", with as many digits as the format asks for."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, form: str) -> str:
        return f"{self.median:{form}} ({self.low:{form}}-{self.high:{form}})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"median": self.median, "range": [self.low, self.high]}


def make_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring, as it is written."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def take_turns(sides: Sequence[SideT], rounds: int) -> Iterator[tuple[int, SideT]]:
    """A warm-up, round 0, then all in turn, forwards and backwards: a busy moment of the machine hits all alike."""
    for number in range(rounds + 1):
        for side in sides if number % 2 else sides[::-1]:
            yield number, side


def write_json(path: Path, record: Any) -> None:
    """Figures as a file."""
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def quieten() -> None:
    """No progress bars and hints of libraries between the figures."""
    import diffusers
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    diffusers.logging.set_verbosity_error()


def describe_processor() -> str:
    """Processor and cores."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"


def describe_machine() -> str:
    """Processor, cores, threads and versions."""
    import torch
    import transformers

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{describe_processor()}, {torch.get_num_threads()} threads{gpu}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def gemm_rate(dtype: str, device: str) -> float:
    """The best rate of a large matrix multiplication here, in operations a second, by torch's or oneDNN's routine."""
    import torch

    from editr1.judges.fast.weights import Dense

    size = 1536 if device == "cpu" else 8192
    layer = torch.nn.Linear(size, size, bias=False, device=device, dtype=getattr(torch, dtype))
    x = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    best = 0.0
    with torch.inference_mode():
        for dense in (Dense([layer], fuse=False), Dense([layer], fuse=True, pack_rows=size)):
            for _ in range(8):
                started = time.perf_counter()
                dense(x)
                if device != "cpu":
                    torch.cuda.synchronize()
                best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best
