"""A scoring service that hangs, talks nonsense and dies while an editor learns from it, real down to the socket."""

from __future__ import annotations

import base64
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import ChatServer
from editor_helpers import make_recipe, rows, write_editor, write_tasks
from PIL import Image

from editr1.rewards import HttpReward, RewardError
from editr1.training.editor.loop import train_editor

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_lookup_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editr1.rundir.describe_environment", lambda seeds=None: {"seeds": seeds})


def verdicts(body: Any) -> Any:
    """A whole answer: ten times the brightness of each edited picture."""
    found = []
    for item in body["items"]:
        image = Image.open(io.BytesIO(base64.b64decode(item["edited"])))
        score = float(np.asarray(image).mean()) / 25.5
        check = {"question": "Is it bright?", "category": "Instruction Following", "met": True}
        found.append({"id": item["id"], "status": "ok", "score": score, "average_score": 1.0, "checks": [check]})
    return 200, {}, {"verdicts": found}


def client(url: str) -> HttpReward:
    """Without patience: one attempt of a second, a request a group."""
    return HttpReward(url, timeout=3.0, max_retries=0, timeout_retries=0, items_per_request=4, concurrency=1)


def test_hangs_and_nonsense_are_masked_and_counted(tmp_path: Path) -> None:
    """Of six groups in three iterations three get no answer that can be used; the other three teach."""

    def misbehaves(body: Any, number: int) -> Any:
        if number == 1:
            return 200, {}, "{nonsense"
        if number == 3:
            server.hang()
        if number == 5:
            return 200, {}, {"verdicts": verdicts(body)[2]["verdicts"][1:]}
        return verdicts(body)

    with ChatServer(misbehaves) as server:
        failures = {"retries": 0, "max_share": 0.6, "window": 8}
        recipe = make_recipe(
            write_editor(tmp_path / "editor"), write_tasks(tmp_path / "tasks"), failures=failures,
            sampling={"steps": 4, "overlap": True},
        )  # fmt: skip
        lora = train_editor(recipe, tmp_path / "run", lambda: client(server.url))
    found = rows(tmp_path / "run")
    assert [row["unscored"] for row in found] == [0.5, 0.5, 0.5]
    assert [row["updates"] for row in found] == [1, 1, 1]
    assert [row["zero_variance"] for row in found] == [0.5, 0.5, 0.5]
    assert found[-1]["failed_timeout"] == 4
    assert found[-1]["failed_error"] == 8
    assert found[-1]["failed"] == 12
    assert (lora / "pytorch_lora_weights.safetensors").is_file()


def test_a_service_that_dies_stops_the_run_and_back_again_it_goes_on(tmp_path: Path) -> None:
    def dies(body: Any, number: int) -> Any:
        if number >= 2:
            threading.Thread(target=server.stop).start()
            server.hang()
        return verdicts(body)

    failures = {"retries": 0, "max_share": 0.5, "window": 8}
    recipe = make_recipe(
        write_editor(tmp_path / "editor"), write_tasks(tmp_path / "tasks"), save_every=100, failures=failures
    )
    server = ChatServer(dies)
    with pytest.raises(RewardError, match=r"stopped in iteration 2, the same command goes on.*8 of the last 8 rewards"):
        train_editor(recipe, tmp_path / "run", lambda: client(server.url))
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text() == "step-000001\n"
    with ChatServer(lambda body, number: verdicts(body)) as back:
        train_editor(recipe, tmp_path / "run", lambda: client(back.url))
    assert [(row["step"], row["unscored"]) for row in rows(tmp_path / "run")] == [(1, 0), (2, 0), (3, 0)]
