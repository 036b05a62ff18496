"""An OpenAI-compatible chat server on loopback, real down to the socket, that misbehaves on demand."""

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


class Broken(Exception):
    """Raised by a behaviour to cut the connection without an answer."""


class ChatServer:
    """Serves `POST /v1/chat/completions`; `behaviour(body, number)` gives (HTTP status, headers, body).

    A body that is a dict is sent as JSON, text as it is. Every request body is kept in `seen`.
    """

    def __init__(self, behaviour=None, *, port=0):
        self.behaviour = behaviour or (lambda body, number: answer("fine"))
        self.seen, self.headers, self.most_at_once = [], [], 0
        self._now, self._lock = 0, threading.Lock()
        self.released = threading.Event()  # ends every hang; from then on kept connections are cut too
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.seen.append(body)
                    server.headers.append({k.lower(): v for k, v in self.headers.items()})
                    number = len(server.seen) - 1
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                try:
                    status, headers, reply = server.behaviour(body, number)
                    if server.released.is_set():
                        raise Broken
                except Broken:
                    self.close_connection = True
                    return
                finally:
                    with server._lock:
                        server._now -= 1
                data = (json.dumps(reply) if isinstance(reply, dict) else reply).encode()
                self.send_response(status)
                for key, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # the client went away; that is what the test is about

        self._http = Server(("127.0.0.1", port), Handler)
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def hang(self, seconds=30.0):
        self.released.wait(seconds)
        raise Broken

    def stop(self):
        """Die: new connections are refused, and answers under way are cut off."""
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


def answer(text, *, finish="stop", refusal=None, usage=(11, 7), model="m", **message):
    """A whole chat completion."""
    return (
        200,
        {},
        {
            "id": "x",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish,
                    "message": {"role": "assistant", "content": text, "refusal": refusal, **message},
                }
            ],
            "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)},
        },
    )


def fault(status, message="broken", **more):
    """An error answer; `headers` and fields of the error object are keywords."""
    headers = more.pop("headers", {})
    return status, headers, {"error": {"message": message, "type": None, "param": None, "code": None, **more}}


def picture_of(body):
    """The first picture in a request's body."""
    for message in body["messages"]:
        if isinstance(message["content"], list):
            for part in message["content"]:
                if part["type"] == "image_url":
                    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].split(",", 1)[1])))
    return None
