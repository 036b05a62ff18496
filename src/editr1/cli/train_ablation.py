"""`editr1 train ablation`: T, V, T+V and a holistic baseline, by size, on held-out preference pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editr1.cli import display, options

if TYPE_CHECKING:
    from editr1.evaluation.metrics import PairResult
    from editr1.training.ablation import Cell

LETTERS = {"think": "T", "verify": "V", "think+verify": "T+V", "viescore": "viescore"}


def ablation(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/sticker/ablation.toml.")],
    out: options.OutOption = None,
    overrides: options.SetOption = None,
) -> None:
    """Fine-tune a verifier for each size and mode, let all judge the same held-out pairs, and write the table.

    Killed at any time, the same command goes on. ablation.json and ablation.md are written anew after each cell.
    """
    from editr1.config import load
    from editr1.training.ablation import AblationRecipe, facts, load_ablation_pairs, plan, score_cell, train_cell

    settings = load(AblationRecipe, recipe, overrides or ())
    folder = out or Path("runs") / settings.name
    cells = plan(settings, recipe.parent)
    from editr1.rundir import RunDir

    RunDir.create(folder, settings.model_dump(mode="json"), seeds={"cells": settings.seeds[0]}, resume=True)
    pairs = load_ablation_pairs(settings.pairs, folder)
    rows: list[dict[str, Any]] = []
    results: dict[str, list[PairResult]] = {}
    with _cells_and_steps(len(cells)) as report:
        for cell in cells:
            model = train_cell(cell, folder, report)
            scores = score_cell(cell, model, pairs, folder, report)
            results[cell.name] = _results(pairs, scores)
            rows.append(_row(cell, results[cell.name], dict(facts(model))))
            report("", {"cell": len(rows)})
            _write(folder, rows, _differences(cells[: len(rows)], results), len(pairs), str(recipe))
    typer.echo((folder / "ablation.md").read_text(encoding="utf-8"))
    typer.echo(f"{folder / 'ablation.json'}: {len(rows)} cells, {len(pairs)} pairs")


def _results(pairs: Sequence[Any], scores: Sequence[tuple[float | None, float | None]]) -> list[PairResult]:
    from editr1.evaluation.metrics import Choice, PairResult, prefer

    return [
        PairResult(
            pair.task.id, Choice.FIRST, prefer(*both), task="" if pair.task.kind is None else pair.task.kind.value
        )
        for pair, both in zip(pairs, scores, strict=True)
    ]


def _row(cell: Cell, results: Sequence[PairResult], trained: dict[str, Any]) -> dict[str, Any]:
    """A cell's figures; those that cannot be had, because no pair was answered, are None."""
    from editr1.evaluation.metrics import accuracy

    found = accuracy(results)
    names = ("strict", "half_credit", "ties", "failures_as_wrong")
    figures = {name: None if found is None else getattr(found, name).to_dict() for name in names}
    kept = ("chats", "steps", "parent", "data", "parameters", "held_out")
    return {
        "size": cell.size,
        "mode": cell.mode,
        "seed": cell.seed,
        "figures": figures,
        "failed": sum(r.choice is None for r in results),
        "training": {name: trained.get(name) for name in kept},
        "recipe": cell.recipe.model_dump(mode="json"),
    }


def _differences(cells: Sequence[Cell], results: dict[str, list[PairResult]]) -> list[dict[str, Any]]:
    """T+V less each other mode at a size, and each size less the one before it in a mode, over the same pairs."""
    from editr1.evaluation.metrics import compare_judges

    by_key = {(c.seed, c.size, c.mode): c for c in cells}
    sizes = list(dict.fromkeys(c.size for c in cells))
    wanted: list[tuple[Cell, Cell]] = []
    for cell in cells:
        best = by_key.get((cell.seed, cell.size, "think+verify"))
        if best is not None and best is not cell:
            wanted.append((cell, best))
        before = sizes.index(cell.size) - 1
        if before >= 0 and (smaller := by_key.get((cell.seed, sizes[before], cell.mode))) is not None:
            wanted.append((smaller, cell))
    found = []
    for less, more in wanted:
        compared = compare_judges(results[less.name], results[more.name])
        if compared is not None:
            found.append(
                {
                    "of": more.name,
                    "less": less.name,
                    "strict": compared.difference.to_dict(),
                    "half_credit": compared.half_credit_difference.to_dict(),
                    "p_value": compared.p_value,
                    "left_out": compared.left_out,
                }
            )
    return found


def _write(
    folder: Path, rows: list[dict[str, Any]], differences: list[dict[str, Any]], pairs: int, recipe: str
) -> None:
    from editr1.files import write_atomic, write_json
    from editr1.rundir import describe_environment

    environment = describe_environment()
    write_json(
        folder / "ablation.json",
        {"recipe": recipe, "pairs": pairs, "rows": rows, "differences": differences, "environment": environment},
    )
    write_atomic(folder / "ablation.md", "\n".join(_page(rows, differences)) + "\n")


def _page(rows: list[dict[str, Any]], differences: list[dict[str, Any]]) -> list[str]:
    lines = ["| size | mode | preferred edit scored higher | ties count half | ties | no verdict | steps |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        strict, half, ties = (_percent(row["figures"][name]) for name in ("strict", "half_credit", "ties"))
        seed = f" (seed {row['seed']})" if row["seed"] else ""
        lines.append(
            f"| {row['size']} | {LETTERS[row['mode']]}{seed} | {strict} | {half} | {ties} | {row['failed']} | "
            f"{row['training']['steps']} |"
        )
    if differences:
        lines += ["", "| difference | strict | ties count half | p (McNemar) |", "| --- | --- | --- | --- |"]
    for entry in differences:
        lines.append(
            f"| {entry['of']} less {entry['less']} | {_percent(entry['strict'])} | {_percent(entry['half_credit'])} | "
            f"{entry['p_value']:.2g} |"
        )
    return lines


def _percent(figure: dict[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"{100 * figure['value']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


@contextmanager
def _cells_and_steps(cells: int) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """A bar for the cells and one for the steps of the cell under way."""
    with display.bars() as shown:
        whole, part = shown.add_task("cells", total=cells), shown.add_task("", total=None, visible=False)

        def report(name: str, row: dict[str, Any]) -> None:
            if "cell" in row:
                shown.update(whole, completed=row["cell"])
                return
            text = f"{name}  pairs" if row.get("scoring") else name
            text += f"  loss {row['loss']:.3f}" if "loss" in row else ""
            shown.update(part, completed=row["step"], total=row["steps"], description=text, visible=True)

        yield report
