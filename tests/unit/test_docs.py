"""The documentation holds: its Python runs or at least compiles, and its commands name options that exist.

A block opened with ```python runnable is run, in the order of its file and in one namespace with the others there;
```python runnable slow likewise, with the slow tests. All other ```python blocks must compile.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from editr1.cli.main import app

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 2, match[1], tuple(match[2].split()), match[3])
        for match in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def runnable_pages() -> list[Any]:
    cases = []
    for page in PAGES:
        blocks = [block for block in BLOCKS if block.page == page and "runnable" in block.marks]
        if blocks:
            marks = [pytest.mark.slow] if any("slow" in block.marks for block in blocks) else []
            cases.append(pytest.param(blocks, id=page.name, marks=marks))
    return cases


def commands_of(text: str) -> list[list[str]]:
    """The `editr1` commands in a shell block, as words; continued lines are joined, what follows a pipe is dropped."""
    lines = text.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if "editr1 " in line]
    return [words for words in commands if words and words[0] == "editr1"]


def test_the_fence_is_read_right(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n```python runnable slow\nx = 1\n```\n```bash\n$ editr1 score \\\n  --json # why\nls\n```\n")
    first, second = blocks_of(page)
    assert (first.line, first.marks, first.text) == (3, ("runnable", "slow"), "x = 1\n")
    assert commands_of(second.text) == [["editr1", "score", "--json"]]


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_python_compiles(block: Block) -> None:
    compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")


@pytest.mark.parametrize("blocks", runnable_pages())
def test_python_runs(blocks: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    for block in blocks:
        exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), namespace)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("bash", "sh", "console", "shell")], ids=str)
def test_commands_exist(block: Block) -> None:
    for words in commands_of(block.text):
        command: Any = typer.main.get_command(app)
        for word in words[1:]:
            if word.startswith("--"):
                known = {name for parameter in command.params for name in parameter.opts}
                assert word.partition("=")[0] in known | {"--help"}, f"{' '.join(words)}: no option {word}"
            elif word in getattr(command, "commands", {}):
                command = command.commands[word]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
