import sys

import pytest

import editr1.serving
from editr1.cli import options
from editr1.cli.main import run
from editr1.serving.process import bind, is_loopback


@pytest.fixture
def served(monkeypatch):
    """What `editr1 serve` would have served: (settings, app, socket)."""
    seen = []

    class Verifier:
        passes = 1

        class judge:
            name = "fake"

        class template:
            hash = "hash"

    def build(settings, *, quiet=False):
        seen.append(settings)
        return Verifier

    monkeypatch.setattr(options, "build_verifier", build)
    monkeypatch.setitem(
        editr1.serving.__dict__, "run", lambda app, sock, *, grace: seen.extend([app, sock.getsockname()])
    )
    return seen


def call(*arguments):
    with pytest.raises(SystemExit) as caught:
        run(["serve", *arguments])
    return int(caught.value.code or 0)


def test_it_listens_on_loopback_and_says_where(served, capsys):
    assert call("--port", "0", "--base-url", "http://x/v1", "--model", "m") == 0
    settings, app, (host, port) = served
    assert (host, settings.judge.base_url) == ("127.0.0.1", "http://x/v1")
    assert capsys.readouterr().err == f"fake answers at http://127.0.0.1:{port}/v1/score\n"
    assert {"/health", "/v1/models", "/v1/score"} <= set(app.openapi()["paths"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], 1),
        (["--model", "somewhere"], 1),
        (["--base-url", "http://x/v1", "--model", "m"], 4),
        (["--base-url", "http://x/v1", "--model", "m", "--parallel", "9"], 9),
        (["--judge", "openai", "--model", "m", "--parallel", "1"], 1),
    ],
)
def test_batches_at_a_time(served, monkeypatch, arguments, expected):
    made = {}
    create = editr1.serving.create_app
    monkeypatch.setattr(editr1.serving, "create_app", lambda *a, **k: made.update(k) or create(*a, **k))
    assert call("--port", "0", *arguments) == 0
    assert made["parallel"] == expected


def test_a_local_model_judges_one_batch_at_a_time(served, capsys):
    assert call("--port", "0", "--parallel", "2") == 2
    assert "--parallel 2 needs a judge behind a server" in capsys.readouterr().err
    assert served == []


def test_others_may_only_reach_it_with_a_token(served, capsys, monkeypatch):
    assert call("--port", "0", "--host", "0.0.0.0") == 2
    assert "--token-env" in capsys.readouterr().err
    assert call("--port", "0", "--host", "0.0.0.0", "--token-env", "TOKEN_FOR_TEST") == 2
    assert "TOKEN_FOR_TEST is empty" in capsys.readouterr().err
    assert served == []
    monkeypatch.setenv("TOKEN_FOR_TEST", "secret")
    assert call("--port", "0", "--host", "0.0.0.0", "--token-env", "TOKEN_FOR_TEST") == 0
    assert len(served) == 3


def test_a_taken_port_is_told_before_a_model_is_loaded(served, capsys):
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        assert call("--port", str(taken.getsockname()[1])) == 2
    assert "choose another port" in capsys.readouterr().err
    assert served == []


def test_without_the_extra(served, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert call() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the scoring service (editr1 serve) needs the extra 'serve'")
    assert "uv pip install 'editr1[serve]'" in error


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.0.0.9", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.2", False), ("example", False)],
)  # fmt: skip
def test_loopback(host, expected):
    assert is_loopback(host) is expected
