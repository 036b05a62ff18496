"""OpenAIJudge against a real HTTP server on loopback: what is sent, how faults end, that nothing is lost."""

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from chat_server import Broken, ChatServer, answer, fault, picture_of
from PIL import Image

from editr1.errors import ConfigError, JudgeError
from editr1.judges import ChatRequest, Judge, Message, OpenAIJudge, Picture, ReplyStatus, Sampling, Text

KEY = "sk-very-secret-key"


def request(text="Look.", *pictures, fresh=0, **sampling):
    content = (*(Picture(p) for p in pictures), Text(text))
    messages = (Message("system", (Text("You judge."),)), Message("user", content))
    return ChatRequest(messages, Sampling(**sampling), fresh)


def judge(url, **options):
    options = {"max_retries": 2, "backoff_seconds": 0.01, "timeout": 5.0, "api_key": KEY, **options}
    return OpenAIJudge("m", base_url=url, **options)


def text_of(body):
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def script(*steps):
    """One step a request, the last one for ever."""
    return lambda body, number: steps[min(number, len(steps) - 1)]


def ask(behaviour, **options):
    """One request to a server that behaves so; the reply and the server."""
    with ChatServer(behaviour) as server:
        client = judge(server.url, **options)
        client._ever_answered = True  # failures are replies then; see the tests of JudgeError for the first call
        [reply] = client.chat([request()])
    return reply, server


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class TestWhatIsSent:
    def test_messages_pictures_and_sampling(self):
        picture = Image.new("RGB", (9, 5), (1, 2, 3))
        picture.putpixel((8, 4), (250, 251, 252))
        with ChatServer() as server:
            client = judge(server.url, detail="high", extra_body={"top_k": 5})
            client.chat([request("Look.", picture, max_tokens=33, temperature=0.5, top_p=0.9, seed=7, fresh=2)])
        [body] = server.seen
        assert body["model"] == "m"
        assert (body["max_tokens"], body["temperature"], body["top_p"], body["seed"]) == (33, 0.5, 0.9, 9)
        assert body["top_k"] == 5
        assert body["messages"][0] == {"role": "system", "content": "You judge."}
        image, text = body["messages"][1]["content"]
        assert image["image_url"]["detail"] == "high"
        assert text == {"type": "text", "text": "Look."}
        sent = picture_of(body)
        assert sent.size == (9, 5)
        assert sent.tobytes() == picture.tobytes()
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"

    def test_the_server_says_which_version_answers(self):
        with ChatServer(script(answer("yes", model="m-2026-01-01"), answer("yes", model=None))) as server:
            client = judge(server.url)
            assert client.versions == set()
            client.chat([request("one"), request("two")])
        assert client.versions == {"m-2026-01-01"}

    def test_no_seed_and_no_top_p_unless_asked_and_omitted_fields_are_left_out(self):
        with ChatServer() as server:
            judge(server.url, omit=("temperature",)).chat([request()])
        assert not {"seed", "top_p", "temperature"} & server.seen[0].keys()

    def test_each_candidate_goes_with_its_own_picture(self):
        pictures = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(40)]
        with ChatServer(lambda body, n: answer(str(picture_of(body).getpixel((0, 0))[0]))) as server:
            replies = judge(server.url).chat([request("Look.", p) for p in pictures])
        assert [r.text for r in replies] == [str(i) for i in range(40)]

    def test_the_token_limit_changes_its_name_once_when_the_server_wants_that(self):
        def behaviour(body, number):
            if "max_tokens" in body:
                return fault(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
            return answer(str(body["max_completion_tokens"]))

        with ChatServer(behaviour) as server:
            client = judge(server.url, concurrency=1)
            replies = client.chat([request(max_tokens=9)] * 3)
        assert [r.text for r in replies] == ["9"] * 3
        assert len(server.seen) == 4  # the refused one, and three

    def test_concurrency_is_bounded_and_used(self):
        def behaviour(body, number):
            time.sleep(0.05)
            return answer("fine")

        with ChatServer(behaviour) as server:
            judge(server.url, concurrency=3).chat([request(str(i)) for i in range(9)])
        assert server.most_at_once == 3


class TestReplies:
    @pytest.mark.parametrize(
        ("served", "status", "text"),
        [
            (answer("fine"), ReplyStatus.OK, "fine"),
            (answer("half an ans", finish="length"), ReplyStatus.TRUNCATED, "half an ans"),
            (answer("half an ans", finish="max_tokens"), ReplyStatus.TRUNCATED, "half an ans"),
            (answer("half an ans", finish="model_length"), ReplyStatus.TRUNCATED, "half an ans"),
            (answer("a whole answer", finish="eos"), ReplyStatus.OK, "a whole answer"),
            (answer(None, finish="length"), ReplyStatus.TRUNCATED, ""),
            (answer("", reasoning_content="I thought a lot"), ReplyStatus.EMPTY, ""),
            (answer(" \n"), ReplyStatus.EMPTY, " \n"),
            (answer(None, refusal="I will not."), ReplyStatus.REFUSED, ""),
            (answer("", finish="content_filter"), ReplyStatus.REFUSED, ""),
        ],
    )
    def test_kinds_of_answers_are_told_apart_and_their_tokens_counted(self, served, status, text):
        reply, server = ask(script(served))
        assert (reply.status, reply.text) == (status, text)
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.calls) == (11, 7, 1)
        assert reply.seconds > 0
        assert (reply.error is None) == reply.ok
        assert len(server.seen) == 1

    @pytest.mark.parametrize(
        "served",
        [
            fault(400, "Your request was rejected by our safety system.", code="content_policy_violation"),
            fault(400, "The input image may contain sensitive information.", code="InputImageSensitiveContentDetected"),
            fault(403, "Your chosen model requires moderation and your input was flagged."),
        ],
    )
    def test_a_filter_that_stops_the_request_is_a_refusal(self, served):
        reply, server = ask(script(served))
        assert reply.status is ReplyStatus.REFUSED
        assert len(server.seen) == 1


