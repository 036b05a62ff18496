"""The service itself: `POST /v1/score`, `GET /v1/models`, `GET /health`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from editr1 import __version__
from editr1.errors import DataError, ImageError
from editr1.rewards.wire import ErrorResponse, ScoreItem, ScoreRequest, ScoreResponse, decode_image
from editr1.serving.answers import answer_errors
from editr1.serving.batching import Batcher
from editr1.serving.gate import Gate
from editr1.serving.limits import Limits, check_total, picture_pixels
from editr1.types import EditVerdict, VerdictStatus

if TYPE_CHECKING:
    from editr1.verifier import Verifier

_CLIENT_CLOSED = 499
"""What nginx writes into its log for a client that did not wait; nobody receives it."""


def create_app(
    verifier: Verifier,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    token: str | None = None,
    max_batch: int = 64,
    window: float = 0.01,
    parallel: int = 1,
) -> FastAPI:
    """The service around a verifier; what answers here is the verifier's own `score_many`, as everywhere else.

    Args:
        verifier: judges, in threads.
        limits: on what a request may ask for.
        token: that requests have to bear, except for `/health`; None lets everybody in.
        max_batch: most edits in one call of the verifier.
        window: seconds that an idle service waits for further requests before it begins on a batch.
        parallel: batches that are judged at a time; more than one only for a judge that threads can share, such as
            one behind a server.
    """
    batcher = Batcher(verifier, max_batch=max_batch, window=window, max_waiting=limits.waiting, parallel=parallel)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.close()

    errors: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in (401, 413, 415, 422, 429)}
    app = FastAPI(
        title="editr1 scoring service", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        responses=errors,
    )  # fmt: skip
    app.add_middleware(Gate, limits=limits, token=token)
    answer_errors(app)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the service is up, and what it has done so far."""
        return {
            "status": "ok",
            "model": verifier.judge.name,
            "pending": batcher.pending,
            "batches": batcher.batches,
            "verdicts": dict(batcher.counts),
        }

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model that judges here, in the form of OpenAI's list."""
        card = {
            "id": verifier.judge.name,
            "object": "model",
            "owned_by": "editr1",
            "prompt_hash": verifier.template.hash,
            "passes": verifier.passes,
        }
        return {"object": "list", "data": [card]}

    @app.post("/v1/score", response_model=None, responses={200: {"model": ScoreResponse}})
    async def score(request: ScoreRequest, connection: Request) -> Response:
        """Judge edits: as many verdicts as items, in their order."""
        return await _score(request, connection, batcher, limits)

    return app


async def _score(request: ScoreRequest, connection: Request, batcher: Batcher, limits: Limits) -> Response:
    """The verdicts on a request's items; items that cannot be read have failures of their own.

    Raises:
        HTTPException: if there are too many items.
    """
    if len(request.items) > limits.items:
        raise HTTPException(413, f"{len(request.items)} items are more than the limit of {limits.items}")
    read = await asyncio.to_thread(_read_items, request.items, limits)
    sound = [item for item in read if not isinstance(item, EditVerdict)]
    found = await _while_connected(connection, batcher.score(sound, timeout=limits.seconds)) if sound else []
    if found is None:
        return Response(status_code=_CLIENT_CLOSED)
    judged = iter(found)
    verdicts = [item if isinstance(item, EditVerdict) else next(judged) for item in read]
    return JSONResponse({"verdicts": [v.to_dict() for v in verdicts]})


async def _while_connected(
    connection: Request, work: Coroutine[Any, Any, list[EditVerdict]]
) -> list[EditVerdict] | None:
    """What `work` returns, or None as soon as the client is gone: nobody waits for it then, and it is cancelled."""

    async def gone() -> None:
        while (await connection.receive())["type"] != "http.disconnect":
            pass

    judging, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((judging, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await judging if judging.done() else None
    finally:
        judging.cancel()
        leaving.cancel()
        await asyncio.gather(judging, leaving, return_exceptions=True)


def _read_items(items: Sequence[ScoreItem], limits: Limits) -> list[Mapping[str, Any] | EditVerdict]:
    """Items as the verifier takes them; one whose pictures or principles cannot be used is a failure of its own.

    Raises:
        RequestTooLargeError: if all pictures together have too many pixels.
    """
    read: list[Mapping[str, Any] | EditVerdict] = []
    pixels: list[int] = []
    for item in items:
        try:
            pictures = {}
            for label in ("source", "edited"):
                pictures[label] = decode_image(getattr(item, label), label)
                pixels.append(picture_pixels(pictures[label], label, limits))
                check_total(pixels, limits)
            principles = None if item.principles is None else tuple(p.to_principle() for p in item.principles)
        except (ImageError, DataError) as exc:
            read.append(EditVerdict(VerdictStatus.ERROR, id=item.id, error=str(exc)))
            continue
        read.append({"id": item.id, "instruction": item.instruction, "principles": principles, **pictures})
    return read
