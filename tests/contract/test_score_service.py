"""The reward client against the scoring service, both real down to the socket, and against a server that misbehaves."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request

import httpx
import pytest
import uvicorn
from chat_server import ChatServer, fault
from PIL import Image

from editr1 import Category, Check, Principle, Verifier
from editr1.judges import ChatReply, ReplyStatus, ScriptedJudge
from editr1.rewards import BackgroundScorer, EditSample, FailureGuard, HttpReward, RewardError, VerifierReward
from editr1.rewards.wire import encode_image
from editr1.serving import Limits, create_app
from editr1.serving.process import bind
from editr1.types import EditTask
from editr1.verifier.render import format_answer

PRINCIPLES = (
    Principle("Is it red?", Category.FOLLOW),
    Principle("Is the rest as before?", Category.KEEP),
    Principle("Is the picture sharp?", Category.QUALITY),
)
SOURCE = Image.new("RGB", (12, 8), "blue")


def answer(score):
    checks = [Check(p, p.category is Category.FOLLOW, "so it is") for p in PRINCIPLES]
    return format_answer("I looked.", checks, score, echo_question=True)


def shade(request):
    """The red of the edited picture of a chat, 0 to 255."""
    return [part.image for m in request.messages for part in m.content if hasattr(part, "image")][-1].getpixel((0, 0))[
        0
    ]


def score_by_shade(request):
    return answer(shade(request) / 10)


def sample(number, **more):
    """A sample whose verdict is to be number / 10."""
    task = EditTask("c", SOURCE, "paint it red", PRINCIPLES)
    return EditSample(task, Image.new("RGB", (12, 8), (number, 0, 0)), f"s{number}", **more)


def samples(number):
    return [sample(i) for i in range(number)]


class Service:
    """`create_app` under uvicorn on a free port, in a thread."""

    def __init__(self, reply=score_by_shade, *, judge=None, port=0, **options):
        self.judge = judge or ScriptedJudge(reply)
        self.sock = bind("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        config = uvicorn.Config(create_app(Verifier(self.judge, max_tries=1), **options), log_level="critical")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.sock]}, daemon=True)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *exc):
        self.server.should_exit = True
        self.thread.join(20)
        self.sock.close()

    def ask(self, body=None, *, path="/v1/score", method="POST", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        with httpx.Client(trust_env=False) as client:
            return client.request(method, self.url + path, content=content if method == "POST" else None, headers=given)


def reward(url, **options):
    quick = {"backoff_seconds": 0.01, "max_retries": 3, "timeout": 30.0, "items_per_request": 3, "concurrency": 4}
    return HttpReward(url, scale="score", **quick | options)


def png(size=(12, 8), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def item(**change):
    principles = [p.to_dict() for p in PRINCIPLES]
    return {"id": "x", "source": png(), "edited": png(), "instruction": "do", "principles": principles} | change


def error_of(response):
    """The sentence of an error answer, which has nothing else in it."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type"}
    message = body["error"]["message"]
    assert "Traceback" not in message
    assert "\n" not in message
    return response.status_code, message


# the service and its client


def test_over_http_the_reward_is_the_one_of_this_process():
    batch = samples(10)
    local = VerifierReward(Verifier(ScriptedJudge(score_by_shade)), scale="score").score(batch)
    with Service() as service:
        kept = {}
        remote = reward(service.url).score(batch, on_result=kept.__setitem__)
    assert [r.value for r in remote] == [r.value for r in local] == [i / 10 for i in range(10)]
    assert kept == dict(enumerate(remote))
    for ours, theirs in zip(local, remote):
        assert theirs.verdict.checks == ours.verdict.checks
        assert theirs.verdict.prompt_hash == ours.verdict.prompt_hash
        assert theirs.verdict.reasoning == ours.verdict.reasoning


def test_failures_keep_their_kind_over_http():
    def moody(request):
        number = shade(request)
        replies = {1: ChatReply(ReplyStatus.REFUSED, error="no"), 2: ChatReply(ReplyStatus.TIMEOUT), 3: "hm"}
        return replies.get(number, answer(5.0))

    with Service(moody) as service:
        results = reward(service.url).score([*samples(5), EditSample(sample(0).task, "missing.png", "s")])
    assert [r.status.value for r in results] == ["ok", "refused", "timeout", "unparseable", "ok", "error"]
    assert "missing.png" in results[5].error


