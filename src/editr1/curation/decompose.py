"""Decompose: each context into principles (section 4, step 2)."""

from __future__ import annotations

from collections.abc import Sequence

from editr1.curation.records import Context, Decomposed, Reject, StageResult, content_id
from editr1.types import EditTask
from editr1.verifier.score import Verifier


def decompose(contexts: Sequence[Context], *, verifier: Verifier, fingerprint: str = "") -> StageResult[Decomposed]:
    """Split each context's instruction; those that cannot be split are rejected, by the status of the failure.

    Args:
        contexts: from `select`.
        verifier: its decomposition part is used.
        fingerprint: of judge, prompt and seed; part of each record's id.
    """
    tasks = [EditTask(c.id, c.source, c.instruction) for c in contexts]
    result: StageResult[Decomposed] = StageResult()
    for context, split in zip(contexts, verifier.decompose_many(tasks), strict=True):
        if split.principles is None:
            result.rejects.append(Reject(context.id, split.status.value, split.error or ""))
        else:
            identity = content_id("decomposed", fingerprint, context.id, [p.to_dict() for p in split.principles])
            result.records.append(Decomposed(identity, context, split.principles))
    return result
