"""Choose: the best trace of each edit, by rule (section 4, step 6). The rule itself is `editr1.verifier.choose`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from editr1.curation.records import Chosen, Reject, StageResult, Verified, content_id
from editr1.types import Trace
from editr1.verifier.choose import Answered, accuracy, choose


def choose_traces(
    records: Sequence[Verified], *, least_accuracy: float = 0.0, keep_all_met: float = 1.0
) -> StageResult[Chosen]:
    """The best trace of each edit.

    Args:
        records: from `verify`.
        least_accuracy: in [0, 1]; an edit on which not even the best trace agrees with so much of the gold is
            rejected (kind "inaccurate").
        keep_all_met: in [0, 1]; of edits whose gold calls every principle met, this share is kept, drawn by their ids,
            and the others are rejected (kind "all met"). A verifier that sees too many of them learns to say yes.
    """
    result: StageResult[Chosen] = StageResult()
    for record in records:
        traces = record.traced.traces
        gold = [check.met for check in record.gold]
        if all(gold) and _draw(record.traced.edit.id) >= keep_all_met:
            result.rejects.append(Reject(record.id, "all met", f"a share of {keep_all_met:g} of such edits is kept"))
            continue
        whole = record.traced.whole
        index = whole[choose([_answered(traces[i]) for i in whole], gold)]
        share = accuracy(_answered(traces[index]).met, gold)
        if share < least_accuracy:
            detail = f"the best of {len(whole)} traces agrees with {share:.0%} of the gold"
            result.rejects.append(Reject(record.id, "inaccurate", detail))
        else:
            identity = content_id("chosen", record.id, index)
            result.records.append(Chosen(identity, record, index, share))
    return result


def _draw(edit_id: str) -> float:
    """In [0, 1), by the id alone."""
    return int.from_bytes(hashlib.sha256(f"all-met/{edit_id}".encode()).digest()[:8], "big") / 2**64


def _answered(trace: Trace) -> Answered:
    verdict = trace.verdict
    if verdict.checks is None or verdict.average_score is None or verdict.score is None:
        raise ValueError(f"a trace of {trace.quadruple_id} has no verdict")
    return Answered(tuple(c.met for c in verdict.checks), verdict.average_score, verdict.score)
