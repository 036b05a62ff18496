"""What is refused before a body is parsed: strangers, anything but JSON, too many bytes, a body that dribbles in."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from editr1.serving.answers import error_answer
from editr1.serving.limits import MIB, Limits

_DRAINED = 4
"""A body over the limit is read, and thrown away, up to this multiple of it: a client that is still writing when its
connection is closed would see a broken pipe in place of the reason."""


class Gate:
    """ASGI middleware around the routes.

    Args:
        app: what is behind it.
        limits: on bytes and time.
        token: that requests have to bear, except for `/health`; None lets everybody in.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, token: str | None) -> None:
        self.app = app
        self.limits = limits
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through with a bounded body, or say why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        bounded = _Body(receive, self.limits)
        try:
            await self._check_head(scope, bounded)
        except HTTPException as exc:
            await error_answer(exc.status_code, str(exc.detail))(scope, receive, send)
            return
        await self.app(scope, bounded, send)

    async def _check_head(self, scope: Scope, body: _Body) -> None:
        headers = Headers(scope=scope)
        if scope["path"] == "/health":
            return
        if self.token is not None:
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
                raise HTTPException(401, "the token is missing or wrong: send it as  Authorization: Bearer ...")
        if scope["method"] != "POST":
            return
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, f"the content type is {kind or 'not given'}: send application/json")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.limits.request_bytes:
            await body.refuse()


class _Body:
    """`receive` that counts bytes, whatever the head said, and seconds until the body is whole."""

    def __init__(self, receive: Callable[[], Awaitable[Message]], limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._seen = 0
        self._whole = False
        self._deadline = time.monotonic() + limits.upload_seconds

    async def __call__(self) -> Message:
        if self._whole:  # from here on, the only message is that the client went away
            return await self._receive()
        message = await self._next()
        if self._seen > self._limits.request_bytes:
            await self.refuse()
        return message

    async def refuse(self) -> None:
        """Read on without keeping anything, within reason, and raise."""
        while not self._whole and self._seen < _DRAINED * self._limits.request_bytes:
            await self._next()
        limit = self._limits.request_bytes / MIB
        raise HTTPException(413, f"the request has more than the limit of {limit:g} MiB: send fewer edits at a time")

    async def _next(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), max(self._deadline - time.monotonic(), 0.001))
        except TimeoutError:
            limit = self._limits.upload_seconds
            raise HTTPException(408, f"the request did not arrive within {limit:g} s: send it faster") from None
        self._seen += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message
