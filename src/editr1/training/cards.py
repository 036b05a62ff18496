"""What the model cards of trained verifiers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from editr1.files import write_atomic
from editr1.judges.names import resolve_model


def write_verifier_card(
    folder: Path,
    name: str,
    parent: str,
    *,
    how: str,
    tag: str,
    facts: Mapping[str, str],
    about: str | None = None,
    tables: Sequence[str] = (),
    library: str = "transformers",
) -> Path:
    """Write `README.md` beside a verifier's weights; returns its path.

    Args:
        folder: of the model, or of the adapter.
        name: of the model.
        parent: what it was trained from, as the recipe calls it; on the hub's page it is linked if it is a hub id.
        how: what became of the parent, and by which part of the paper, to follow its name.
        tag: of the method.
        facts: title -> what is said of it, a line each.
        about: a paragraph of the recipe's.
        tables: lines of Markdown.
        library: that loads the folder.
    """
    is_local = resolve_model(parent) != parent or Path(parent).expanduser().exists()
    parts = [
        "---",
        f"library_name: {library}",
        "pipeline_tag: image-text-to-text",
        f"tags: [image-editing, reward-model, {tag}]",
        *([] if is_local else [f"base_model: {parent}"]),
        "---",
        f"# {name}",
        "",
        f"A verifier of image edits: `{Path(parent).name if is_local else parent}` {how} (arXiv 2604.27505).",
        "",
        *(f"- **{title}**: {said}" for title, said in facts.items()),
        "",
        *([about.strip(), ""] if about else []),
        *tables,
        "```python",
        "from editr1 import Verifier",
        "",
        'verdict = Verifier.from_pretrained("path/to/this/folder").score(source, edited, instruction)',
        "```",
        "",
    ]
    return write_atomic(folder / "README.md", "\n".join(parts))


def said_notice(notice: str | None) -> str:
    """A verifier's notice as a sentence that follows another; nothing if there is none."""
    return f" {notice[0].upper()}{notice[1:]}." if notice else ""