class TestBrokenAnswers:
    @pytest.mark.parametrize("finish", ["abort", "error"])
    def test_what_the_server_broke_off_is_asked_again_and_never_an_answer(self, finish):
        assert ask(script(answer("<score>1", finish=finish), answer("fine")))[0].text == "fine"
        reply, _ = ask(script(answer("<score>1", finish=finish)))
        assert (reply.status, reply.text) == (ReplyStatus.ERROR, "")
        assert f"finish_reason {finish}" in reply.error

    def test_an_unknown_end_is_no_answer_and_not_asked_again(self):
        reply, server = ask(script(answer("hm", finish="tool_calls")))
        assert reply.status is ReplyStatus.ERROR
        assert len(server.seen) == 1

    @pytest.mark.parametrize("choice", [None, "x", {"index": 0, "finish_reason": "stop"}, {"text": "legacy"}, [1]])
    def test_a_choice_of_another_shape_costs_its_own_request_only(self, choice):
        def behaviour(body, number):
            return (200, {}, {"choices": [choice]}) if text_of(body) == "odd" else answer("fine")

        with ChatServer(behaviour) as server:
            replies = judge(server.url).chat([request("odd"), request(), request()])
        assert [r.status for r in replies] == [ReplyStatus.ERROR, ReplyStatus.OK, ReplyStatus.OK]

    def test_tokens_counted_in_words_and_parts_without_text(self):
        status, headers, body = answer("fine")
        body["usage"] = {"prompt_tokens": "12", "completion_tokens": None, "total_tokens": "12"}
        body["choices"][0]["message"]["content"] = [{"type": "text", "text": None}, {"type": "text", "text": "fine"}]
        reply, _ = ask(script((status, headers, body)))
        assert (reply.text, reply.usage.prompt_tokens, reply.usage.completion_tokens) == ("fine", 12, 0)


