"""What every request passes before its route: the key, the size of its body, the raw path."""

from __future__ import annotations

import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from code_interpreter.host.api.errors import error_response

PUBLIC = frozenset({"/health", "/openapi.json"})
"""Paths that need no key."""
_LOGIN_PAGE = re.compile(r"/jupyter/[a-z0-9]+/login")
"""Asks for the token of a sandbox."""
MAX_BODY_BYTES = 4 * 1024 * 1024


class Gate:
    """ASGI middleware, around all routes.

    Paths stay percent-encoded for routing, so that a name with a ``/`` in it is one
    segment; routes decode their parameters themselves.
    """

    def __init__(self, app: ASGIApp, *, api_key: str) -> None:
        self._app = app
        self._key = api_key.encode()
        self.last_request = time.monotonic()
        """When a request last began or ended; for hosts that stop when idle."""
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self._check(scope, receive, send)
        finally:
            self.under_way -= 1
            self.last_request = time.monotonic()

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not (_is_public(scope["path"]) or self._is_known(headers)):
            message = (
                "the API key is wrong" if _given_key(headers) else "an API key is needed"
            ) + ": send it as X-API-KEY (E2B_API_KEY of the clients)"
            await error_response(401, message)(scope, receive, send)
            return
        scope = {**scope, "path": scope.get("raw_path", b"").decode("ascii", "replace")}
        await self._app(scope, _Bounded(receive), send)

    def _is_known(self, headers: Headers) -> bool:
        return secrets.compare_digest(_given_key(headers).encode(), self._key)


def _is_public(path: str) -> bool:
    return path in PUBLIC or _LOGIN_PAGE.fullmatch(path) is not None


def _given_key(headers: Headers) -> str:
    key = headers.get("x-api-key")
    if key is not None:
        return key
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class _Bounded:
    """Receives, and counts the body's bytes as they come. Raises HTTPException 413."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MAX_BODY_BYTES

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        return message
