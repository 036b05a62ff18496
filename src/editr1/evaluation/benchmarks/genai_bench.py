"""TIGER-Lab/GenAI-Bench, image editing, CC BY 4.0: 919 votes of GenAI-Arena (split `test_v1`).

Votes for left, right, a tie, or "both are bad"; the last two are both "same" here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from editr1.evaluation.benchmarks.base import Benchmark, Figures, Pair, choice, column, present, text
from editr1.evaluation.benchmarks.pictures import PictureStore
from editr1.evaluation.benchmarks.tables import HubSource, Row
from editr1.evaluation.metrics import Choice, PairResult, accuracy, exact_match

_VOTES = {
    "leftvote": Choice.FIRST,
    "rightvote": Choice.SECOND,
    "tievote": Choice.SAME,
    "bothbad_vote": Choice.SAME,
}


def read(row: Row, store: PictureStore) -> Pair:
    """A row: `instruct_prompt`, `source_image`, `left_output_image`, `right_output_image`, `vote_type`; it has no id.

    The same two pictures may have been voted on twice: votes are told apart by row.
    """
    source, left, right = (
        store.take(column(row, name), row.root, name)
        for name in ("source_image", "left_output_image", "right_output_image")
    )
    instruction = text(row, "instruct_prompt")
    number = row.where.rpartition(":")[2]
    content = "\x00".join((number, source.digest, left.digest, right.digest, instruction))
    return Pair(
        id=hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:16],
        source=source,
        instruction=instruction,
        first=left,
        second=right,
        label=choice(row, "vote_type", _VOTES),
        where=row.where,
    )


def official(results: Sequence[PairResult]) -> Figures:
    """Strict accuracy where people had a preference, and exact match of better, worse and same over all votes."""
    found = accuracy(results)
    return present([("preferences", found.strict if found else None), ("with ties", exact_match(results))])


BENCHMARK = Benchmark(
    name="genai_bench",
    title="TIGER-Lab/GenAI-Bench, image editing",
    licence="CC BY 4.0",
    commercial=True,
    read=read,
    official=official,
    protocol="strict accuracy over left and right votes; beside it exact match with ties, 'both bad' being a tie",
    hub=HubSource("TIGER-Lab/GenAI-Bench", config="image_edition", split="test_v1"),
    under="image_edition/test_v1",
)