class TestRetries:
    @pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
    def test_passing_faults_are_asked_again(self, status):
        reply, _ = ask(script(fault(status), fault(status), answer("fine")))
        assert reply.ok
        assert reply.usage.calls == 3

    @pytest.mark.parametrize(
        "served", [(200, {}, "{not json"), (200, {"Content-Type": "text/html"}, "<html>"), (200, {}, {"choices": []})]
    )
    def test_garbage_is_asked_again_and_never_an_answer(self, served):
        assert ask(script(served, answer("fine")))[0].text == "fine"
        reply, server = ask(script(served))
        assert (reply.status, reply.text) == (ReplyStatus.ERROR, "")
        assert len(server.seen) == reply.usage.calls == 3

    def test_a_cut_connection_is_asked_again(self):
        def behaviour(body, number):
            if number == 0:
                raise Broken
            return answer("fine")

        reply, _ = ask(behaviour)
        assert reply.ok
        assert reply.usage.calls == 2

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
    def test_lasting_faults_are_not(self, status):
        reply, server = ask(script(fault(status, "no such luck")))
        assert reply.status is ReplyStatus.ERROR
        assert "no such luck" in reply.error
        assert len(server.seen) == 1

    def test_an_empty_purse_is_not_asked_again_although_it_is_a_429(self):
        reply, server = ask(script(fault(429, "You exceeded your current quota", code="insufficient_quota")))
        assert reply.status is ReplyStatus.ERROR
        assert len(server.seen) == 1

    def test_retry_after_is_honoured(self):
        reply, _ = ask(script(fault(429, headers={"Retry-After": "0.4"}), answer("fine")))
        assert reply.ok
        assert reply.seconds >= 0.4

    def test_a_server_that_asks_for_an_hour_is_not_waited_for(self):
        reply, server = ask(script(fault(429, headers={"Retry-After": "3600"}), answer("fine")))
        assert reply.status is ReplyStatus.ERROR
        assert "3600 s" in reply.error
        assert len(server.seen) == 1

    def test_timeouts_are_asked_again_only_as_often_as_allowed(self):
        with ChatServer(lambda body, number: server.hang()) as server:
            client = judge(server.url, timeout=0.2, max_retries=5, timeout_retries=1)
            [reply] = client.chat([request()])
        assert reply.status is ReplyStatus.TIMEOUT
        assert reply.usage.calls == 2
        assert 0.4 <= reply.seconds < 3

    def test_a_server_that_dribbles_for_ever_times_out(self):
        """Each byte comes in time, the whole never does."""

        def serve(listener):
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
            with connection:
                for _ in range(60):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.05)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
            client = judge(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout=0.4, timeout_retries=0)
            [reply] = client.chat([request()])
        assert reply.status is ReplyStatus.TIMEOUT
        assert reply.seconds < 2


