"""Where a sandbox's kernel gateway is, and how to open a WebSocket to it."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from e2b.sandbox.main import SandboxBase
from websockets import exceptions as ws
from websockets.typing import Subprotocol

from code_interpreter.errors import (
    ConnectionLostException,
    NeedsWebSocketException,
    RequestTimeoutException,
    SandboxKilledException,
    SandboxPausedException,
    from_status,
)
from code_interpreter.protocol.executions import (
    GATEWAY_PORT,
    MAX_MESSAGE_BYTES,
    PATH,
    SUBPROTOCOL,
)

DEFAULT_TEMPLATE = "code-interpreter-v1"
"""The template with kernels in it."""
RECONNECT_SECONDS = 30.0
"""How long a connection that was lost is tried again."""
SILENT_SECONDS = 10.0
"""After which a client that waits for an event has the gateway show that it lives: a gateway that
owes an answer and does not give it is found to hang, and then its connections are ended."""
_REFUSES_WEBSOCKETS = frozenset(
    {
        HTTPStatus.OK,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.UPGRADE_REQUIRED,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)
NOBODY_THERE = (ConnectionError, ws.InvalidMessage)
"""How an attempt to connect ends where no server is, or where it dies meanwhile."""
_GONE = "was not found"
"""What the edge says of a sandbox that it does not have."""


class WebSocketUnavailable(Exception):
    """No WebSocket can be opened; plain HTTP may still work, or say better what is wrong."""

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
        """It is how the server is, so that trying again is of no use."""


def what_needs_websocket(background: bool, on_input: object, key: str | None) -> str | None:
    """Which of these arguments of ``run_code`` plain HTTP cannot do."""
    wanted = {
        "background=True": background,
        "on_input": on_input is not None,
        "idempotency_key": key is not None,
    }
    return next((name for name, given in wanted.items() if given), None)


def no_websocket(needed_by: str, reason: WebSocketUnavailable) -> NeedsWebSocketException:
    """For what plain HTTP cannot do."""
    return NeedsWebSocketException(
        f"{needed_by} needs a WebSocket to the sandbox, which cannot be opened: {reason}"
    )


@dataclass(frozen=True, slots=True)
class Link:
    """The address of one sandbox's gateway, with what it takes to be let in."""

    sandbox_id: str
    url: str
    """Of HTTP requests, without a slash at its end."""
    access_token: str | None
    traffic_token: str | None
    proxy: str | None
    """Of the caller; None leaves it to the environment."""

    @classmethod
    def to(cls, sandbox: SandboxBase) -> Link:
        """The way to a sandbox, as its connection settings have it."""
        config = sandbox.connection_config
        url = config.get_sandbox_url(sandbox.sandbox_id, sandbox.sandbox_domain, port=GATEWAY_PORT)
        return cls(
            sandbox.sandbox_id,
            url.rstrip("/"),
            sandbox._envd_access_token,
            sandbox.traffic_access_token,
            _proxy_url(config.proxy),
        )

    @property
    def websocket_url(self) -> str:
        return f"ws{self.url.removeprefix('http')}{PATH}"

    def headers(self) -> dict[str, str]:
        """What says for whom a request is, and that its sender may ask."""
        headers = {
            "E2b-Sandbox-Id": self.sandbox_id,
            "E2b-Sandbox-Port": str(GATEWAY_PORT),
        }
        if self.access_token:
            headers["X-Access-Token"] = self.access_token
        if self.traffic_token:
            headers["E2B-Traffic-Access-Token"] = self.traffic_token
        return headers

    def websocket_options(self) -> dict[str, Any]:
        """Arguments of ``connect`` that the sync and the async library share."""
        return {
            "subprotocols": [Subprotocol(SUBPROTOCOL)],
            "additional_headers": self.headers(),
            "compression": None,
            "max_size": MAX_MESSAGE_BYTES,
            "ping_interval": None,  # TCP does it, without a thread for each connection
            "close_timeout": 1,
            "proxy": self._websocket_proxy(),
        }

    def _websocket_proxy(self) -> str | Literal[True] | None:
        if self.proxy is not None:
            return self.proxy
        return None if urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1") else True


def _proxy_url(proxy: str | httpx.URL | httpx.Proxy | None) -> str | None:
    if proxy is None:
        return None
    if isinstance(proxy, httpx.Proxy):
        url = proxy.url
        if proxy.auth is not None:
            url = url.copy_with(username=proxy.auth[0], password=proxy.auth[1])
        return str(url)
    return str(proxy)


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel notice, within a minute, that the other end is gone without a word."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def check_subprotocol(subprotocol: str | None) -> None:
    """Raises `WebSocketUnavailable` if the server did not agree to speak our protocol."""
    if subprotocol != SUBPROTOCOL:
        raise WebSocketUnavailable(f"the server does not speak {SUBPROTOCOL}", lasting=True)


def explain_refusal(error: Exception) -> Exception:
    """What a failed attempt to open a WebSocket means for the caller."""
    if isinstance(error, ws.InvalidStatus):
        status = error.response.status_code
        if status == HTTPStatus.BAD_GATEWAY:
            return (
                SandboxPausedException() if is_paused(error) else from_status(status, _body(error))
            )
        lasting = status in _REFUSES_WEBSOCKETS
        return WebSocketUnavailable(f"the server answered {status}", lasting=lasting)
    if isinstance(error, TimeoutError):
        return RequestTimeoutException()
    if isinstance(error, OSError | ws.WebSocketException | ImportError):
        return WebSocketUnavailable(str(error))
    return error


def is_final(error: Exception) -> Exception | None:
    """What ends the attempts to connect again; None if another may succeed."""
    if isinstance(error, ws.InvalidStatus):
        status = error.response.status_code
        if status == HTTPStatus.BAD_GATEWAY and _GONE in _body(error):
            return SandboxPausedException() if is_paused(error) else SandboxKilledException()
        if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in (
            HTTPStatus.CONFLICT,
            HTTPStatus.TOO_MANY_REQUESTS,
        ):
            return from_status(status, _body(error))
        return None
    if isinstance(error, OSError | ws.WebSocketException | WebSocketUnavailable):
        return None
    return error


def loss(final: Exception | None, execution_id: str, reason: Exception) -> Exception:
    """What to raise for an execution when its connection cannot be made again."""
    if isinstance(final, SandboxPausedException):
        return SandboxPausedException(execution_id)
    return final or ConnectionLostException.for_good(execution_id, reason)


def is_paused(error: ws.InvalidStatus) -> bool:
    """Whether our edge said so; E2B's does not tell it from a sandbox that is gone."""
    with contextlib.suppress(ValueError, AttributeError):
        return bool(json.loads(_body(error)).get("state") == "paused")
    return False


def _body(error: ws.InvalidStatus) -> str:
    return (error.response.body or b"").decode(errors="replace")


def delays() -> Iterator[float]:
    """Seconds to wait before each further attempt to connect."""
    delay = 0.05
    while True:
        yield delay
        delay = min(2.0, delay * 2)
