"""The fake for tests, and the package's own front door."""

import subprocess
import sys

import pytest

from editr1.errors import ConfigError, JudgeError, ModelError
from editr1.judges import ChatReply, ChatRequest, Judge, Message, ReplyStatus, ScriptedJudge, Text, build_judge
from editr1.types import Usage


def request(text="hello there"):
    return ChatRequest((Message("user", (Text(text),)),))


def test_lines_are_used_up_in_order_over_calls():
    judge = ScriptedJudge(["one", "two", "three"])
    assert isinstance(judge, Judge)
    assert [r.text for r in judge.chat([request(), request()])] == ["one", "two"]
    assert judge.chat([request("last")])[0].text == "three"
    assert judge.requests[2] == request("last")
    with pytest.raises(JudgeError, match="3 lines"):
        judge.chat([request()])


def test_functions_failures_and_empty_lines():
    refused = ChatReply(ReplyStatus.REFUSED, error="no")
    judge = ScriptedJudge(lambda r: refused if "bad" in r.messages[0].content[0].text else "")
    replies = judge.chat([request("bad"), request("good")])
    assert replies[0] == refused
    assert replies[1].status is ReplyStatus.EMPTY


def test_words_are_counted_as_tokens_and_on_reply_is_called():
    seen = []
    [reply] = ScriptedJudge(["one two three"]).chat([request()], on_reply=lambda i, r: seen.append((i, r)))
    assert reply.usage == Usage(2, 3, 1)
    assert seen == [(0, reply)]


def test_breaking_down_and_latency():
    judge = ScriptedJudge(lambda r: "x", fail_after=2, latency=0.01)
    seen = []
    with pytest.raises(JudgeError, match="breaks down after 2"):
        judge.chat([request()] * 5, on_reply=lambda i, r: seen.append(r.seconds))
    assert len(seen) == 2
    assert min(seen) >= 0.01


def test_a_single_text_is_a_mistake():
    with pytest.raises(TypeError, match="list of texts"):
        ScriptedJudge("hello")


class TestBuild:
    def test_unknown_kinds_name_the_nearest(self):
        with pytest.raises(ConfigError, match="did you mean 'transformers'"):
            build_judge("transfomers")
        with pytest.raises(ConfigError, match="embedded, transformers, openai, vllm"):
            build_judge("zzz")

    @pytest.mark.parametrize("kind", ["transformers", "openai", "vllm"])
    def test_a_model_is_needed(self, kind):
        with pytest.raises(ConfigError, match="needs a model"):
            build_judge(kind)

    def test_openai_and_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("THE_KEY", "k")
        judge = build_judge(
            "openai", "m", base_url="http://127.0.0.1:9/v1", api_key_env="THE_KEY", concurrency=3, cache_dir=tmp_path
        )
        assert judge.folder == tmp_path
        assert (judge.judge.concurrency, judge.judge.base_url) == (3, "http://127.0.0.1:9/v1")
        assert judge.fingerprint == judge.judge.fingerprint

    def test_local_models(self, tmp_path):
        with pytest.raises(ModelError, match="no model"):
            build_judge("transformers", str(tmp_path / "none"))
        with pytest.raises(ModelError, match="no model"):
            build_judge("embedded", str(tmp_path / "none"))


def test_the_package_and_its_light_judges_load_neither_torch_nor_openai():
    code = """
import sys
import editr1.judges
from editr1.judges import CachedJudge, ScriptedJudge, build_judge
heavy = {"torch", "transformers", "openai", "vllm"} & set(sys.modules)
assert not heavy, heavy
from editr1.judges import OpenAIJudge
assert "torch" not in sys.modules
assert "OpenAIJudge" in dir(editr1.judges)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    import editr1.judges

    with pytest.raises(AttributeError, match="NoJudge"):
        editr1.judges.NoJudge  # noqa: B018
