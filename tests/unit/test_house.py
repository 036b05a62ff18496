"""The house rules that can be checked: what loads torch, what the lock names, that nothing has two truths."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

HEAVY = ("torch", "torchvision", "transformers", "diffusers", "gradio", "ray", "vllm")


@pytest.fixture
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def loaded_by(code: str) -> set[str]:
    """Names of all modules in a fresh interpreter after it ran the code."""
    program = f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


RUN = "import contextlib, editr1.cli.main as m\nwith contextlib.suppress(SystemExit): m.run({})"


@pytest.mark.parametrize(
    "code",
    [
        "import editr1",
        "import editr1.reports",
        "import editr1.datasets",
        "import editr1.config",
        "import editr1.judges",
        "import editr1.verifier",
        "import editr1.images",
        "import editr1.cli.batch, editr1.cli.show",
        "import editr1.cli.train, editr1.cli.stickers",
        *(f"import editr1.training.{stage}.recipe" for stage in ("sft", "gcpo", "pretrain", "vlm")),
        RUN.format(["--help"]),
        RUN.format(["score", "--help"]),
        RUN.format(["stickers", "--help"]),
        RUN.format(["score", "nowhere.jsonl"]),
    ],
)
def test_what_needs_no_model_loads_no_torch(code: str) -> None:
    assert not set(HEAVY) & loaded_by(code)


def test_help_loads_only_what_it_shows() -> None:
    """Half a second is soon spent: numpy and rich cost a fifth of it each."""
    modules = loaded_by(RUN.format(["--help"]))
    assert not {"numpy", "PIL", "rich.console", "pydantic", "pyarrow", "openai", "jinja2"} & modules
    assert "editr1.cli.score" in modules


def lock_pins(repository: Path) -> dict[str, list[Version]]:
    pins: dict[str, list[Version]] = {}
    for line in (repository / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", line
            pins.setdefault(requirement.name, []).append(Version(specifier.version))
    return pins


def test_the_lock_names_no_host(repository: Path) -> None:
    text = (repository / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links| @ |\.(org|com|net|io)\b", text)


def test_the_lock_satisfies_the_project(repository: Path, project: dict[str, Any]) -> None:
    pins = lock_pins(repository)
    extras = project["project"]["optional-dependencies"]
    texts = [text for name, texts in extras.items() if name != "vllm" for text in texts]
    for text in [*project["project"]["dependencies"], *texts]:
        requirement = Requirement(text)
        assert pins.get(requirement.name), f"{text} is not locked: run `make lock`"
        assert all(version in requirement.specifier for version in pins[requirement.name]), text


def test_the_makefile_and_the_project_name_the_same_extras(repository: Path, project: dict[str, Any]) -> None:
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    (named,) = re.findall(r"^EXTRAS := (.*)$", makefile, flags=re.MULTILINE)
    # vllm pins a torch of its own, so that it cannot be in one environment with the rest.
    assert set(named.split()) == project["project"]["optional-dependencies"].keys() - {"vllm"}


def test_every_target_explains_itself(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    explained = re.findall(r"^([a-z-]+):.*## .+$", makefile, flags=re.MULTILINE)
    assert set(phony.split()) == set(explained)
    wanted = {"help", "install", "demo", "test", "test-all", "lint", "fmt", "docs", "bench"}
    assert wanted <= set(explained)


def test_one_version(project: dict[str, Any]) -> None:
    assert import_module("editr1").__version__ == project["project"]["version"]


def test_every_package_has_a_place_among_the_layers(repository: Path, project: dict[str, Any]) -> None:
    """A new package has to say which others it may import."""
    contract = project["tool"]["importlinter"]["contracts"][0]
    placed = set(re.findall(r"\w+", " ".join(contract["layers"])))
    folder = repository / "src" / "editr1"
    there = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert there - {"__init__", "__main__"} <= placed


def test_exit_codes_of_the_real_program(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "editr1", "score", "nowhere.jsonl"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no file of edits at nowhere.jsonl\n"
