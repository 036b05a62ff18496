"""A judge behind an OpenAI-compatible HTTP server: vLLM, SGLang, OpenAI, Ark (Seed), OpenRouter and others."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import itertools
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import openai
from PIL import Image

from editr1.errors import ConfigError, JudgeError
from editr1.judges.attempts import Breaker, Failure, backoff, read_failure, shorten
from editr1.judges.background import run_handing_over
from editr1.judges.base import ChatReply, ChatRequest, Message, OnReply, Picture, ReplyStatus, Text
from editr1.judges.slots import Slots
from editr1.types import Usage

_MIME = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_DEFAULT_URL = "https://api.openai.com/v1"
# What services call the end of an answer (`finish_reason`, lower case); some leave it out.
_WHOLE = frozenset({"", "stop", "eos", "eos_token", "stop_sequence", "end_turn"})
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_FILTERED = frozenset({"content_filter", "safety", "refusal", "prohibited_content", "recitation"})
_BROKEN = frozenset({"abort", "error", "cancelled", "timeout"})


class OpenAIJudge:
    """Asks a server over HTTP, many requests at a time, through the official SDK.

    What is worth asking again is asked again, with doubling waits: 408, 409, 5xx, broken connections, unreadable
    answers, and time-outs (`timeout_retries` times). A 429 is waited out, by its Retry-After where it has one, as
    long as some request gets an answer within `patience` seconds. When `give_up_after` requests in a row got no
    answer at all, the rest of the batch fails at once. Threads may share a judge. A reply's `usage.calls` counts
    attempts, and its `seconds` cover them and the waits between them.

    Args:
        model: as the server names it.
        base_url: e.g. "http://localhost:8000/v1"; default is $OPENAI_BASE_URL, else OpenAI's.
        api_key: default is the environment variable `api_key_env`. Servers other than OpenAI's may need none.
        api_key_env: name of the variable that holds the key.
        concurrency: most requests under way at a time, those of all threads together.
        timeout: seconds for one attempt.
        max_retries: most further attempts after the first; those that a 429 turned away do not count.
        patience: seconds of nothing but 429 after which a batch is given up.
        timeout_retries: most further attempts after time-outs, which are costly: each may occupy the server.
        backoff_seconds: wait before the second attempt; it doubles up to 8 seconds, and is jittered.
        give_up_after: requests in a row without an answer after which the server counts as gone.
        extra_body: further fields of the request, e.g. `{"chat_template_kwargs": {"enable_thinking": False}}`.
        extra_headers: further HTTP headers; not part of the fingerprint.
        omit: names of fields not to send, e.g. `("temperature",)` for models that only know their default.
        image_format: "png" (lossless), "jpeg" or "webp".
        detail: "low", "high" or "auto", for services that know it.
        token_limit: field for the longest answer, "max_tokens" or "max_completion_tokens". By default the first,
            until the server asks for the second.
        revision: a word for what the server serves now, such as a commit: part of the fingerprint, so that answers in
            a cache and results of other weights under the same name and address are told apart.

    Raises:
        JudgeError: if no key is set for a service that needs one.
        ConfigError: if an option is out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout: float = 120.0,
        max_retries: int = 5,
        patience: float = 300.0,
        timeout_retries: int = 1,
        backoff_seconds: float = 0.5,
        give_up_after: int = 5,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        omit: Sequence[str] = (),
        image_format: str = "png",
        detail: str | None = None,
        token_limit: str | None = None,
        revision: str | None = None,
    ) -> None:
        if image_format not in _MIME:
            raise ConfigError(f"unknown image format {image_format!r}: use one of {', '.join(_MIME)}")
        if concurrency < 1 or timeout <= 0 or max_retries < 0 or give_up_after < 1:
            raise ConfigError(
                f"concurrency and give_up_after must be at least 1, timeout positive and max_retries at least 0, got "
                f"{concurrency}, {give_up_after}, {timeout} and {max_retries}"
            )
        self.name = model
        self.model = model
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError(f"{self.base_url!r} is no address of a server: write it like http://127.0.0.1:8000/v1")
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.patience = patience
        self.timeout_retries = timeout_retries
        self.backoff_seconds = backoff_seconds
        self.image_format = image_format
        self.detail = detail
        self.extra_body = dict(extra_body or {})
        self.omit = tuple(omit)
        self._key = self._find_key(api_key, api_key_env)
        self._headers = dict(extra_headers or {})
        self._endpoint = _without_credentials(self.base_url)
        self._token_field = token_limit or "max_tokens"
        self._may_switch_field = token_limit is None
        self._slots = Slots(concurrency)
        self._breaker = Breaker(give_up_after)
        self._ever_answered = False
        self.versions: set[str] = set()  # what the server says it is: "gpt-4.1" may be "gpt-4.1-2025-04-14"
        said = [self.extra_body, self.omit, image_format, detail]
        if query := urlsplit(self.base_url).query:  # which may hold a key, and which may hold a version
            said.append(hashlib.sha256(query.encode()).hexdigest())
        if revision is not None:
            said.append(f"revision {revision}")
        options = json.dumps(said, sort_keys=True)
        self.fingerprint = f"openai:{self._endpoint}:{model}:{hashlib.sha256(options.encode()).hexdigest()[:16]}"

    def __repr__(self) -> str:
        return f"OpenAIJudge({self.model!r}, base_url={self._endpoint!r})"

    def chat(self, requests: Sequence[ChatRequest], *, on_reply: OnReply | None = None) -> list[ChatReply]:
        """Answer all requests; works where an event loop runs already, too.

        Raises:
            JudgeError: if this judge never got an answer, and cannot: the server is not there, the key is wrong or
                the model unknown. A server that was there and is gone makes `ERROR` replies.
        """
        if not requests:
            return []
        replies: dict[int, ChatReply] = {}

        def take(item: tuple[int, ChatReply]) -> None:
            replies[item[0]] = item[1]
            if on_reply is not None:
                on_reply(*item)

        run_handing_over(lambda emit: self._answer_all(requests, emit), take)
        return [replies[index] for index in range(len(requests))]

    async def _answer_all(self, requests: Sequence[ChatRequest], emit: Callable[[tuple[int, ChatReply]], None]) -> None:
        """Let `concurrency` workers take the requests off one queue; stop them all on a `JudgeError`."""
        breaker = self._breaker = self._breaker.next()
        queue = iter(enumerate(requests))
        encode = _Encoder(self.image_format)
        unreachable: list[str] = []

        async def work(client: openai.AsyncOpenAI) -> None:
            for index, request in queue:
                async with self._slots.one():
                    reply, failure = await self._answer(client, request, encode, breaker)
                if failure is not None and not self._ever_answered:
                    if failure.hopeless:
                        raise JudgeError(self._advise(failure.message))
                    if failure.unreachable:
                        unreachable.append(failure.message)
                emit((index, reply))

        limits = openai.Timeout(self.timeout, connect=min(10.0, self.timeout))
        async with openai.AsyncOpenAI(
            api_key=self._key, base_url=self.base_url, timeout=limits, max_retries=0, default_headers=self._headers
        ) as client:
            workers = [asyncio.create_task(work(client)) for _ in range(min(self.concurrency, len(requests)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if not self._ever_answered and unreachable and (breaker.open or len(unreachable) == len(requests)):
            raise JudgeError(self._advise(unreachable[0]))

    async def _answer(
        self, client: openai.AsyncOpenAI, request: ChatRequest, encode: _Encoder, breaker: Breaker
    ) -> tuple[ChatReply, Failure | None]:
        """Ask until there is an answer, it is no use, or the attempts are used up."""
        if breaker.open:
            error = f"not sent, because {self._endpoint} stopped answering ({breaker.reason})"
            return ChatReply(ReplyStatus.ERROR, error=error), None
        start = time.perf_counter()
        try:
            messages = [await self._render(message, encode) for message in request.messages]
        except (OSError, ValueError) as exc:
            return ChatReply(ReplyStatus.ERROR, error=f"a picture cannot be encoded: {exc}"), None
        usage, timeouts, counted = Usage(), 0, 0
        for attempt in itertools.count():
            usage += Usage(calls=1)
            outcome, spent = await self._attempt(client, messages, request)
            usage += spent
            if isinstance(outcome, ChatReply):
                self._ever_answered = True
                breaker.answered()
                return _with_account(outcome, usage, start), None
            timeouts += outcome.status is ReplyStatus.TIMEOUT
            counted += not outcome.busy
            if outcome.busy:
                breaker.busy(outcome.message, self.patience)
            budget = 0 if breaker.trial else self.max_retries  # on trial, a server that was gone gets one attempt
            if outcome.retry and (outcome.busy or counted <= budget) and timeouts <= self.timeout_retries:
                await breaker.wait(max(backoff(attempt, self.backoff_seconds), outcome.retry_after or 0.0))
                if not breaker.open:
                    continue
            if outcome.absent:
                breaker.absent(outcome.message)
            elif not outcome.busy:
                breaker.answered()
            tries = f" after {usage.calls} attempts" if usage.calls > 1 else ""
            error = f"{self._endpoint}: {outcome.message}{tries}"
            return _with_account(ChatReply(outcome.status, error=error), usage, start), outcome
        raise AssertionError("unreachable")

    async def _attempt(
        self, client: openai.AsyncOpenAI, messages: list[dict[str, Any]], request: ChatRequest
    ) -> tuple[ChatReply | Failure, Usage]:
        """Ask once; once more under the other name of the token limit if the server wants that."""
        field = self._token_field
        fields = self._fields(request, field)
        try:
            async with asyncio.timeout(self.timeout):  # the SDK's limit is for each read, not for the whole
                completion = await client.chat.completions.create(
                    model=self.model,
                    messages=messages,  # type: ignore[arg-type]
                    extra_body=self.extra_body or None,
                    **fields,
                )
        except openai.BadRequestError as exc:
            if self._may_switch_field and field == "max_tokens" and "max_completion_tokens" in exc.message:
                self._token_field = "max_completion_tokens"
                return await self._attempt(client, messages, request)
            return self._redact(read_failure(exc)), Usage()
        except Exception as exc:  # whatever a broken server makes the SDK raise is this one call's failure
            return self._redact(read_failure(exc)), Usage()
        served = getattr(completion, "model", None)  # broken servers make the SDK return anything
        if isinstance(served, str) and served:
            self.versions.add(served)
        try:
            return read_completion(completion)
        except Exception as exc:  # a shape that nobody has thought of: this one call's failure, too
            shape = shorten(f"{type(exc).__name__}: {exc}", 120)
            return Failure(ReplyStatus.ERROR, f"the server's answer cannot be read ({shape})", retry=True), Usage()

    def _fields(self, request: ChatRequest, token_field: str) -> dict[str, Any]:
        sampling = request.sampling
        fields: dict[str, Any] = {token_field: sampling.max_tokens, "temperature": sampling.temperature}
        if sampling.top_p < 1.0:  # several services refuse top_p beside temperature
            fields["top_p"] = sampling.top_p
        if sampling.seed is not None:
            fields["seed"] = sampling.seed + request.fresh
        return {name: value for name, value in fields.items() if name not in self.omit}

    async def _render(self, message: Message, encode: _Encoder) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        for part in message.content:
            if isinstance(part, Picture):
                image: dict[str, str] = {"url": await encode(part.image)}
                if self.detail is not None:
                    image["detail"] = self.detail
                parts.append({"type": "image_url", "image_url": image})
            else:
                parts.append({"type": "text", "text": part.text})
        if all(isinstance(part, Text) for part in message.content):  # plain text is what every server knows
            return {"role": message.role, "content": "".join(part["text"] for part in parts)}
        return {"role": message.role, "content": parts}

    def _find_key(self, api_key: str | None, variable: str) -> str:
        key = api_key or os.environ.get(variable)
        if key:
            return key
        if self.base_url == _DEFAULT_URL or variable != "OPENAI_API_KEY":
            raise JudgeError(f"no key for {self.model!r}: set the environment variable {variable}")
        return "none"  # local servers ask for none, but the SDK wants some text

    def _redact(self, failure: Failure) -> Failure:
        """Some servers quote the key that they turn down."""
        if len(self._key) < 8 or self._key not in failure.message:
            return failure
        hidden = failure.message.replace(self._key, "[key]")
        return Failure(failure.status, hidden, hopeless=failure.hopeless)

    def _advise(self, message: str) -> str:
        advice = "check the address and that the server is running"
        if message.startswith("HTTP 401"):
            advice = "check the key and the name of the variable that holds it"
        elif message.startswith("HTTP 404"):
            advice = "check the model's name and that the address ends as the service says, often in /v1"
        return f"{self._endpoint} cannot answer for model {self.model!r} ({message}): {advice}"


class _Encoder:
    """Pictures as data URLs, encoded off the event loop; the last few are kept, since candidates share a source."""

    def __init__(self, image_format: str, keep: int = 32) -> None:
        self._format = image_format
        self._keep = keep
        self._urls: OrderedDict[int, tuple[Image.Image, asyncio.Future[str]]] = OrderedDict()

    async def __call__(self, image: Image.Image) -> str:
        key = id(image)  # the entry holds on to the picture, so its id is not given to another
        if key not in self._urls:
            made = asyncio.ensure_future(asyncio.to_thread(data_url, image, self._format))
            self._urls[key] = (image, made)
        self._urls.move_to_end(key)
        if len(self._urls) > self._keep:
            self._urls.popitem(last=False)
        return await asyncio.shield(self._urls[key][1])


def data_url(image: Image.Image, image_format: str = "png") -> str:
    """A picture as the text of a `data:` URL."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"compress_level": 1} if image_format == "png" else {"quality": 95}
    image.save(buffer, format=image_format, **options)
    return f"data:{_MIME[image_format]};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def read_completion(completion: Any) -> tuple[ChatReply | Failure, Usage]:
    """Tell whole, truncated, refused and empty answers apart; usage is counted for all of them.

    Thoughts that a server sends beside the answer (`reasoning_content`) are no answer.
    """
    choices = getattr(completion, "choices", None)
    counts = getattr(completion, "usage", None)
    usage = Usage(_count(getattr(counts, "prompt_tokens", 0)), _count(getattr(counts, "completion_tokens", 0)))
    if not choices or not isinstance(choices, list):
        said = getattr(completion, "error", None) or completion
        why = f"the server's answer is no chat completion ({shorten(str(said), 120)})"
        return Failure(ReplyStatus.ERROR, why, retry=True), usage
    choice = choices[0]
    message = getattr(choice, "message", None)
    if message is None:
        got = shorten(str(choice), 120)
        return Failure(ReplyStatus.ERROR, f"the server's answer holds no message ({got})", retry=True), usage
    text = _plain(getattr(message, "content", None))
    refusal = getattr(message, "refusal", None)
    ended = str(getattr(choice, "finish_reason", None) or "").lower()
    if refusal or ended in _FILTERED:
        error = shorten(refusal) if isinstance(refusal, str) and refusal else "the service's content filter stopped it"
        return ChatReply(ReplyStatus.REFUSED, text, error=error), usage
    if ended in _CUT:
        return ChatReply(ReplyStatus.TRUNCATED, text, error=f"the answer hit max_tokens (finish_reason {ended})"), usage
    if ended not in _WHOLE:
        why = f"the server broke the answer off (finish_reason {ended})"
        return Failure(ReplyStatus.ERROR, why, retry=ended in _BROKEN), usage
    if not text.strip():
        return ChatReply(ReplyStatus.EMPTY, text, error="the answer is empty"), usage
    return ChatReply(ReplyStatus.OK, text), usage


def _count(value: Any) -> int:
    """A number of tokens, which some servers send as text, or not at all."""
    try:
        return max(int(value), 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _plain(content: Any) -> str:
    """The text of a message: a string, or on some servers a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _with_account(reply: ChatReply, usage: Usage, start: float) -> ChatReply:
    return ChatReply(reply.status, reply.text, usage, time.perf_counter() - start, reply.error)


def _without_credentials(url: str) -> str:
    """The address without user, password and query, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")