def test_the_service_decomposes_what_comes_without_principles():
    def reply(request):
        pictures = sum(hasattr(p, "image") for m in request.messages for p in m.content)
        return json.dumps([p.to_dict() for p in PRINCIPLES]) if pictures == 1 else score_by_shade(request)

    task = EditTask("c", SOURCE, "paint it red")
    batch = [EditSample(task, s.edited, s.id) for s in samples(6)]
    with Service(reply, window=0.2) as service:
        results = reward(service.url).score(batch)
    assert [r.value for r in results] == [i / 10 for i in range(6)]
    assert len(service.judge.requests) == 1 + 6  # one context: split once, though it came in two requests


def test_concurrent_requests_become_one_call_of_the_judge():
    calls = []

    class Counting(ScriptedJudge):
        def chat(self, requests, *, on_reply=None):
            calls.append(len(requests))
            return super().chat(requests, on_reply=on_reply)

    with Service(judge=Counting(score_by_shade), window=0.5) as service:
        assert all(r.ok for r in reward(service.url).score(samples(12)))
    assert calls == [12]


def test_health_and_models():
    with Service() as service:
        reward(service.url).score(samples(2))
        health = service.ask(path="/health", method="GET").json()
        models = service.ask(path="/v1/models", method="GET").json()
    assert health == {"status": "ok", "model": "scripted", "pending": 0, "batches": 1, "verdicts": {"ok": 2}}
    assert [m["id"] for m in models["data"]] == ["scripted"]


