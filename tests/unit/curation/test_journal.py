"""The journal: what is kept, what is asked again, and what a crash leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editr1.curation.journal import GONE_AFTER, JournaledJudge, Spent, Streak
from editr1.errors import JudgeError
from editr1.judges import ChatReply, ChatRequest, Message, ReplyStatus, ScriptedJudge, Text
from editr1.types import Usage


def asks(*texts: str) -> list[ChatRequest]:
    return [ChatRequest((Message("user", (Text(text),)),)) for text in texts]


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    first = JournaledJudge(ScriptedJudge(["one", "two \ud800"]), path)
    first.chat(asks("a", "b"))
    inner = ScriptedJudge(["three"])
    second = JournaledJudge(inner, path)
    seen: list[int] = []
    replies = second.chat(asks("b", "c", "a"), on_reply=lambda index, reply: seen.append(index))
    assert [r.text for r in replies] == ["two \ud800", "three", "one"]
    assert [r.messages[0].content[0].text for r in inner.requests] == ["c"]
    assert sorted(seen) == [0, 1, 2]
    assert (second.spent.calls, second.spent.asked) == (3, 1)


def test_the_cost_is_the_same_whether_asked_or_recalled(tmp_path: Path) -> None:
    reply = ChatReply(ReplyStatus.OK, "x", Usage(10, 4, 2), seconds=1.25)
    first = JournaledJudge(ScriptedJudge([reply]), tmp_path / "j")
    first.chat(asks("a"))
    second = JournaledJudge(ScriptedJudge([]), tmp_path / "j")
    second.chat(asks("a"))
    assert first.spent.to_dict() | {"asked": 0} == second.spent.to_dict()
    assert second.spent.prompt_tokens == 10
    assert Spent.from_dict(second.spent.to_dict()) == second.spent


@pytest.mark.parametrize(
    ("status", "kept"),
    [(s, s is not ReplyStatus.ERROR) for s in ReplyStatus],
)
def test_every_answer_is_kept_but_errors(tmp_path: Path, status: ReplyStatus, kept: bool) -> None:
    JournaledJudge(ScriptedJudge([ChatReply(status, "x", error="y")]), tmp_path / "j").chat(asks("a"))
    inner = ScriptedJudge(["again"])
    (reply,) = JournaledJudge(inner, tmp_path / "j").chat(asks("a"))
    assert (len(inner.requests) == 0) is kept
    assert reply.status is (status if kept else ReplyStatus.OK)


def test_a_status_can_be_forgotten(tmp_path: Path) -> None:
    JournaledJudge(ScriptedJudge([ChatReply(ReplyStatus.TIMEOUT), "ok"]), tmp_path / "j").chat(asks("a", "b"))
    inner = ScriptedJudge(["again"])
    journal = JournaledJudge(inner, tmp_path / "j", forget=frozenset({ReplyStatus.TIMEOUT}))
    assert [r.text for r in journal.chat(asks("a", "b"))] == ["again", "ok"]
    assert [r.text for r in JournaledJudge(ScriptedJudge([]), tmp_path / "j").chat(asks("a"))] == ["again"]


def test_equal_requests_of_one_batch_are_one_call(tmp_path: Path) -> None:
    inner = ScriptedJudge(["one", "two"])
    replies = JournaledJudge(inner, tmp_path / "j").chat(asks("a", "b", "a"))
    assert [r.text for r in replies] == ["one", "two", "one"]
    assert len(inner.requests) == 2


def test_another_judge_has_other_answers(tmp_path: Path) -> None:
    JournaledJudge(ScriptedJudge(["one"], name="x"), tmp_path / "j").chat(asks("a"))
    assert JournaledJudge(ScriptedJudge(["two"], name="y"), tmp_path / "j").chat(asks("a"))[0].text == "two"


def test_a_torn_line_is_cut_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    JournaledJudge(ScriptedJudge(["one", "two"]), path).chat(asks("a", "b"))
    path.write_bytes(path.read_bytes()[:-9])
    inner = ScriptedJudge(["two again"])
    assert [r.text for r in JournaledJudge(inner, path).chat(asks("a", "b"))] == ["one", "two again"]
    lines = path.read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["one", "two again"]


def test_an_answer_is_on_disk_before_anything_is_made_of_it(tmp_path: Path) -> None:
    path = tmp_path / "j"

    def on_reply(index: int, reply: ChatReply) -> None:
        assert len(path.read_text().splitlines()) == index + 1

    JournaledJudge(ScriptedJudge(["one", "two"]), path).chat(asks("a", "b"), on_reply=on_reply)


def test_what_a_broken_judge_answered_first_is_kept(tmp_path: Path) -> None:
    with pytest.raises(JudgeError):
        JournaledJudge(ScriptedJudge(["one"]), tmp_path / "j").chat(asks("a", "b"))
    assert JournaledJudge(ScriptedJudge([]), tmp_path / "j").chat(asks("a"))[0].text == "one"


def test_errors_in_a_row_over_several_batches_mean_that_the_judge_is_gone(tmp_path: Path) -> None:
    error = ChatReply(ReplyStatus.ERROR, error="no connection")
    streak = Streak()
    judge = ScriptedJudge(["fine", *[error] * (GONE_AFTER - 1), "fine", *[error] * GONE_AFTER])
    for number in range(GONE_AFTER + 1):
        JournaledJudge(judge, tmp_path / f"{number}", streak=streak).chat(asks(f"{number}"))
    JournaledJudge(judge, tmp_path / "x", streak=streak).chat(asks(*(f"x{n}" for n in range(GONE_AFTER - 1))))
    file = tmp_path / "work"
    file.touch()
    streak.files.append(file)
    with pytest.raises(JudgeError, match="stopped answering.*no connection"):
        JournaledJudge(judge, tmp_path / "y", streak=streak).chat(asks("y"))
    assert not file.exists()