class TestServersThatGo:
    def test_one_that_dies_in_mid_batch_costs_no_finished_reply_and_the_rest_fail_fast(self):
        kept = {}
        lock = threading.Lock()

        def behaviour(body, number):
            if number == 20:
                with lock:
                    threading.Thread(target=server.stop).start()
                    server.released.wait()
            return answer(text_of(body))

        server = ChatServer(behaviour)
        client = judge(server.url, concurrency=4, max_retries=3, backoff_seconds=0.05)
        start = time.perf_counter()
        replies = client.chat([request(str(i)) for i in range(400)], on_reply=kept.__setitem__)
        assert time.perf_counter() - start < 10
        done = [i for i, r in enumerate(replies) if r.ok]
        assert len(done) >= 16
        assert all(replies[i].text == str(i) for i in done)
        assert kept == dict(enumerate(replies))
        lost = [r for r in replies if not r.ok]
        assert {r.status for r in lost} == {ReplyStatus.ERROR}
        assert sum(r.usage.calls == 0 for r in lost) > 300
        assert client._endpoint in lost[-1].error
        assert "stopped answering" in lost[-1].error

    def test_after_that_the_next_batch_tries_once_and_a_server_that_is_back_is_used(self):
        with ChatServer() as server:
            client = judge(server.url, concurrency=2, max_retries=3, backoff_seconds=0.3, give_up_after=2)
            assert client.chat([request()])[0].ok
        assert not any(r.ok for r in client.chat([request()] * 3))
        start = time.perf_counter()
        replies = client.chat([request(str(i)) for i in range(50)])
        assert time.perf_counter() - start < 1.5
        assert sum(r.usage.calls for r in replies) <= 2
        with ChatServer(port=server.port):
            assert all(r.ok for r in client.chat([request()] * 5))

    def test_one_that_was_never_there_is_a_judge_error(self):
        client = judge(f"http://127.0.0.1:{free_port()}/v1", max_retries=1)
        for count in (1, 50):
            with pytest.raises(JudgeError, match=r"check the address and that the server is running"):
                client.chat([request()] * count)

    @pytest.mark.parametrize(("status", "advice"), [(401, "check the key"), (404, "check the model's name")])
    def test_a_wrong_key_or_model_is_a_judge_error_at_once(self, status, advice):
        with ChatServer(script(fault(status, f"no, {KEY} is wrong"))) as server:
            with pytest.raises(JudgeError, match=advice) as caught:
                judge(server.url, concurrency=4).chat([request()] * 100)
            assert len(server.seen) <= 4
        assert KEY not in str(caught.value)

    def test_a_key_that_is_revoked_in_mid_batch_costs_no_finished_reply(self):
        def behaviour(body, number):
            return answer("fine") if number < 5 else fault(401, "revoked")

        with ChatServer(behaviour) as server:
            replies = judge(server.url, concurrency=1).chat([request()] * 8)
        assert [r.ok for r in replies] == [True] * 5 + [False] * 3

    def test_a_busy_server_is_not_given_up(self):
        """Rate limits say that somebody is there: more of them than attempts, or than `give_up_after`, lose nothing."""

        def behaviour(body, number):
            return fault(429) if number < 12 else answer("fine")

        with ChatServer(behaviour) as server:
            client = judge(server.url, max_retries=1, concurrency=2, give_up_after=3)
            replies = client.chat([request(str(i)) for i in range(6)])
        assert all(r.ok for r in replies)
        assert sum(r.usage.calls for r in replies) == len(server.seen) == 18

    def test_patience_with_a_busy_server_ends(self):
        with ChatServer(lambda body, number: fault(429, "full")) as server:
            replies = judge(server.url, concurrency=2, patience=0.3).chat([request(str(i)) for i in range(20)])
        assert {r.status for r in replies} == {ReplyStatus.ERROR}
        assert "full, for 0.3 s" in replies[-1].error
        assert replies[-1].usage.calls == 0

    def test_threads_may_share_a_judge(self):
        """Each batch has a breaker of its own, whose waits belong to its own event loop."""

        def behaviour(body, number):
            return fault(503) if number < 8 else answer("fine")

        with ChatServer(behaviour) as server, ThreadPoolExecutor(3) as threads:
            client = judge(server.url, max_retries=9, give_up_after=50)
            batches = list(threads.map(lambda k: client.chat([request(f"{k}{i}") for i in range(3)]), range(3)))
        assert all(r.ok for replies in batches for r in replies)

    def test_threads_share_its_concurrency(self):
        def behaviour(body, number):
            time.sleep(0.05)
            return answer("fine")

        with ChatServer(behaviour) as server, ThreadPoolExecutor(3) as threads:
            client = judge(server.url, concurrency=2)
            batches = list(threads.map(lambda k: client.chat([request(f"{k}{i}") for i in range(4)]), range(3)))
        assert server.most_at_once == 2
        assert all(r.ok for replies in batches for r in replies)


