"""Every answer that is not a success has the body ``{"code", "message"}``."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from code_interpreter.host.errors import HostError
from code_interpreter.protocol.control import ErrorBody

_OF_E2B = re.compile(
    r"/(v2/)?sandboxes/[^/]+/[^/]+|/snapshots\b|/(v\d/)?templates(/|$)"
    r"|/(volumes|volumecontent|secrets|api-keys|access-tokens|events)(/|$)"
)
"""What E2B's API has. Clients take 404 there for a sandbox, or a file, that does not exist."""
_log = logging.getLogger(__name__)


def error_response(
    status: int,
    message: str,
    error_code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = ErrorBody(code=status, message=message, error_code=error_code)
    return Response(
        body.model_dump_json(by_alias=True, exclude_none=True),
        status,
        headers,
        media_type="application/json",
    )


def install(app: FastAPI) -> None:
    app.add_exception_handler(HostError, _host_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def _host_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HostError)
    return error_response(error.status, str(error), error.error_code, error.headers)


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(400, "; ".join(_describe(problem) for problem in error.errors()))


def _describe(problem: Mapping[str, object]) -> str:
    place = problem.get("loc")
    names = [str(part) for part in place[1:]] if isinstance(place, tuple | list) else []
    if problem.get("type") == "json_invalid":
        return "the body is not valid JSON"
    message = str(problem.get("msg", "is not valid")).removeprefix("Value error, ")
    return f"{'.'.join(names) or 'the body'}: {message}"[:500]


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, detail = error.status_code, str(error.detail)
    if status == 404:
        asked = f"{request.method} {request.url.path[:200]}"
        detail = f"there is no {asked} here"
        if _OF_E2B.match(request.url.path):
            status, detail = 501, f"this host does not offer {asked}"
    return error_response(status, detail, headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(
        500, "internal error of the host; its log says more", "internal_server_error"
    )
