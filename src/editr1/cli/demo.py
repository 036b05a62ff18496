"""`editr1 demo`: fresh sticker edits, scored by the embedded verifier; then an editor learns from its scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from editr1.stickers.faults import StickerEdit
    from editr1.types import EditVerdict


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory.")] = Path("runs/demo"),
    contexts: Annotated[
        int, typer.Option(min=1, help="Pictures to edit; each gets one right and two faulty edits.")
    ] = 11,
    seed: Annotated[
        int | None,
        typer.Option(help="Draw the same edits again; by default they are new each time.", show_default=False),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="The verifier: a name or path.")] = "embedded",
    editor: Annotated[
        str, typer.Option("--editor", help="The editor that then learns from the verifier: a name or path.")
    ] = "embedded",
    steps: Annotated[
        int | None,
        typer.Option(
            min=0, help="Iterations of its learning; 0 for none. A few minutes by default.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw fresh sticker edits, right and faulty, score them with the embedded verifier, and write a report.

    Then a small editor is trained with the verifier's scores as its reward, and shown before and after.
    """
    from editr1.verifier import Verifier

    seed = int(time.time()) if seed is None else seed
    edits = draw_edits(f"demo-{seed}", contexts)
    typer.echo(f"{len(edits)} edits of {contexts} pictures (seed {seed}); the verifier is {model}")
    verifier = Verifier.from_pretrained(model)
    started = time.monotonic()
    verdicts = verifier.score_many([as_item(e) for e in edits], progress=True)
    seconds = time.monotonic() - started
    _show(edits, verdicts)
    report = _write(out, edits, verdicts, seed=seed, model=model)
    typer.echo(f"\nscored in {seconds:.1f} s; report: {report}")
    if steps != 0:
        _learn(out / f"editor-{seed}", editor, model, steps, seed)


def _learn(out: Path, editor: str, verifier: str, steps: int | None, seed: int) -> None:
    """The second half, where there is an editor for it."""
    from editr1.editors.names import resolve_editor
    from editr1.errors import ModelError

    try:
        resolve_editor(editor)
    except ModelError as exc:
        typer.echo(f"\nno editor learns: {exc}")
        return
    from editr1.cli.demo_editor import improve

    improve(out, editor=editor, verifier=verifier, steps=steps, seed=seed)


def draw_edits(split: str, contexts: int) -> list[StickerEdit]:
    """For each context a right edit and two that some simulated editor got wrong."""
    from editr1.stickers.faults import EDITORS, StickerEdit
    from editr1.stickers.tasks import sample_task

    edits = []
    for index in range(contexts):
        task = sample_task(split, index)
        edits.append(StickerEdit(task, task.after, (), "right"))
        faulty = (editor.edit(task, seed) for seed in range(100) for editor in list(EDITORS.values())[index % 5 :])
        edits += [e for e, _ in zip((e for e in faulty if e.faults), range(2), strict=False)]
    return edits


def as_item(edit: StickerEdit) -> dict[str, Any]:
    """What verifier and report need to know of an edit."""
    from editr1.stickers.draw import draw
    from editr1.stickers.export import truth

    return {
        "id": edit.id,
        "source": draw(edit.task.before),
        "edited": edit.picture(),
        "instruction": edit.task.instruction,
        "principles": edit.task.principles,
        "kind": edit.task.kind.value,
        "editor": edit.editor,
        "truth": truth(edit),
    }


def _show(edits: Sequence[StickerEdit], verdicts: Sequence[EditVerdict]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from editr1.stickers.oracle import utility

    table = Table("instruction", "what the editor did", "principles met", "score", "oracle", box=None, pad_edge=False)
    agreed = total = 0
    for edit, verdict in zip(edits, verdicts, strict=True):
        truth = edit.task.truth(edit.scene)
        worth = utility(edit.task, edit.scene)
        did = ", ".join(f.replace("_", " ") for f in edit.faults) or "right"
        if verdict.checks is None or verdict.score is None:
            table.add_row(escape(edit.task.instruction), did, "-", f"[red]{verdict.status.value}", f"{worth:.1f}")
            continue
        agreed += sum(c.met == t for c, t in zip(verdict.checks, truth, strict=True))
        total += len(truth)
        met = f"{sum(c.met for c in verdict.checks)} of {len(truth)}"
        colour = "green" if verdict.score >= 7 else "yellow" if verdict.score >= 4 else "red"
        table.add_row(escape(edit.task.instruction), did, met, f"[{colour}]{verdict.score:.1f}", f"{worth:.1f}")
    console = Console()
    console.print(table)
    if total:
        console.print(f"\n{agreed} of {total} checks agree with the oracle ({agreed / total:.0%})")


def _write(out: Path, edits: Sequence[StickerEdit], verdicts: Sequence[EditVerdict], *, seed: int, model: str) -> Path:
    """Pictures, verdicts and report into the run directory; returns the report's path."""
    from editr1.datasets import EditRow, VerdictFile, read_edits
    from editr1.reports import load_items, write_report
    from editr1.rundir import RunDir
    from editr1.stickers.export import export_edits

    run = RunDir.create(
        out, {"command": "demo", "model": model, "contexts": len(edits) // 3}, seeds={"edits": seed}, resume=True
    )
    rows = {r.id: r for r in read_edits(export_edits(edits, run.path)) if isinstance(r, EditRow)}
    (run.path / "verdicts.jsonl").unlink(missing_ok=True)
    file = VerdictFile(run.path / "verdicts.jsonl")
    for edit, verdict in zip(edits, verdicts, strict=True):
        file.append(rows[edit.id], verdict)
    file.finish()
    subtitle = (
        f"{len(edits)} fresh sticker edits (seed {seed}), right and faulty, judged by {model}. "
        "Editors and truth are simulated."
    )
    return write_report(load_items(run.path), run.report, title="editr1 demo", subtitle=subtitle)
