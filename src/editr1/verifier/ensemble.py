"""Several passes of a stochastic judge over one edit, made into one verdict with spread and agreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, pstdev

from editr1.types import Check, EditVerdict, PassStats, Usage, VerdictStatus


def combine(passes: Sequence[EditVerdict]) -> EditVerdict:
    """One verdict from several.

    The score is the mean over the passes that gave one; a check is met if more than half of them say so, since
    doubt counts as 0 (section 3.2). The reasoning, and each reason, come from a pass that holds with the result:
    the one whose score is closest to the mean.

    Args:
        passes: at least one; one alone is returned as it is.

    Returns:
        A verdict with `passes` set, or, unless more than half of the passes gave a verdict, a failure with the
        status that most of the failed ones have. Usage and seconds are sums over all passes.
    """
    if len(passes) == 1:
        return passes[0]
    usage = sum((p.usage for p in passes), Usage())
    seconds = sum(p.seconds for p in passes)
    good = [p for p in passes if p.ok]
    failed = [p for p in passes if not p.ok]
    if len(good) * 2 <= len(passes):
        status: VerdictStatus = Counter(p.status for p in failed).most_common(1)[0][0]
        typical = next(p for p in failed if p.status is status)
        error = f"{len(failed)} of {len(passes)} passes failed, one with: {typical.error}"
        return replace(typical, error=error, usage=usage, seconds=seconds)
    scores = [p.score for p in good if p.score is not None]
    mean = fmean(scores)
    by_distance = sorted(good, key=lambda p: abs((p.score or 0.0) - mean))  # stable: the earlier of equals first
    votes = [[bool(p.checks and p.checks[k].met) for p in good] for k in range(len(good[0].checks or ()))]
    checks = tuple(_majority(k, votes[k], by_distance) for k in range(len(votes)))
    return replace(
        by_distance[0],
        score=min(max(mean, 0.0), 10.0),  # a mean of tens may exceed ten by rounding
        checks=checks,
        average_score=sum(c.met for c in checks) / len(checks),
        usage=usage,
        seconds=seconds,
        passes=PassStats(
            scores=tuple(scores),
            spread=pstdev(scores),
            agreement=tuple(max(sum(v), len(v) - sum(v)) / len(v) for v in votes),
            failed=len(failed),
        ),
    )


def _majority(index: int, votes: Sequence[bool], by_distance: Sequence[EditVerdict]) -> Check:
    """The check on which more than half agree, with the reason of the first pass that holds with it."""
    met = sum(votes) * 2 > len(votes)
    checks = [p.checks[index] for p in by_distance if p.checks]
    return next((c for c in checks if c.met is met), replace(checks[0], met=met))
