"""`editr1 score` against a real HTTP server, from the command line down to the socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, answer
from PIL import Image

from editr1.cli.main import run
from editr1.types import Category, Check, EditVerdict, Principle
from editr1.verifier.render import format_answer

PRINCIPLES = (Principle("Is the car red?", Category.FOLLOW), Principle("Is the street as before?", Category.KEEP))
ANSWER = format_answer(
    "The car was blue and is red now.",
    [Check(PRINCIPLES[0], True, "It is red."), Check(PRINCIPLES[1], False, "The street has moved.")],
    6.5,
    echo_question=True,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 12 edits, a stranger's key, and no patience for waits between retries."""
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "a.png")
    rows = []
    for number in range(12):
        Image.new("RGB", (40, 30), (200, number, 0)).save(tmp_path / f"b{number}.png")
        rows.append(
            {
                "id": f"e{number}",
                "source": "a.png",
                "edited": f"b{number}.png",
                "instruction": "paint the car red",
                "principles": [p.to_dict() for p in PRINCIPLES],
            }
        )
    (tmp_path / "edits.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editr1.judges.openai.backoff", lambda attempt, base: 0.01)
    return tmp_path


def score(server: ChatServer, *arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run(["score", *arguments, "--judge", "openai", "--base-url", server.url, "--model", "m", "--concurrency", "2"])
    return int(caught.value.code or 0)


def ids(path: Path, *, ok: bool) -> list[str]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line["id"] for line in lines if (line["status"] == "ok") is ok]


def test_one_edit_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p.json").write_text(json.dumps([p.to_dict() for p in PRINCIPLES]))
    one = ("--source", "a.png", "--edited", "b0.png", "--instruction", "paint the car red", "--principles", "p.json")
    with ChatServer(lambda body, number: answer(ANSWER)) as server:
        assert score(server, *one, "--json") == 0
    captured = capsys.readouterr()
    verdict = EditVerdict.from_dict(json.loads(captured.out))
    assert verdict.score == 6.5
    assert verdict.average_score == 0.5
    assert [(check.met, check.reason) for check in verdict.checks or ()] == [
        (True, "It is red."),
        (False, "The street has moved."),
    ]
    assert (verdict.judge, verdict.usage.calls, verdict.usage.completion_tokens) == ("m", 1, 7)
    assert captured.err == ""


def test_a_server_killed_in_mid_batch_costs_no_finished_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def dies(body: Any, number: int) -> Any:
        if number >= 5:
            threading.Thread(target=server.stop).start()
            server.hang()
        return answer(ANSWER)

    server = ChatServer(dies)
    assert score(server, "edits.jsonl", "--out", "v.jsonl") == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: the judge stopped answering (http://127.0.0.1:{server.port}/v1")
    assert "5 of 12 edits have a verdict, mean score 6.50, 7 failed; they are kept in v.jsonl" in message
    assert message.endswith("run the same command again to score only what is missing")
    done = ids(folder / "v.jsonl", ok=True)
    assert len(done) == 5

    with ChatServer(lambda body, number: answer(ANSWER)) as back:
        assert score(back, "edits.jsonl", "--out", "v.jsonl") == 0
    assert len(back.seen) == 7
    assert "12 of 12 edits have a verdict (5 from before)" in capsys.readouterr().err
    assert ids(folder / "v.jsonl", ok=True) == [f"e{number}" for number in range(12)]


def test_a_server_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ChatServer() as server:
        pass
    assert score(server, "edits.jsonl", "--out", "v.jsonl") == 2
    *_, message = lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 5  # of 12 edits: what is the same is told once
    assert message.startswith("error: ")
    assert f"127.0.0.1:{server.port}" in message


def test_an_answer_that_cannot_be_read_is_no_score(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rambles(body: Any, number: int) -> Any:
        return answer("It looks fine to me, I would say 8.")

    with ChatServer(rambles) as server:
        assert score(server, "edits.jsonl", "--limit", "1", "--json", "--set", "max_tries=2") == 2
    data = json.loads(capsys.readouterr().out)
    assert (data["status"], data["score"], data["usage"]["calls"]) == ("unparseable", None, 2)


def test_answers_are_cached(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    behaviour: Callable[..., Any] = lambda body, number: answer(ANSWER)  # noqa: E731
    with ChatServer(behaviour) as server:
        for _ in range(2):
            assert score(server, "edits.jsonl", "--cache", "answers", "--json") == 0
        assert len(server.seen) == 12
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["usage"]["cached"] == 1
