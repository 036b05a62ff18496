"""Error answers: `{"error": {"message", "type"}}`, one sentence, no traceback, nothing of what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from editr1.serving.batching import BusyError, ClosedError
from editr1.serving.limits import RequestTooLargeError

_TYPES = {
    401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large",
    415: "unsupported_media_type", 422: "invalid_request", 429: "busy", 500: "internal_error", 503: "shutting_down",
}  # fmt: skip
_HEADERS = {
    # what was turned away in the middle is not read to its end: the connection cannot be used again
    408: {"Connection": "close"},
    413: {"Connection": "close"},
    415: {"Connection": "close"},
    429: {"Retry-After": "2"},
}


def error_answer(status: int, message: str) -> JSONResponse:
    """The answer to a request that fails as a whole."""
    body = {"error": {"message": message, "type": _TYPES.get(status, "bad_request")}}
    return JSONResponse(body, status, headers=_HEADERS.get(status))


def answer_errors(app: FastAPI) -> None:
    """Have every error that the routes raise answered in this form."""
    for error, status in ((RequestTooLargeError, 413), (BusyError, 429), (ClosedError, 503)):
        app.add_exception_handler(error, lambda _, exc, status=status: error_answer(status, str(exc)))
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fault)


async def _http(request: Request, exc: Any) -> JSONResponse:
    detail = str(exc.detail)
    if detail in ("Not Found", "Method Not Allowed"):
        asked = f"{request.method} {request.url.path[:100]}"
        detail = f"there is no {asked}: ask for POST /v1/score, GET /v1/models or GET /health"
    return error_answer(exc.status_code, detail)


async def _invalid(request: Request, exc: Any) -> JSONResponse:
    return error_answer(422, _sentence(exc.errors()[0]))


async def _fault(request: Request, exc: Exception) -> JSONResponse:
    return error_answer(500, f"the service failed ({type(exc).__name__}); its log says where")


def _sentence(error: Mapping[str, Any]) -> str:
    """What pydantic has against a request, without the values, which may be megabytes of base64."""
    if error["type"] == "json_invalid":
        return f"the body is not JSON ({error.get('ctx', {}).get('error', 'it cannot be read')})"
    where = ".".join(str(part) for part in error["loc"] if part != "body") or "body"
    message = str(error["msg"])
    return f"{where}: {message[:1].lower()}{message[1:]}"
