"""Evaluation of a judge on pairs of a benchmark: judge what is missing, decide each pair, compute all figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from editr1.evaluation.benchmarks.base import Benchmark, Figures, Loaded, Pair, by_dimension
from editr1.evaluation.benchmarks.editors import make_edit
from editr1.evaluation.judgements import Edit, Judgement, OnJudgement, PairScorer, Scorer
from editr1.evaluation.metrics import (
    Accuracy,
    Choice,
    OrderCheck,
    PairResult,
    accuracy,
    exact_match,
    order_check,
    prefer,
)
from editr1.evaluation.runs import EvalRun, Progress, image_sizes


@dataclass(frozen=True, slots=True)
class RewardModelResult:
    """What came of one judge on one benchmark.

    Attributes:
        official: the benchmark's own figures.
        dimensions: accuracy of each dimension.
        with_ties: exact match, "same" being an answer like the others; only where people said "same".
        order: of a pairwise judge.
        failures: judgements without score or choice, by status; `judged`: how many judgements there should be.
        same: pairs that people saw no difference in.
    """

    official: Figures
    dimensions: dict[str, Accuracy]
    with_ties: Any
    order: OrderCheck | None
    failures: dict[str, int]
    judged: int
    same: int
    pairs: int
    progress: Progress

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; says nothing of which part was judged when."""
        order = self.order
        return {
            "pairs": self.pairs,
            "same": self.same,
            "judgements": self.judged,
            "failures": self.failures,
            "official": {name: e.to_dict() for name, e in self.official.items()},
            "dimensions": {name: a.to_dict() for name, a in self.dimensions.items()},
            "with_ties": self.with_ties and self.with_ties.to_dict(),
            "order": order
            and {
                "consistent": order.consistent.to_dict(),
                "inconsistent": order.inconsistent,
                "first_shown": None if order.first_shown != order.first_shown else order.first_shown,
                "both_orders": order.both_orders and order.both_orders.to_dict(),
            },
        }


def evaluate_reward_model(
    benchmark: Benchmark,
    loaded: Loaded,
    run: EvalRun,
    make: Callable[[], Scorer | PairScorer],
    *,
    pairwise: bool = False,
    tie_margin: float = 0.0,
    retry_failed: bool = False,
    seed: int = 0,
    by_kind: bool = False,
    advance: Callable[[int], None] = lambda number: None,
) -> RewardModelResult:
    """Evaluate a judge and write the run directory.

    Args:
        benchmark: with the official protocol.
        loaded: its pairs.
        run: keeps the judgements; a second run judges nothing.
        make: makes the judge, if it is needed.
        pairwise: whether it compares two edits, or scores them one by one.
        tie_margin: scores that differ by no more make a tie; given by the user, never fitted here.
        retry_failed: ask again where the judge failed.
        seed: of the bootstrap.
        by_kind: tell the judge of scores what kind of edit the benchmark says it is, for prompts that say what matters
            for which.
        advance: told how many more judgements are done.

    Raises:
        ConfigError, JudgeError: see `EvalRun.judge`.
    """
    if pairwise:
        shown = pairs_shown(loaded.pairs)
        ids = [pair.id for pair in shown]
        progress = run.judge(shown, make, _compare, retry_failed=retry_failed, advance=advance)
    else:
        edits = _with_known_principles(edits_of(loaded.pairs, by_kind), run.judgements)
        ids = [edit.id for edit in edits]
        progress = run.judge(
            edits, make, _score, context=lambda e: e.context, retry_failed=retry_failed, advance=advance
        )
    results = [_result(pair, run.judgements, pairwise, tie_margin, by_kind) for pair in loaded.pairs]
    found = ((name, accuracy(of, seed)) for name, of in by_dimension(results))
    same = sum(r.label is Choice.SAME for r in results)
    result = RewardModelResult(
        official=benchmark.official(results),
        dimensions={name: a for name, a in found if a is not None},
        with_ties=exact_match(results, seed) if same else None,
        order=order_check(results, seed),
        failures=run.failures(ids),
        judged=len(ids),
        same=same,
        pairs=len(results),
        progress=progress,
    )
    manifest = _manifest(benchmark, loaded, tie_margin, seed)
    published = [{"name": p.name, "figures": dict(p.figures), "note": p.note} for p in benchmark.published]
    rows = (_row(r, pair, run, pairwise, by_kind) for r, pair in zip(results, loaded.pairs, strict=True))
    run.finish(ids, manifest, result.to_dict() | {"published": published}, loaded.problems, rows)
    return result


