"""What `editr1 eval` prints: one's own figures with intervals, published ones beside them and marked as such."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from editr1.evaluation.benchmarks import Benchmark, EditorBenchmark, Problem, Published
    from editr1.evaluation.bootstrap import Estimate
    from editr1.evaluation.compare import Comparison
    from editr1.evaluation.editor_models import EditorResult
    from editr1.evaluation.gsb import Agreement, GsbResult, Marks
    from editr1.evaluation.headroom import Headroom
    from editr1.evaluation.metrics import JudgesCompared
    from editr1.evaluation.reward_models import RewardModelResult

_TOLD = 10


def warn_of_licence(title: str, licence: str, commercial: bool) -> None:
    """Say so if data may not be used commercially."""
    if not commercial:
        _errors().print(f"warning: {title} is {licence}: not for commercial use", markup=False)


def show_problems(problems: Sequence[Problem], rows: int, out: Path) -> None:
    """Tell of the first rows that were left out, and how many there are."""
    console = _errors()
    for problem in problems[:_TOLD]:
        console.print(f"warning: {problem}", markup=False)
    if problems:
        kinds: dict[str, int] = {}
        for problem in problems:
            kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
        counted = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        console.print(
            f"{len(problems)} of {rows} rows are left out ({counted}); all are listed in {out / 'problems.jsonl'}",
            markup=False,
        )


def show_reward_model(benchmark: Benchmark, result: RewardModelResult, tie_margin: float) -> None:
    """Official figures beside published ones, then everything else by dimension and task."""
    console = Console()
    names = [*result.official, *(n for p in benchmark.published for n in p.figures if n not in result.official)]
    _beside(console, benchmark.title, dict(result.official), benchmark.published, names, percent=True)
    console.print(f"[dim]{escape(benchmark.protocol)}[/]\n")
    for dimension, found in result.dimensions.items():
        table = _table(f"{dimension}: {found.pairs} pairs, {found.failed} without an answer")
        rows: list[tuple[str, Estimate]] = [
            ("strict, a tie is wrong", found.strict),
            ("half credit for a tie", found.half_credit),
            ("ties", found.ties),
            ("strict, mean over tasks", found.macro_strict),
            ("half credit, mean over tasks", found.macro_half_credit),
        ]
        if found.failed:
            rows.append(("strict, failures counted as wrong", found.failures_as_wrong))
        rows += [(f"  {task}", e) for task, e in found.tasks.items() if len(found.tasks) > 1]
        for name, estimate in rows:
            table.add_row(escape(name), str(estimate), str(estimate.items))
        console.print(table)
        if len(found.tasks) < benchmark.tasks:
            console.print(f"[yellow]only {len(found.tasks)} of {benchmark.tasks} tasks: no official figure")
    if result.with_ties is not None:
        console.print(f"better, worse or same, exact match: {result.with_ties}  ({result.same} pairs are 'same')")
    if tie_margin:
        console.print(f"tie margin {tie_margin:g}, as given: it was not fitted to these labels")
    if result.order is not None:
        order = result.order
        console.print(
            f"order check: {order.consistent} consistent, {order.inconsistent} inconsistent pairs counted as ties, the "
            f"edit shown first was picked in {_share(order.first_shown)} of answers; each order a trial of its own: "
            f"{order.both_orders or '-'}"
        )
    _failures(console, result.failures, result.judged)


def show_editor(benchmark: EditorBenchmark, result: EditorResult) -> None:
    """Means by category, for each language and subset, and the published figures; intervals of the means alone."""
    console = Console()
    for name, found in result.tables.items():
        table = _table(f"{benchmark.title} {name}: {found.judged} pictures, {found.failed} without a score", figures=())
        table.columns[0].no_wrap = True
        for figure in found.macro:
            table.add_column(figure, justify="right")
        for category, row in found.categories.items():
            values = (f"{row[name].value:.2f}" if name in row else "" for name in found.macro)
            table.add_row(escape(category), *values)
        title = "mean of categories" if found.complete else f"mean of {len(found.categories)} categories"
        table.add_row(f"[bold]{title}", *(f"[bold]{e.value:.2f}" for e in found.macro.values()))
        table.add_row("95 % interval", *(f"{e.low:.2f}-{e.high:.2f}" for e in found.macro.values()))
        console.print(table)
        if not found.complete:
            console.print(f"[yellow]only {len(found.categories)} of {found.expected} categories: no official figure")
    named = benchmark.published_table
    if benchmark.published and (of := result.tables.get(named)) is not None and of.complete:
        names = [*of.macro, *(n for n in benchmark.published[0].figures if n not in of.macro)]
        title = " ".join(filter(None, (named, "beside published figures")))
        _beside(console, title, of.macro, benchmark.published, names, percent=False)
    console.print(f"[dim]{escape(benchmark.protocol)}")
    _failures(console, result.failures, result.judged)


def show_gsb(marks: Marks, result: GsbResult, agreed: Agreement) -> None:
    """GSB, its test, agreement, and the marks that do not count."""
    console, errors = Console(), _errors()
    for line in (*marks.bad_rows, *marks.contradictions):
        errors.print(f"warning: {line}; it does not count", markup=False)
    if marks.repeated:
        errors.print(f"note: {marks.repeated} marks were there twice, and count once", markup=False)
    if marks.unmatched or marks.unanswered:
        errors.print(f"warning: {marks.unmatched} tasks are in one run only, {marks.unanswered} lack a score")
    gsb = result.gsb
    console.print(f"good {result.good}, same {result.same}, bad {result.bad}, on {gsb.items} contexts")
    console.print(f"GSB {100 * gsb.value:+.1f} [{100 * gsb.low:+.1f}, {100 * gsb.high:+.1f}]", markup=False)
    console.print(
        f"{result.better} contexts with more good than bad marks, {result.worse} with fewer: exact sign test "
        f"p = {result.p_value:.3g}"
    )
    if not agreed.shared:
        return
    for (one, two), (kappa, items) in agreed.kappa.items():
        console.print(f"Cohen's kappa, {one} and {two}: {_plain(kappa)} on {items} contexts", markup=False)
    console.print(
        f"Krippendorff's alpha: nominal {_plain(agreed.alpha_nominal)}, ordinal {_plain(agreed.alpha_ordinal)}, on "
        f"{agreed.shared} contexts with two marks or more"
    )


def show_compared(found: Mapping[str, JudgesCompared]) -> None:
    """Two judges on the same pairs, by dimension."""
    console = Console()
    for name, compared in found.items():
        if len(found) > 1:
            console.print(f"[bold]{escape(name)}")
        _show_dimension(console, compared)


def _show_dimension(console: Console, compared: JudgesCompared) -> None:
    console.print(f"{compared.difference.items} pairs that both answered, {compared.left_out} left out")
    for name, e in (("strict", compared.difference), ("half credit", compared.half_credit_difference)):
        values = f"{100 * e.value:+.1f} points [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"
        console.print(f"second less first, {name}: {values}", markup=False)
    several = compared.contexts < compared.difference.items
    test = f"exact sign test over {compared.contexts} contexts" if several else "exact McNemar test"
    console.print(
        f"only the first right: {compared.only_first}, only the second: {compared.only_second}; {test} "
        f"p = {compared.p_value:.3g}"
    )


def show_headroom(found: Headroom) -> None:
    """A verifier's scores beside fitted weights of the same verdicts."""
    console = Console()
    table = _table(f"{found.gain.items} pairs, a tie counts half", figures=["right order"])
    table.add_row("by its scores", escape(str(found.by_score)))
    table.add_row("by fitted weights of its scores and checks", escape(str(found.by_weights)))
    e = found.gain
    table.add_row("gain, points", escape(f"{100 * e.value:+.1f} [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"))
    console.print(table)
    table = _table("\nweights, log-odds of being preferred for a standard deviation of each", figures=[""])
    for name, weight in found.weights.items():
        table.add_row(escape(name), f"{weight:+.2f}")
    console.print(table)