class TestCallers:
    def test_works_inside_a_running_event_loop(self):
        async def notebook():
            return judge(server.url).chat([request()] * 3)

        with ChatServer() as server:
            assert [r.text for r in asyncio.run(notebook())] == ["fine"] * 3

    def test_on_reply_is_called_in_the_calling_thread_as_replies_come(self):
        seen = []

        def behaviour(body, number):
            if text_of(body) == "slow":
                time.sleep(0.5)
            return answer(text_of(body))

        with ChatServer(behaviour) as server:
            start = time.perf_counter()
            judge(server.url).chat(
                [request("slow"), request("quick")],
                on_reply=lambda i, r: seen.append((i, threading.current_thread(), time.perf_counter() - start)),
            )
        assert [i for i, _, _ in seen] == [1, 0]
        assert {t for _, t, _ in seen} == {threading.current_thread()}
        assert seen[1][2] - seen[0][2] > 0.2

    def test_an_error_of_on_reply_ends_the_batch_and_reaches_the_caller(self):
        def full_disk(index, reply):
            raise OSError("disk full")

        def behaviour(body, number):
            time.sleep(0.02)
            return answer("fine")

        with ChatServer(behaviour) as server:
            with pytest.raises(OSError, match="disk full"):
                judge(server.url, concurrency=2).chat([request()] * 500, on_reply=full_disk)
            assert len(server.seen) < 20
        assert not [t for t in threading.enumerate() if t.name == "editr1-judge"]

    def test_no_requests_no_connection(self):
        assert judge("http://127.0.0.1:9/v1").chat([]) == []


class TestIdentity:
    def test_the_key_is_nowhere_to_be_seen(self, monkeypatch):
        url = f"http://user:{KEY}@127.0.0.1:9/v1?key={KEY}"
        client = judge(url)
        assert isinstance(client, Judge)
        for text in (repr(client), client.fingerprint, client.name):
            assert KEY not in text
        reply, _ = ask(script(fault(400, f"odd request by {KEY}")))
        assert KEY not in reply.error
        monkeypatch.setenv("MY_KEY", KEY)
        assert (
            OpenAIJudge("m", base_url="http://h/v1", api_key_env="MY_KEY").fingerprint
            == judge("http://h/v1").fingerprint
        )

    def test_what_changes_answers_changes_the_fingerprint(self):
        url = "http://127.0.0.1:9/v1"
        judges = [
            judge(url),
            OpenAIJudge("other", base_url=url, api_key=KEY),
            judge("http://127.0.0.1:8/v1"),
            judge(url, extra_body={"top_k": 1}),
            judge(url, image_format="jpeg"),
            judge(url, detail="low"),
            judge(url, omit=("temperature",)),
        ]
        assert len({j.fingerprint for j in judges}) == len(judges)
        assert judge(url, concurrency=1, timeout=1.0, max_retries=0).fingerprint == judges[0].fingerprint

    def test_a_missing_key_is_told_by_the_name_of_its_variable(self, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
            OpenAIJudge("m")
        with pytest.raises(JudgeError, match="ARK_KEY"):
            OpenAIJudge("m", base_url="http://h/v1", api_key_env="ARK_KEY")
        OpenAIJudge("m", base_url="http://h/v1")  # a local server needs none

    @pytest.mark.parametrize("options", [{"image_format": "bmp"}, {"concurrency": 0}, {"timeout": 0}])
    def test_options_out_of_range(self, options):
        with pytest.raises(ConfigError, match="must be|use one of"):
            judge("http://h/v1", **options)


def test_json_of_a_request_survives_odd_text():
    text = 'quotes " and \\ and \u2028 and 星 \U0001f600'
    with ChatServer(lambda body, n: answer(json.dumps(text_of(body)))) as server:
        [reply] = judge(server.url).chat([request(text)])
    assert json.loads(reply.text) == text


def test_what_tells_one_server_from_another():
    """A query may hold an API's version, or a key, which is not shown; a revision is the user's word."""
    known = {
        OpenAIJudge("m", base_url=url, api_key=KEY, revision=revision).fingerprint
        for url in ("http://a/v1", "http://a/v1?api-version=1", "http://a/v1?api-version=2")
        for revision in (None, "one", "two")
    }
    assert len(known) == 9
    assert not any("api-version" in text for text in known)
    with pytest.raises(ConfigError, match="no address of a server: write it like http"):
        OpenAIJudge("m", base_url="localhost:8000/v1")