def test_what_is_wrong_with_one_item_costs_that_item_alone():
    bad = {
        "base64": item(edited="???"),
        "prefix": item(edited=f"data:image/png;base64,{png()}"),
        "format": item(source=png(kind="GIF")),
        "large": item(edited=png((101, 100))),
        "category": item(principles=[{"question": "Is it?", "category": "Taste"}]),
        "empty": item(instruction="  "),
    }
    wanted = ("not base64", "leave out the prefix", "no readable PNG", "101x100", "Taste", "instruction is empty")
    with Service(lambda r: answer(5.0), limits=Limits(image_pixels=10_000)) as service:
        items = [{**i, "id": name} for name, i in bad.items()]
        response = service.ask({"items": [*items, item(id="good")]})
    assert response.status_code == 200
    *failed, good = response.json()["verdicts"]
    assert (good["id"], good["score"]) == ("good", 5.0)
    assert [v["id"] for v in failed] == list(bad)
    for verdict, words in zip(failed, wanted):
        assert (verdict["status"], verdict["score"]) == ("error", None)
        assert words in verdict["error"]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"body": b"{"}, 422, "not JSON"),
        ({"body": {"items": []}}, 422, "items"),
        ({"body": {"items": [item(), {"source": "x"}]}}, 422, "items.1.edited: field required"),
        ({"body": {"items": [item(seed=1)]}}, 422, "items.0.seed"),
        ({"body": {"items": [item(instruction=7)]}}, 422, "items.0.instruction"),
        ({"body": {"items": [item(id=str(n)) for n in range(5)]}}, 413, "5 items are more than the limit of 4"),
        ({"body": {"items": [item(source=png((60, 60)))] * 3}}, 413, "megapixels together"),
        ({"body": b"x" * 70_000}, 413, "more than the limit of"),
        ({"body": {"items": [item()]}, "content_type": "text/plain"}, 415, "text/plain: send application/json"),
        ({"body": {"items": [item()]}, "content_type": "application/x-python-pickle"}, 415, "application/json"),
        ({"path": "/v1/chat"}, 404, "there is no POST /v1/chat"),
        ({"path": "/v1/score", "method": "GET"}, 405, "there is no GET /v1/score"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_one_sentence(request_, status, words):
    with Service(limits=Limits(items=4, request_bytes=2**16, request_pixels=7_500)) as service:
        code, message = error_of(service.ask(**request_))
    assert (code, words in message) == (status, True), message
    assert len(message) < 300  # nothing of what was sent comes back


def test_a_body_that_does_not_say_its_length_is_bounded_too():
    with Service(limits=Limits(request_bytes=2**16)) as service, httpx.Client(trust_env=False) as client:
        head = {"content-type": "application/json"}
        chunks = (b"x" * 10_000 for _ in range(10))
        assert error_of(client.post(f"{service.url}/v1/score", content=chunks, headers=head))[0] == 413


def test_a_body_that_dribbles_in_is_cut_off():
    with (
        Service(limits=Limits(upload_seconds=0.2)) as service,
        socket.create_connection(service.sock.getsockname()) as s,
    ):
        s.sendall(
            b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert b" 408 " in s.recv(4096).split(b"\r\n")[0]


def test_a_token_is_asked_for_everywhere_but_for_health(monkeypatch):
    with Service(token="secret") as service:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
            assert error_of(service.ask({"items": [item()]}, **headers))[0] == 401
        assert error_of(service.ask(path="/v1/models", method="GET"))[0] == 401
        assert service.ask(path="/health", method="GET").status_code == 200
        with pytest.raises(RewardError, match=r"HTTP 401.*check the token"):
            reward(service.url).score(samples(1))
        monkeypatch.setenv("TOKEN_FOR_TEST", "secret")
        assert reward(service.url, token_env="TOKEN_FOR_TEST").score([sample(7)])[0].value == 0.7


def test_requests_that_are_too_large_are_split_and_halved():
    """The client's own limit makes requests of 2; where that is not small enough, the service's makes it halve them."""
    seen = []
    with Service(limits=Limits(items=2)) as service:
        kept = reward(service.url, items_per_request=8, concurrency=1)
        kept_attempt = kept._attempt

        async def attempt(client, entries):
            seen.append(len(entries))
            return await kept_attempt(client, entries)

        kept._attempt = attempt
        assert [r.value for r in kept.score(samples(8))] == [i / 10 for i in range(8)]
        assert seen == [8, 4, 2, 2, 4, 2, 2]
        small = reward(service.url, items_per_request=8, max_request_bytes=2_000)
        assert [r.value for r in small.score(samples(5))] == [i / 10 for i in range(5)]
    with Service(limits=Limits(request_bytes=300)) as tiny:
        [result] = reward(tiny.url).score(samples(1))
    assert (result.status.value, "HTTP 413" in result.error) == ("error", True)


def test_a_judge_that_breaks_down_is_told_and_the_service_goes_on():
    with Service(judge=ScriptedJudge(score_by_shade, fail_after=2)) as service:
        results = reward(service.url, concurrency=1, items_per_request=8).score(samples(4))
        assert [r.ok for r in results] == [True, True, False, False]
        assert "breaks down after 2" in results[3].error
        assert service.ask(path="/health", method="GET").json()["verdicts"] == {"ok": 2, "error": 2}


# a server that misbehaves


def verdicts(body, number=0, **change):
    """What the service would say."""
    checks = [{**p, "met": True, "reason": ""} for p in body["items"][0]["principles"]]
    whole = {"status": "ok", "score": 5.0, "average_score": 1.0, "checks": checks, "judge": "j", "prompt_hash": "h"}
    return 200, {}, {"verdicts": [{**whole, "id": i["id"], **change} for i in body["items"]]}


def first(times, misbehave):
    """Misbehave so many times, then answer."""
    return lambda body, number: misbehave(body, number) if number < times else verdicts(body)


def swapped(body, number):
    status, headers, reply = verdicts(body)
    return status, headers, {"verdicts": reply["verdicts"][::-1]}


GARBAGE = {
    "html": lambda b, n: (200, {"Content-Type": "text/html"}, "<html>hello</html>"),
    "no json": lambda b, n: (200, {}, "{{{"),
    "a list": lambda b, n: (200, {}, "[]"),
    "no verdicts": lambda b, n: (200, {}, {"choices": []}),
    "too few": lambda b, n: (200, {}, {"verdicts": verdicts(b)[2]["verdicts"][1:]}),
    "out of range": lambda b, n: verdicts(b, score=50.0),
    "not a number": lambda b, n: (200, {}, json.dumps(verdicts(b, score=float("nan"))[2])),
    "a text": lambda b, n: verdicts(b, score="5"),
    "ok without a score": lambda b, n: verdicts(b, score=None),
    "other ids": lambda b, n: verdicts(b, id="y"),
    "swapped": swapped,
    "server error": lambda b, n: fault(500),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_asked_again_and_never_a_number(kind):
    with ChatServer(first(2, GARBAGE[kind])) as server:
        results = reward(server.url, concurrency=1).score(samples(2))
        assert [r.value for r in results] == [5.0, 5.0]
        assert len(server.seen) == 3
    with ChatServer(GARBAGE[kind]) as server:
        results = reward(server.url, concurrency=1, max_retries=1).score(samples(2))
        assert [(r.status.value, r.value) for r in results] == [("error", None)] * 2
        assert "after 2 attempts" in results[0].error
        assert len(server.seen) == 2


def test_edits_of_clients_that_went_away_are_not_judged():
    judge = ScriptedJudge(score_by_shade, latency=0.4)
    with Service(judge=judge, max_batch=1) as service:
        item = {"source": encode_image(SOURCE), "edited": encode_image(SOURCE), "instruction": "x"}
        item["principles"] = [p.to_dict() for p in PRINCIPLES]
        for number in range(5):
            with pytest.raises(httpx.TimeoutException):
                httpx.post(f"{service.url}/v1/score", json={"items": [{**item, "id": f"g{number}"}]}, timeout=0.05)
        deadline = time.monotonic() + 10
        while httpx.get(f"{service.url}/health").json()["pending"] and time.monotonic() < deadline:
            time.sleep(0.02)
        answered = httpx.post(f"{service.url}/v1/score", json={"items": [{**item, "id": "here"}]}, timeout=20)
    assert answered.json()["verdicts"][0]["id"] == "here"
    assert len(judge.requests) < 5  # of 6: only what had begun


def test_a_busy_service_is_waited_for_but_not_for_ever():
    full = lambda b, n: fault(429, "full", headers={"Retry-After": "0.01"})  # noqa: E731
    with ChatServer(first(5, full)) as server:
        results = reward(server.url, concurrency=1, max_retries=1).score(samples(2))
        assert [r.value for r in results] == [5.0, 5.0]
    with ChatServer(full) as server:
        results = reward(server.url, concurrency=1, patience=0.2).score(samples(2))
    assert [(r.status.value, r.value) for r in results] == [("error", None)] * 2
    assert "full" in results[0].error


def test_usage_in_other_words_spoils_no_verdict():
    usages = [None, {"prompt_tokens": 5, "details": {"a": 1}, "calls": None}]
    with ChatServer(lambda b, n: verdicts(b, usage=usages[n])) as server:
        results = [reward(server.url).score(samples(1))[0] for _ in usages]
    assert [r.value for r in results] == [5.0, 5.0]
    assert [r.verdict.usage.prompt_tokens for r in results] == [0, 5]


def test_what_can_be_read_is_kept_and_only_the_rest_asked_again():
    def half(body, number):
        status, headers, reply = verdicts(body)
        if number == 0:
            reply["verdicts"][1]["score"] = "five"
        return status, headers, reply

    order = []
    with ChatServer(half) as server:
        results = reward(server.url, concurrency=1).score(samples(3), on_result=lambda i, r: order.append(i))
    assert [r.value for r in results] == [5.0] * 3
    assert order == [0, 2, 1]
    assert [len(body["items"]) for body in server.seen] == [3, 1]


def test_a_request_that_is_refused_is_not_asked_again():
    with ChatServer(lambda b, n: fault(422, "items.0: no")) as server:
        results = reward(server.url, concurrency=1).score(samples(2))
        assert len(server.seen) == 1
    assert "HTTP 422: items.0: no" in results[0].error


def test_a_server_that_hangs_times_out():
    with ChatServer(lambda b, n: server.hang() if n else verdicts(b)) as server:
        began = time.monotonic()
        results = reward(server.url, concurrency=1, timeout=0.3, items_per_request=1).score(samples(2))
        assert time.monotonic() - began < 10
        assert [r.status.value for r in results] == ["ok", "timeout"]
        assert len(server.seen) == 3  # the one that timed out was asked once more


def test_a_server_that_dies_in_mid_batch_costs_nothing_that_was_finished():
    def dies(body, number):
        if number >= 3:
            threading.Thread(target=server.stop).start()
            server.hang()
        return verdicts(body)

    kept = {}
    server = ChatServer(dies)
    client = reward(server.url, concurrency=1, items_per_request=2, give_up_after=2, max_retries=1)
    results = client.score(samples(20), on_result=kept.__setitem__)
    assert [r.ok for r in results] == [True] * 6 + [False] * 14
    assert kept == dict(enumerate(results))
    assert "stopped answering" in results[-1].error  # not all 10 requests were tried in vain
    with ChatServer(lambda b, n: verdicts(b), port=server.port):
        assert all(r.ok for r in client.score(samples(4)))  # and it comes back


def test_a_server_that_is_not_there_is_told_at_once():
    with ChatServer() as server:
        pass
    with pytest.raises(RewardError, match=r"no connection.*check the address.*editr1 serve"):
        reward(server.url).score(samples(2))


def test_a_run_masks_a_blip_and_stops_at_the_threshold():
    """What a trainer sees: the dead server costs the samples it was asked for, until there are too many of them."""
    server = ChatServer(lambda b, n: verdicts(b))
    guard = FailureGuard(max_share=0.5, window=8)
    client = reward(server.url, max_retries=0, give_up_after=1)
    with BackgroundScorer(client, guard=guard, retries=0) as scorer:
        assert all(r.ok for r in scorer.score_batch(samples(6)))
        server.stop()
        masked = scorer.score_batch(samples(4))  # 4 of the last 8: not more than a half
        assert [r.value for r in masked] == [None] * 4
        with pytest.raises(RewardError, match=r"of the last 8 rewards failed \(\d error\).*127\.0\.0\.1"):
            scorer.score_batch(samples(4))
    assert guard.metrics()["failed_error"] == 8


# the service as a process

PROGRAM = """
import sys, time
from editr1 import Verifier
from editr1.judges import ScriptedJudge
from editr1.serving import create_app, run
from editr1.serving.process import bind

sys.path.insert(0, {tests!r})
from test_score_service import score_by_shade

judge = ScriptedJudge(score_by_shade, latency={latency})
sock = bind("127.0.0.1", {port})
print("ready", flush=True)
run(create_app(Verifier(judge), max_batch=2), sock, grace={grace})
print("bye", flush=True)
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(port, latency=0.0, grace=30.0):
    program = textwrap.dedent(PROGRAM).format(tests=os.path.dirname(__file__), port=port, latency=latency, grace=grace)  # noqa: PTH120
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    end = time.monotonic() + 400  # on a busy machine
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return process
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the service did not start: {process.stdout.read()}")


def pending(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as response:
        return json.loads(response.read())["pending"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_with_9_in_mid_run_and_started_again():
    """A run of 30 samples outlives the service's death: what was finished is kept, the rest is asked of the new one."""
    port = free_port()
    process = start(port, latency=0.05)
    kept, successor = {}, []

    def keep(index, result):
        assert index not in kept
        kept[index] = result
        if len(kept) == 6:
            process.send_signal(signal.SIGKILL)
            threading.Thread(target=lambda: successor.append(start(port))).start()

    client = reward(f"http://127.0.0.1:{port}", items_per_request=2, concurrency=2, max_retries=40, backoff_seconds=1.0)
    try:
        results = client.score(samples(30), on_result=keep)
    finally:
        process.kill()
        for other in successor:
            other.kill()
    assert [r.value for r in results] == [i / 10 for i in range(30)]
    assert kept == dict(enumerate(results))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_told_to_stop_it_finishes_what_is_under_way():
    port = free_port()
    process = start(port, latency=1.0)
    results = []
    client = reward(f"http://127.0.0.1:{port}", max_retries=0, items_per_request=4)
    asking = threading.Thread(target=lambda: results.extend(client.score(samples(4))))
    asking.start()
    while asking.is_alive() and pending(port) == 0:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    asking.join(300)
    output, _ = process.communicate(timeout=300)
    assert [r.value for r in results] == [0.0, 0.1, 0.2, 0.3]
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_told_to_stop_it_waits_no_longer_than_its_grace():
    """A judgement of two minutes is under way; the service has a second."""
    port = free_port()
    process = start(port, latency=120.0, grace=1.0)
    client = reward(f"http://127.0.0.1:{port}", max_retries=0)
    results = []
    asking = threading.Thread(target=lambda: results.extend(client.score(samples(1))))
    asking.start()
    while asking.is_alive() and pending(port) == 0:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    asking.join(60)
    assert process.returncode is not None
    assert [r.value for r in results] == [None]
