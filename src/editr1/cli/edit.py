"""`editr1 edit`: pictures by an editing model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editr1.errors import ConfigError, DataError

if TYPE_CHECKING:
    from editr1.datasets import BadRow
    from editr1.editors import PipelineEditor
    from editr1.types import EditTask

_TOLD_FAILURES = 20
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def edit(
    tasks: Annotated[
        Path | None,
        typer.Argument(help="Many tasks: a JSONL file of {id, source, instruction}.", show_default=False),
    ] = None,
    *,
    editor: Annotated[
        str, typer.Option("--editor", help="Folder or hub id of a pipeline of diffusers.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="A folder; for one picture also a picture file.", show_default=False),
    ],
    source: Annotated[Path | None, typer.Option("--source", help="One task: the picture.", show_default=False)] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", help="What is to be done with it.", show_default=False)
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="Repeat it for several edits of each picture (default: 0).")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Of the sampler (default: the model's).", show_default=False)
    ] = None,
    area: Annotated[
        int | None, typer.Option("--area", min=1, help="Pixels of the edited picture.", show_default=False)
    ] = None,
    reference_area: Annotated[
        int | None,
        typer.Option("--reference-area", min=1, help="Pixels at which the model sees the source.", show_default=False),
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", help="Of a guidance-distilled model.", show_default=False)
    ] = None,
    true_cfg_scale: Annotated[
        float | None, typer.Option("--true-cfg-scale", min=1, help="Of classifier-free guidance.", show_default=False)
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option("--negative-prompt", help="For that.", show_default=False)
    ] = None,
    lora: Annotated[
        str | None,
        typer.Option("--lora", help="LoRA weights: folder, hub id, or name of some that ship.", show_default=False),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="Such as cuda:1.", show_default=False)] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Such as bfloat16.", show_default=False)] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures made together.")] = 4,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first so many tasks.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no notices.")] = False,
) -> None:
    """Edit one picture, or all in a file; run it again to make what is missing.

    A folder holds pictures/ and edits.jsonl, which `editr1 score` reads. Exit code 1 means that some tasks could not be
    edited, 2 that none could.
    """
    single = _which_input(tasks, source, instruction)
    seeds = list(dict.fromkeys(seed or [0]))
    to_file = out.suffix.lower() in _PICTURES
    if to_file and (not single or len(seeds) > 1):
        raise ConfigError(f"{out} is one picture, and more are to be made: give --out a folder")
    if tasks is not None and not tasks.is_file():  # before a model is loaded for nothing
        raise DataError(f"there is no file of tasks at {tasks}")
    options = {
        "area": area,
        "reference_area": reference_area,
        "guidance_scale": guidance_scale,
        "true_cfg_scale": true_cfg_scale,
        "negative_prompt": negative_prompt,
    }

    def load() -> PipelineEditor:
        from editr1 import loading
        from editr1.editors import EditorOptions, build_editor

        loading.shown = loading.shown and not quiet

        given = EditorOptions.model_validate({name: value for name, value in options.items() if value is not None})
        return build_editor(editor, options=given, lora=lora, dtype=dtype, device=device)

    if single and to_file:
        assert source is not None
        _edit_one(load, source, str(instruction), seeds[0], steps, out)
        return
    rows = _rows(tasks, source, instruction, limit)
    raise typer.Exit(_edit_many(load, rows, seeds, steps, out, batch_size, quiet=quiet))


def _which_input(tasks: Path | None, source: Path | None, instruction: str | None) -> bool:
    """Whether one task is given whole.

    Raises:
        ConfigError: if neither one task nor a file is given, or both.
    """
    given = {"--source": source, "--instruction": instruction}
    there = [name for name, value in given.items() if value is not None]
    if tasks is not None and there:
        raise ConfigError(f"{', '.join(there)} and the file {tasks} exclude each other: give one picture, or a file")
    if tasks is None and len(there) < len(given):
        missing = ", ".join(name for name in given if name not in there)
        raise ConfigError(f"{missing} missing: give --source and --instruction, or a file of tasks")
    return tasks is None


def _rows(
    tasks: Path | None, source: Path | None, instruction: str | None, limit: int | None
) -> list[EditTask | BadRow]:
    from itertools import islice

    from editr1.types import EditTask

    if tasks is None:
        assert source is not None
        return [EditTask(source.stem, source, str(instruction))]
    from editr1.editors.jobs import read_tasks

    rows = list(islice(read_tasks(tasks), limit))
    if not rows:
        raise DataError(f"{tasks} holds no tasks")
    return rows


def _edit_one(
    load: Callable[[], PipelineEditor], source: Path, instruction: str, seed: int, steps: int | None, out: Path
) -> None:
    from editr1.images import load_image
    from editr1.types import EditTask

    image = load_image(source)  # before a model is loaded for nothing
    from editr1.editors import sample_images

    editor = load()
    (edited,) = sample_images(editor, editor.encode([EditTask(source.stem, image, instruction)]), [seed], steps)
    out.parent.mkdir(parents=True, exist_ok=True)
    edited.save(out)
    typer.echo(f"{out}: {edited.width}x{edited.height}, seed {seed}, {steps or editor.steps} steps")


def _edit_many(
    load: Callable[[], PipelineEditor],
    rows: list[EditTask | BadRow],
    seeds: list[int],
    steps: int | None,
    out: Path,
    batch_size: int,
    *,
    quiet: bool,
) -> int:
    """Returns the exit code."""
    from rich.console import Console
    from rich.progress import Progress

    from editr1.editors.jobs import EditFolder, edit_into

    editor = load()
    settings = {"editor": editor.fingerprint, "steps": steps or editor.steps, "options": editor.options.model_dump()}
    folder = EditFolder(out, settings)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    total = len(rows) * len(seeds)
    with Progress(console=errors, disable=quiet or not errors.is_terminal, transient=True) as progress:
        bar = progress.add_task("editing", total=total)
        tally = edit_into(
            folder,
            editor,
            rows,
            seeds,
            steps=steps,
            batch_size=batch_size,
            advance=lambda number: progress.advance(bar, number),
        )
    for failure in tally.failures[:_TOLD_FAILURES]:
        errors.print(f"warning: {failure}", markup=False)
    have = tally.made + tally.before
    parts = [f"{have} of {total} edits are in {out}"]
    parts += [f"{tally.before} from before"] if tally.before else []
    parts += [f"{len(tally.failures)} tasks failed"] if tally.failures else []
    errors.print(", ".join(parts), markup=False)
    if not tally.failures:
        return 0
    return 1 if have else 2
