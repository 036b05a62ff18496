"""Choose: the best trace of each edit, by rule (section 4, step 6). The rule itself is `editr1.verifier.choose`."""

from __future__ import annotations

from collections.abc import Sequence

from editr1.curation.records import Chosen, Reject, StageResult, Verified, content_id
from editr1.types import Trace
from editr1.verifier.choose import Answered, accuracy, choose


def choose_traces(records: Sequence[Verified], *, least_accuracy: float = 0.0) -> StageResult[Chosen]:
    """The best trace of each edit.

    Args:
        records: from `verify`.
        least_accuracy: in [0, 1]; an edit on which not even the best trace agrees with so much of the gold is
            rejected (kind "inaccurate").
    """
    result: StageResult[Chosen] = StageResult()
    for record in records:
        traces = record.traced.traces
        gold = [check.met for check in record.gold]
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


def _answered(trace: Trace) -> Answered:
    verdict = trace.verdict
    if verdict.checks is None or verdict.average_score is None or verdict.score is None:
        raise ValueError(f"a trace of {trace.quadruple_id} has no verdict")
    return Answered(tuple(c.met for c in verdict.checks), verdict.average_score, verdict.score)
