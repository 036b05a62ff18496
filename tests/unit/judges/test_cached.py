"""The cache: what is kept, under which key, and that no damage makes an answer."""

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from editr1.errors import JudgeError
from editr1.judges import (
    CachedJudge,
    ChatReply,
    ChatRequest,
    Judge,
    Message,
    Picture,
    ReplyStatus,
    Sampling,
    ScriptedJudge,
    Text,
)
from editr1.types import Usage


def request(text="hello", colour="red", *, fresh=0, **sampling):
    content = (Picture(Image.new("RGB", (4, 4), colour)), Text(text))
    return ChatRequest((Message("user", content),), Sampling(**sampling), fresh)


def echo(asked):
    return asked.messages[0].content[1].text + "!"


def files(folder):
    return sorted(folder.glob("*/*.json"))


def test_what_was_answered_is_not_asked_again(tmp_path):
    inner = ScriptedJudge(echo)
    first = CachedJudge(inner, tmp_path).chat([request("a"), request("b")])
    again = CachedJudge(inner, tmp_path).chat([request("b"), request("c"), request("a")])
    assert isinstance(CachedJudge(inner, tmp_path), Judge)
    assert [r.text for r in first] == ["a!", "b!"]
    assert [r.text for r in again] == ["b!", "c!", "a!"]
    assert len(inner.requests) == 3
    assert again[0].usage == Usage(cached=1)  # no tokens were spent
    assert again[1].usage.calls == 1


def test_nothing_is_asked_if_all_is_there(tmp_path):
    CachedJudge(ScriptedJudge(echo), tmp_path).chat([request("a")])
    assert CachedJudge(ScriptedJudge([]), tmp_path).chat([request("a")])[0].text == "a!"


def test_everything_that_can_change_an_answer_is_in_the_key(tmp_path):
    variants = [
        request(),
        request("other"),
        request(colour="blue"),
        request(fresh=1),
        request(temperature=0.5),
        request(max_tokens=9),
        request(top_p=0.5),
        request(seed=1),
    ]
    inner = ScriptedJudge(echo)
    CachedJudge(inner, tmp_path).chat(variants)
    CachedJudge(ScriptedJudge(echo, name="another"), tmp_path).chat(variants)
    assert len(inner.requests) == len(variants)
    assert len(files(tmp_path)) == 2 * len(variants)


@pytest.mark.parametrize("status", [s for s in ReplyStatus if s is not ReplyStatus.OK])
def test_failures_are_asked_again(tmp_path, status):
    inner = ScriptedJudge([ChatReply(status, "half", Usage(5, 6, 1), error="no"), "whole"])
    judge = CachedJudge(inner, tmp_path)
    failed = judge.chat([request()])[0]
    assert (failed.status, failed.usage, failed.error) == (status, Usage(5, 6, 1), "no")
    assert files(tmp_path) == []
    assert judge.chat([request()])[0].text == "whole"


def test_equal_requests_of_a_batch_are_asked_once(tmp_path):
    inner = ScriptedJudge(echo)
    replies = CachedJudge(inner, tmp_path).chat([request("a"), request("b"), request("a")])
    assert [r.text for r in replies] == ["a!", "b!", "a!"]
    assert len(inner.requests) == 2
    assert replies[2].usage == Usage(cached=1)


def test_on_reply_covers_hits_misses_and_doubles(tmp_path):
    CachedJudge(ScriptedJudge(echo), tmp_path).chat([request("a")])
    seen = {}
    asked = [request("b"), request("a"), request("b"), request("c")]
    replies = CachedJudge(ScriptedJudge(echo), tmp_path).chat(asked, on_reply=seen.__setitem__)
    assert seen == dict(enumerate(replies))


def test_what_was_answered_before_the_judge_broke_down_is_kept(tmp_path):
    asked = [request(str(i)) for i in range(5)]
    with pytest.raises(JudgeError):
        CachedJudge(ScriptedJudge(echo, fail_after=3), tmp_path).chat(asked)
    inner = ScriptedJudge(echo)
    assert [r.text for r in CachedJudge(inner, tmp_path).chat(asked)] == [f"{i}!" for i in range(5)]
    assert len(inner.requests) == 2


def test_a_judge_that_never_calls_on_reply_works_too(tmp_path):
    class Silent(ScriptedJudge):
        def chat(self, requests, *, on_reply=None):
            return super().chat(requests)

    assert CachedJudge(Silent(echo), tmp_path).chat([request("a")])[0].text == "a!"
    assert len(files(tmp_path)) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_entry_is_asked_again_and_mended(tmp_path, data):
    text = data.draw(st.text(min_size=1).filter(str.strip))
    asked = request("x")
    for old in files(tmp_path):
        old.unlink()
    CachedJudge(ScriptedJudge([text]), tmp_path).chat([asked])
    [path] = files(tmp_path)
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=8)) + whole[start + data.draw(st.integers(0, 9)) :]
    path.write_bytes(damaged)
    [reply] = CachedJudge(ScriptedJudge(["asked again"]), tmp_path).chat([asked])
    assert reply.text in (text, "asked again")  # never a damaged text
    [again] = CachedJudge(ScriptedJudge([]), tmp_path).chat([asked])
    assert again.text == reply.text


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "{}", '{"text": 5, "check": ""}', "\x00" * 40])
def test_garbage_is_no_answer(tmp_path, content):
    CachedJudge(ScriptedJudge(["right"]), tmp_path).chat([request()])
    files(tmp_path)[0].write_text(content)
    assert CachedJudge(ScriptedJudge(["anew"]), tmp_path).chat([request()])[0].text == "anew"


def test_an_entry_under_another_key_is_no_answer(tmp_path):
    judge = CachedJudge(ScriptedJudge(echo), tmp_path)
    judge.chat([request("a"), request("b")])
    one, two = files(tmp_path)
    one.write_bytes(two.read_bytes())
    two.unlink()
    assert {r.text for r in judge.chat([request("a"), request("b")])} == {"a!", "b!"}


def test_any_text_survives(tmp_path):
    text = "星 \ud83d \x00 \r\n \u2028 \U0001f600 \"'\\"
    CachedJudge(ScriptedJudge([text]), tmp_path).chat([request()])
    assert CachedJudge(ScriptedJudge([]), tmp_path).chat([request()])[0].text == text


def test_a_folder_that_cannot_be_written_costs_no_answer(tmp_path, caplog):
    judge = CachedJudge(ScriptedJudge(echo), tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("in the way")
    assert judge.chat([request("a")])[0].text == "a!"
    assert "could not be cached" in caplog.text
    with pytest.raises(JudgeError, match="name another"):
        CachedJudge(ScriptedJudge(echo), tmp_path / "cache" / "below")


def test_several_processes_share_a_folder(tmp_path):
    code = """
import sys
from editr1.judges import CachedJudge, ChatRequest, Message, ScriptedJudge, Text
asked = [ChatRequest((Message("user", (Text(str(i)),)),)) for i in range(60)]
for _ in range(3):
    replies = CachedJudge(ScriptedJudge(lambda r: r.messages[0].content[0].text * 500), sys.argv[1]).chat(asked)
    assert [r.text for r in replies] == [str(i) * 500 for i in range(60)]
"""
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(files(tmp_path)) == 60
    assert all(json.loads(path.read_text())["text"] for path in files(tmp_path))
    assert not list(tmp_path.glob("*/.*"))  # nothing half-written is left
