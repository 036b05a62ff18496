"""Public benchmarks, one file each: how their rows are read, and their official figures to the letter."""

from editr1.evaluation.benchmarks import (
    editscore,
    gedit,
    genai_bench,
    imgedit,
    mmrb2,
    preference,
    sticker_pairs,
    sticker_tasks,
    tiger,
)
from editr1.evaluation.benchmarks.base import Benchmark, Loaded, Pair, Problem, load_pairs
from editr1.evaluation.benchmarks.editors import BenchmarkTask, EditorBenchmark
from editr1.evaluation.benchmarks.pictures import PictureStore, StoredPicture
from editr1.evaluation.published import Published

REWARD_MODEL_BENCHMARKS: dict[str, Benchmark] = {
    "editscore": editscore.BENCHMARK,
    "tiger": tiger.BENCHMARK,
    "genai_bench": genai_bench.BENCHMARK,
    "mmrb2": mmrb2.BENCHMARK,
    "preference": preference.BENCHMARK,
    "stickers": sticker_pairs.BENCHMARK,
}
"""By the name that `editr1 eval rm` takes."""

EDITOR_BENCHMARKS: dict[str, EditorBenchmark] = {
    "gedit": gedit.BENCHMARK,
    "imgedit": imgedit.BENCHMARK,
    "stickers": sticker_tasks.BENCHMARK,
}
"""By the name that `editr1 eval editor` takes."""

__all__ = [
    "EDITOR_BENCHMARKS",
    "REWARD_MODEL_BENCHMARKS",
    "Benchmark",
    "BenchmarkTask",
    "EditorBenchmark",
    "Loaded",
    "Pair",
    "PictureStore",
    "Problem",
    "Published",
    "StoredPicture",
    "load_pairs",
]