def needed(loaded: Loaded, pairwise: bool, by_kind: bool = False) -> int:
    """How many judgements a benchmark takes."""
    return len(pairs_shown(loaded.pairs) if pairwise else edits_of(loaded.pairs, by_kind))


def pairs_shown(pairs: Sequence[Pair]) -> list[Pair]:
    """Every pair once that a judge of two edits is asked about, by its content in the place of its id."""
    return list({pair.content: replace(pair, id=pair.content) for pair in pairs}.values())


def edits_of(pairs: Sequence[Pair], by_kind: bool = False) -> list[Edit]:
    """Every edit once, however many pairs it is in."""
    return list({edit.id: edit for pair in pairs for edit in _edits(pair, by_kind)}.values())


def _edits(pair: Pair, by_kind: bool = False) -> tuple[Edit, Edit]:
    kind = pair.task if by_kind else ""
    first, second = (
        make_edit(pair.source, edited, pair.instruction, kind, pair.principles) for edited in (pair.first, pair.second)
    )
    return first, second


def _with_known_principles(edits: Sequence[Edit], judgements: Mapping[str, Judgement]) -> list[Edit]:
    """The edits with the principles that a former run found for their context.

    Two edits are compared by scores: both must have been asked the same questions.
    """
    known = {}
    for edit in edits:
        former = judgements.get(edit.id)
        if former is not None and former.checks:
            known[edit.context] = tuple(c.principle for c in former.checks)
    return [replace(e, principles=e.principles or known.get(e.context)) for e in edits]


def _score(judge: Any, edits: Sequence[Edit], on_judgement: OnJudgement) -> None:
    judge.score_many(edits, on_judgement=on_judgement)


def _compare(judge: Any, pairs: Sequence[Pair], on_judgement: OnJudgement) -> None:
    judge.compare_many(pairs, on_judgement=on_judgement)


def _result(
    pair: Pair, judgements: Mapping[str, Judgement], pairwise: bool, margin: float, by_kind: bool
) -> PairResult:
    context = _edits(pair)[0].context
    base = PairResult(pair.id, pair.label, None, pair.task, pair.dimension, pair.group, context=context)
    if pairwise:
        judgement = judgements.get(pair.content)
        return base if judgement is None else replace(base, choice=judgement.choice, orders=judgement.orders)
    return replace(base, choice=prefer(*_values(pair, judgements, by_kind), margin))


def _values(pair: Pair, judgements: Mapping[str, Judgement], by_kind: bool) -> tuple[float | None, float | None]:
    found = (judgements.get(edit.id) for edit in _edits(pair, by_kind))
    first, second = (None if j is None else j.value(pair.dimension) for j in found)
    return first, second


def _row(result: PairResult, pair: Pair, run: EvalRun, pairwise: bool, by_kind: bool) -> dict[str, Any]:
    """A line of `pairs.jsonl`."""
    row: dict[str, Any] = {
        "id": result.id,
        "label": result.label.value,
        "choice": result.choice and result.choice.value,
        "task": result.task,
        "dimension": result.dimension,
        "group": result.group,
        "context": result.context,
        "instruction": pair.instruction,
        "pictures": {name: run.reference(getattr(pair, name).path) for name in ("source", "first", "second")},
        "edits": [e.id for e in _edits(pair, by_kind)],
    }
    if pairwise:
        return row | {"orders": [o and o.value for o in result.orders], "judgement": pair.content}
    return row | {"scores": list(_values(pair, run.judgements, by_kind))}


def read_pair(row: Mapping[str, Any]) -> PairResult:
    """A line of `pairs.jsonl` as a result.

    Raises:
        KeyError, ValueError: if it is none.
    """
    return PairResult(
        id=row["id"],
        label=Choice(row["label"]),
        choice=Choice(row["choice"]) if row["choice"] else None,
        task=row["task"],
        dimension=row["dimension"],
        group=row["group"],
        context=row.get("context", ""),
        orders=tuple(Choice(o) if o else None for o in row.get("orders", ())),
    )


def _manifest(benchmark: Benchmark, loaded: Loaded, tie_margin: float, seed: int) -> dict[str, Any]:
    return {
        "benchmark": benchmark.title,
        "protocol": benchmark.protocol,
        "licence": benchmark.licence,
        "data": {"hash": loaded.hash, "pairs": len(loaded.pairs)},
        "read_from": {
            "name": loaded.table.name,
            "revision": loaded.table.revision,
            "rows": loaded.rows,
            "left_out": loaded.counts,
        },
        "image_sizes": image_sizes(pair.source.size for pair in loaded.pairs),
        "tie_margin": tie_margin,
        "seed": seed,
    }
