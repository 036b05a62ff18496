"""VLLMJudge against a stand-in for the `vllm` module; the real one is in tests/contract/test_real_server.py."""

import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from PIL import Image

from editr1.errors import ConfigError, MissingExtraError, ModelError
from editr1.judges import ChatRequest, Judge, Message, Picture, ReplyStatus, Sampling, Text, VLLMJudge

END = "stop"


class FakeLLM:
    """Says each chat's last text back; "long" is cut off, "blank" stays empty, "bad" makes the whole call raise."""

    made: ClassVar[list] = []

    def __init__(self, **options):
        if options["model"] == "missing/model":
            raise OSError("no such\nmodel")
        self.options, self.calls = options, []
        FakeLLM.made.append(self)

    def get_default_sampling_params(self):
        return SimpleNamespace(repetition_penalty=1.05)

    def chat(self, messages, sampling_params, lora_request, use_tqdm):
        self.calls.append((messages, sampling_params, lora_request))
        texts = [conversation[-1]["content"][-1]["text"] for conversation in messages]
        if "bad" in texts:
            raise ValueError("The prompt is longer than the maximum model length")
        return [self.output(text) for text in texts]

    def output(self, text):
        reason = {"long": "length", "abort": "abort"}.get(text, END)
        said = " " if text == "blank" else text
        answer = SimpleNamespace(text=said, token_ids=[1] * len(said), finish_reason=reason)
        return SimpleNamespace(prompt_token_ids=[0] * 7, outputs=[answer])


@pytest.fixture(autouse=True)
def fake_vllm(monkeypatch):
    module, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    module.LLM, module.SamplingParams = FakeLLM, SimpleNamespace
    request.LoRARequest = lambda name, number, path: (name, number, path)
    for part in (module, lora, request):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    monkeypatch.setattr(FakeLLM, "made", [])


def chat(text="fine", *, fresh=0, **sampling):
    content = (Picture(Image.new("RGB", (4, 4), "red")), Text(text))
    return ChatRequest((Message("user", content),), Sampling(**sampling), fresh)


def test_pictures_and_sampling_reach_vllm_and_prefixes_are_shared():
    judge = VLLMJudge("some/model", tensor_parallel_size=2)
    asked = chat("fine", max_tokens=5, temperature=0.5, top_p=0.9, seed=3, fresh=4)
    [reply] = judge.chat([asked])
    [engine] = FakeLLM.made
    assert isinstance(judge, Judge)
    assert engine.options["enable_prefix_caching"] is True
    assert engine.options["tensor_parallel_size"] == 2
    (messages, (sampling,), _), *_ = engine.calls
    assert messages[0][0]["content"][0] == {"type": "image_pil", "image_pil": asked.messages[0].content[0].image}
    assert vars(sampling) == {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "repetition_penalty": 1.05,
    }
    assert (reply.text, reply.usage.prompt_tokens, reply.usage.completion_tokens) == ("fine", 7, 4)


def test_kinds_of_answers_are_told_apart_and_a_bad_request_fails_alone():
    seen = {}
    texts = ["fine", "long", "bad", "blank", "abort", "fine"]
    replies = VLLMJudge("some/model", chunk=4).chat([chat(t) for t in texts], on_reply=seen.__setitem__)
    wanted = [
        ReplyStatus.OK,
        ReplyStatus.TRUNCATED,
        ReplyStatus.ERROR,
        ReplyStatus.EMPTY,
        ReplyStatus.ERROR,
        ReplyStatus.OK,
    ]
    assert [r.status for r in replies] == wanted
    assert "maximum model length" in replies[2].error
    assert seen == dict(enumerate(replies))
    assert all((r.error is None) == r.ok for r in replies)


def test_an_adapter_goes_with_every_call_and_into_the_fingerprint(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    judge = VLLMJudge("some/model", adapter=str(tmp_path))
    judge.chat([chat()])
    assert FakeLLM.made[0].options["enable_lora"] is True
    assert FakeLLM.made[0].calls[0][2] == ("adapter", 1, str(tmp_path))
    prints = {
        judge.fingerprint,
        VLLMJudge("some/model").fingerprint,
        VLLMJudge("some/model", dtype="float16").fingerprint,
    }
    assert len(prints) == 3
    assert VLLMJudge("some/model", gpu_memory_utilization=0.5).fingerprint in prints


def test_an_adapters_folder_stands_for_its_base_with_it(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "some/model"}')
    judge = VLLMJudge(tmp_path)
    judge.chat([chat()])
    assert FakeLLM.made[0].options["model"] == "some/model"
    assert FakeLLM.made[0].calls[0][2] == ("adapter", 1, str(tmp_path))
    assert judge.fingerprint == VLLMJudge("some/model", adapter=str(tmp_path)).fingerprint
    with pytest.raises(ConfigError, match="is an adapter itself"):
        VLLMJudge(tmp_path, adapter="another")


def test_errors_say_what_to_do(monkeypatch):
    with pytest.raises(ModelError, match=r"vLLM cannot load 'missing/model' \(no such model\)"):
        VLLMJudge("missing/model")
    with pytest.raises(ConfigError, match="chunk"):
        VLLMJudge("some/model", chunk=0)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"editr1\[vllm\]"):
        VLLMJudge("some/model")