def show_comparison(comparison: Comparison) -> None:
    """What the manifests disagree on, then each run's figures and the differences from the first."""
    console, errors = Console(), _errors()
    for warning in comparison.warnings:
        errors.print(f"warning: {warning}", markup=False)
    for run in comparison.runs:
        console.print(f"{run.letter}  {run.name}: {run.subject}", markup=False)
    letters = [run.letter for run in comparison.runs]
    for section in comparison.sections:
        show = str if section.percent else _points
        table = _table(section.name, figures=letters)
        for name, row in section.totals.items():
            table.add_row(escape(name), *("-" if e is None else escape(show(e)) for e in row))
        for paired in section.paired:
            who = f"{letters[paired.second]} less {letters[0]}"
            for name, e in paired.differences.items():
                scale, unit = (100, " points") if section.percent else (1, "")
                value = f"{scale * e.value:+.2f}{unit} [{scale * e.low:+.2f}, {scale * e.high:+.2f}]"
                table.add_row(escape(f"{who}, {name} ({e.items} items)"), *[""] * paired.second, escape(value))
        console.print(table)


def _beside(
    console: Console,
    title: str,
    own: dict[str, Estimate],
    published: Sequence[Published],
    names: Sequence[str],
    *,
    percent: bool,
) -> None:
    """One's own figures, and below them those that others published."""
    table = _table(title, figures=[escape(name) for name in names])
    cells = ["-" if n not in own else str(own[n]) if percent else _points(own[n]) for n in names]
    table.add_row("[bold]this run", *(f"[bold]{escape(c)}" for c in cells))
    for p in published:
        values = [p.figures.get(n) for n in names]
        text = ["-" if v is None else f"{100 * v:.1f} %" if percent else f"{v:.2f}" for v in values]
        note = f", {p.note}" if p.note else ""
        table.add_row(f"[dim]{escape(p.name)} (published{escape(note)})", *(f"[dim]{t}" for t in text))
    console.print(table)


def _table(title: str, figures: Sequence[str] = ("", "pairs")) -> Table:
    table = Table(title=escape(title), title_justify="left", box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    return table


def _failures(console: Console, failures: dict[str, int], judged: int) -> None:
    if failures:
        counted = ", ".join(f"{status} {n} ({n / judged:.1%})" for status, n in failures.items())
        console.print(f"[yellow]of {judged} judgements without an answer: {counted}; they enter no accuracy")


def _points(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"


def _plain(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.3f}"


def _errors() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)
