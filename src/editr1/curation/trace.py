"""Trace: a pool of judges thinks about each edit, in several ways (section 4, step 4)."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

from editr1.curation.prompts import vary
from editr1.curation.records import Edit, Pictures, Reject, StageResult, Traced, content_id, in_memory_sized
from editr1.judges.base import ChatReply, Judge, ReplyStatus, Sampling
from editr1.types import EditVerdict, Principle, Trace, VerdictStatus
from editr1.verifier.asking import Ask, Outcome, ask
from editr1.verifier.parse import parse_verdict
from editr1.verifier.render import render_score
from editr1.verifier.template import PromptTemplate

_FAULT = re.compile(r"the last: ([a-z ]+)")


@dataclass(frozen=True, slots=True)
class Ways:
    """In which ways each judge is asked about each edit: variants x temperatures x samples.

    Attributes:
        template: of the rubric.
        variants: what is added to it, by name.
        temperatures: at each of which `samples` traces are drawn.
        sampling: its other settings, and the seed.
        max_tries: draws for one trace until one can be read.
    """

    template: PromptTemplate
    variants: Mapping[str, str]
    temperatures: tuple[float, ...] = (0.7,)
    samples: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    max_tries: int = 1

    def __iter__(self) -> Iterator[tuple[str, float, int]]:
        """Over (variant, temperature, number of the sample)."""
        return product(self.variants, self.temperatures, range(self.samples))

    @property
    def count(self) -> int:
        """Traces that each judge writes about an edit."""
        return len(self.variants) * len(self.temperatures) * self.samples


def trace(edits: Sequence[Edit], *, judges: Sequence[Judge], ways: Ways, fingerprint: str = "") -> StageResult[Traced]:
    """What the pool writes about each edit.

    Judges work side by side, each at its own concurrency. An edit's traces come in the order judge, variant,
    temperature, sample, those without a verdict included; an edit without any verdict is rejected (kind
    "no verdict").

    Args:
        edits: from `edit`.
        judges: the pool.
        ways: how each is asked.
        fingerprint: of judges, prompts, sampling and seed; part of each record's id.

    Raises:
        JudgeError: if a judge cannot work; the others finish first.
    """
    by_judge = _side_by_side(edits, judges, ways)
    result: StageResult[Traced] = StageResult()
    for number, edit in enumerate(edits):
        traces = tuple(t for of_judge in by_judge for t in of_judge[number])
        failures = Counter(failure_kind(t.verdict) for t in traces if not t.verdict.ok)
        result.failures.update(failures)
        if sum(failures.values()) == len(traces):
            detail = ", ".join(f"{count} {kind}" for kind, count in sorted(failures.items()))
            result.rejects.append(Reject(edit.id, "no verdict", detail))
        else:
            result.records.append(Traced(content_id("traced", fingerprint, edit.id), edit, traces))
    return result


def failure_kind(verdict: EditVerdict) -> str:
    """How a verdict failed, for counting: "timeout", "refused", "error", "unparseable: missing question" ..."""
    fault = _FAULT.search(verdict.error or "")
    if verdict.status is VerdictStatus.UNPARSEABLE and fault:
        return f"{verdict.status.value}: {fault[1].strip()}"
    return verdict.status.value


def _side_by_side(edits: Sequence[Edit], judges: Sequence[Judge], ways: Ways) -> list[list[list[Trace]]]:
    """Each judge's traces of each edit, every judge in a thread of its own.

    A judge that breaks down does not stop the others; an interrupt does, at their next answer.
    """
    pictures, stop = Pictures(), threading.Event()

    def check(index: int, outcome: Outcome[EditVerdict]) -> None:
        if stop.is_set():
            raise KeyboardInterrupt

    with ThreadPoolExecutor(max(len(judges), 1), thread_name_prefix="editr1-pool") as pool:
        under_way = [pool.submit(_traces_of, judge, edits, ways, pictures, check) for judge in judges]
        try:
            wait(under_way)
        except BaseException:
            stop.set()
            raise
    return [future.result() for future in under_way]


def _traces_of(
    judge: Judge,
    edits: Sequence[Edit],
    ways: Ways,
    pictures: Pictures,
    on_outcome: Callable[[int, Outcome[EditVerdict]], None],
) -> list[list[Trace]]:
    """One judge's traces of each edit."""
    templates = {name: vary(ways.template, name, text) for name, text in ways.variants.items()}
    traces: list[list[Trace]] = []
    for some in in_memory_sized(edits, lambda edit: edit):
        asks = [a for edit in some for a in _asks(edit, ways, templates, pictures)]
        outcomes = iter(ask(judge, asks, max_tries=ways.max_tries, on_outcome=on_outcome))
        for edit in some:
            traces.append(
                [
                    _as_trace(edit, next(outcomes), judge, templates[variant], variant, temperature)
                    for variant, temperature, _ in ways
                ]
            )
    return traces


def _asks(
    edit: Edit, ways: Ways, templates: Mapping[str, PromptTemplate], pictures: Pictures
) -> list[Ask[EditVerdict]]:
    source, edited = pictures.source(edit.decomposed.context), pictures.edited(edit)
    asks = []
    for variant, temperature, number in ways:
        messages = render_score(templates[variant], source, edited, edit.instruction, edit.principles)
        sampling = replace(ways.sampling, temperature=temperature)
        asks.append(Ask(messages, sampling, partial(_read, edit.principles), fresh=number, stride=ways.samples))
    return asks


def _read(principles: Sequence[Principle], reply: ChatReply) -> EditVerdict:
    return parse_verdict(reply.text, principles, truncated=reply.status is ReplyStatus.TRUNCATED)


def _as_trace(
    edit: Edit, outcome: Outcome[EditVerdict], judge: Judge, template: PromptTemplate, variant: str, temperature: float
) -> Trace:
    verdict = outcome.value or EditVerdict(outcome.status, error=outcome.error)
    verdict = replace(
        verdict, id=edit.id, judge=judge.name, prompt_hash=template.hash, usage=outcome.usage, seconds=outcome.seconds
    )
    text = outcome.text.encode("utf-8", "replace").decode()
    return Trace(edit.id, text, verdict, judge.name, variant, temperature)
