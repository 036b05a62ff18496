"""The real thing: the command in a process of its own, a server on a socket, SIGKILL; and workers of Ray."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chat_server import Broken, ChatServer, answer
from PIL import Image

from editr1.curation.engines import RayEngine
from editr1.curation.run import Curation

pytestmark = pytest.mark.slow

CONTEXTS = 6
KILLED_AT = {"select": 3, "decompose": 2, "trace": 9, "verify": 4}


def role_of(body: dict[str, Any]) -> str:
    system = body["messages"][0]["content"]
    marks = {"sort instructions": "select", "Split the instruction": "decompose", "final authority": "verify"}
    return next((role for mark, role in marks.items() if mark in system), "trace")


def reply_to(role: str, draw: int) -> str:
    """Valid answers that depend on the request."""
    bits = [draw >> n & 1 for n in range(3)]
    if role == "select":
        return json.dumps({"reason": "because", "kinds": ["implicit"] if draw % 4 else [], "keep": bool(draw % 4)})
    if role == "decompose":
        categories = ("Instruction Following", "Feature Preservation", "Image Quality")
        return json.dumps([{"question": f"Question {n}?", "category": c} for n, c in enumerate(categories)])
    if role == "verify":
        return json.dumps([{"id": n, "reason": "seen", "gold": bit} for n, bit in enumerate(bits, start=1)])
    rows = json.dumps([{"id": n, "reason": "seen", "score": bit} for n, bit in enumerate(bits, start=1)])
    return f'I look.\n{rows}\n{{"average_score": {sum(bits) / 3:.2f}}}\n<score>{draw % 10}.5</score>'


class Judges:
    """A server that counts what it answered, and kills its client when it is told to."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        self.kill: tuple[str, int] | None = None
        self.pid = 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any], number: int) -> Any:
        role, key = role_of(body), hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._lock:
            self._seen[role] += 1
            if self.kill == (role, self._seen[role]):
                self.kill = None
                time.sleep(0.1)  # what was answered before has long been received
                os.kill(self.pid, signal.SIGKILL)
                raise Broken
            self.answered[role, key] += 1
        return answer(reply_to(role, int(key[:8], 16)))


@pytest.fixture
def recipe(tmp_path: Path):
    """Contexts in a folder, finished edits in another, and one server in every judge's place."""

    def paint(path: Path, color: tuple[int, int, int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.new("RGB", (24, 16), color).save(buffer, format="PNG")
        path.write_bytes(buffer.getvalue())

    lines = []
    for n in range(3 * CONTEXTS):
        paint(tmp_path / f"data/images/{n}.png", (n, 80, 80))
        paint(tmp_path / f"edits/{n}.png", (n, 200, 0))
        lines.append(json.dumps({"prompt": f"Do thing {n}.", "image": f"{n}.png", "requirement": ""}) + "\n")
    (tmp_path / "data/train_metadata.jsonl").write_text("".join(lines))

    def write(url: str) -> Path:
        judge = f'{{ kind = "openai", model = "m", base_url = "{url}", concurrency = 1 }}'
        path = tmp_path / "recipe.toml"
        path.write_text(f"""
name = "kill"
template = "compact"
shard_size = 4
[source]
kind = "folder"
path = "{tmp_path / "data"}"
[select]
random = {CONTEXTS // 2}
hard = {CONTEXTS // 2}
pass_rate = 0.9
judge = {judge}
[decompose]
judge = {judge}
[[edit.editors]]
kind = "folder"
model = "{tmp_path / "edits"}"
[trace]
judges = [{judge}]
samples = 2
[verify]
judge = {judge}
[export]
holdout = 0.0
""")
        return path

    return write


def curate(recipe: Path, out: Path, judges: Judges) -> int:
    command = [sys.executable, "-m", "editr1", "curate", str(recipe), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    judges.pid = process.pid
    said, _ = process.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGKILL), said
    return process.returncode


def exported(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted((folder / "export").rglob("*.*"))}


@pytest.mark.timeout(400)
def test_killed_for_good_in_every_stage_no_answer_is_asked_for_twice(recipe, tmp_path: Path) -> None:
    judges = Judges()
    with ChatServer(judges) as server:
        path = recipe(server.url)
        assert curate(path, tmp_path / "whole", judges) == 0
        whole = Counter(judges.answered)
        assert set(whole.values()) == {1}
        judges.answered.clear()
        judges._seen.clear()
        for stage, number in KILLED_AT.items():
            judges.kill = (stage, number)
            assert curate(path, tmp_path / "killed", judges) == -signal.SIGKILL, stage
        assert curate(path, tmp_path / "killed", judges) == 0
    assert judges.answered == whole
    assert exported(tmp_path / "killed") == exported(tmp_path / "whole")
    assert len(exported(tmp_path / "whole")) >= 2


@pytest.mark.timeout(400)
def test_workers_of_ray_make_the_same_data_set(sticker_recipe, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    small = sticker_recipe()
    Curation(small, tmp_path / "here").run()
    try:
        result = Curation(small, tmp_path / "ray", engine=RayEngine(workers=2)).run()
    finally:
        ray.shutdown()
    assert sum(result.rows.values()) > 6
    assert exported(tmp_path / "ray") == exported(tmp_path / "here")
