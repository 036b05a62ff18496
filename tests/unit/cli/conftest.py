"""A command line in which the judge is scripted by the edits' instructions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

import editr1.judges
import editr1.verifier
from editr1.cli.main import run
from editr1.errors import ImageError, JudgeError
from editr1.images import load_image
from editr1.judges.names import SHIPPED
from editr1.types import Category, Check, EditVerdict, PassStats, Principle, VerdictStatus
from editr1.verifier.template import load_template

PRINCIPLES = (
    Principle("Is the car red?", Category.FOLLOW),
    Principle("Is the street [as] before?", Category.KEEP),
)


@dataclass
class Result:
    code: int
    out: str
    err: str


class FakeJudge:
    name = "fake"
    fingerprint = "fake"


class FakeVerifier:
    """The verifier's interface; what it says is in the instruction: "score 7", "timeout", "dead", "stop", "bug"."""

    built: ClassVar[list[FakeVerifier]] = []

    def __init__(self, judge: Any, **settings: Any) -> None:
        self.judge = judge
        self.settings = settings
        self.notice = settings["notice"]
        given = settings["template"]
        self.template = load_template(given) if isinstance(given, str) else given
        self.seen: list[str] = []
        FakeVerifier.built.append(self)

    def score(
        self, source: Any, edited: Any, instruction: str, principles: Any = None, id: str | None = None
    ) -> EditVerdict:
        self.seen.append(instruction)
        if self.notice is not None:
            self.settings["on_notice"](self.notice)
        try:
            load_image(source)
            load_image(edited)
        except ImageError as exc:
            return EditVerdict(VerdictStatus.ERROR, error=str(exc), id=id)
        word, _, rest = instruction.partition(" ")
        if word == "dead":
            raise JudgeError("cannot reach the server")
        if word == "stop":
            raise KeyboardInterrupt
        if word == "bug":
            raise RuntimeError("something broke\nin two lines")
        if word != "score":
            return EditVerdict(VerdictStatus(word), error=f"it was told to: {rest}", judge="fake", id=id)
        checks = tuple(Check(p, k == 0, "because [it] is") for k, p in enumerate(principles or PRINCIPLES))
        passes = self.settings["passes"]
        stats = PassStats((float(rest),) * (passes - 1), 0.25, (1.0, 0.75), failed=1) if passes > 1 else None
        return EditVerdict(
            VerdictStatus.OK,
            checks,
            0.5,
            float(rest),
            judge="fake",
            prompt_hash=self.template.hash,
            id=id,
            passes=stats,
        )

    def score_many(
        self,
        items: Sequence[Any],
        *,
        on_verdict: Callable[[int, EditVerdict], None] | None = None,
        progress: bool = False,
    ) -> list[EditVerdict]:
        verdicts = []
        for index, item in enumerate(items):
            verdicts.append(self.score(**item))
            if on_verdict is not None:
                on_verdict(index, verdicts[-1])
        return verdicts

    def decompose(self, source: Any, instruction: str) -> tuple[Principle, ...]:
        load_image(source)
        return PRINCIPLES


@pytest.fixture
def embedded(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded model that is nothing but its settings."""
    models = tmp_path_factory.mktemp("models")
    folder = models / SHIPPED["embedded"]
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    own = {"template": "compact", "max_tokens": 300, "notice": "a notice", "passes_temperature": 0.5}
    (folder / "verifier_config.json").write_text(json.dumps(own))
    monkeypatch.setattr("editr1.judges.names.MODELS_FOLDER", models)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, embedded: None) -> list[FakeVerifier]:
    """Every verifier that the command line has made."""

    def build_judge(kind: str, model: str | None = None, **settings: Any) -> FakeJudge:
        judge = FakeJudge()
        judge.arguments = {"kind": kind, "model": model, **settings}  # type: ignore[attr-defined]
        return judge

    FakeVerifier.built = []
    monkeypatch.setitem(editr1.judges.__dict__, "build_judge", build_judge)
    monkeypatch.setitem(editr1.verifier.__dict__, "Verifier", FakeVerifier)
    return FakeVerifier.built


@pytest.fixture
def editr1_run(
    built: list[FakeVerifier], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """`editr1 ARGUMENTS` in a folder with the pictures a.png and b.png."""
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    Image.new("RGB", (8, 6), "blue").save(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as caught:
            run([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(int(caught.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def edits(tmp_path: Path) -> Callable[..., Path]:
    """Write edits.jsonl: one row per instruction, ids e1, e2, ...; a mapping is a row as it is, bytes a raw line."""

    def write(*instructions: str | dict[str, Any] | bytes, name: str = "edits.jsonl") -> Path:
        lines = []
        for number, item in enumerate(instructions, start=1):
            if isinstance(item, str):
                item = {"id": f"e{number}", "source": "a.png", "edited": "b.png", "instruction": item}
            lines.append(item if isinstance(item, bytes) else json.dumps(item).encode())
        path = tmp_path / name
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return write
