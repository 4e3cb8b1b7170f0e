"""Talking to envd and the gateway of one box, over their unix sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import httpcore

from code_interpreter.host.records import Record, now
from code_interpreter.host.runtimes.base import ENVD_SOCKET, GATEWAY_SOCKET

DEFAULT_USER = "user"


class GuestUnreachable(Exception):
    """A supervisor of the box did not answer, or not as it should."""


class GuestLink:
    """Every call raises `GuestUnreachable`; deadlines are the caller's."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory

    async def introduce(self, record: Record) -> None:
        """Tell envd and the gateway who they are and what variables user code gets."""
        await _both(
            self._request("POST", ENVD_SOCKET, "/init", _for_envd(record)),
            self._request("POST", GATEWAY_SOCKET, "/init", _for_gateway(record)),
        )

    async def until_healthy(self) -> None:
        """Return once both have answered."""
        await _both(
            self._request("GET", ENVD_SOCKET, "/health"),
            self._request("GET", GATEWAY_SOCKET, "/health"),
        )

    async def metrics(self, access_token: str) -> Mapping[str, Any]:
        """What envd measures in the box: see ``GET /metrics`` of envd."""
        headers: dict[str | bytes, str | bytes] = {"X-Access-Token": access_token}
        content = await self._request("GET", ENVD_SOCKET, "/metrics", headers=headers)
        answer = json.loads(content)
        if not isinstance(answer, dict):
            raise GuestUnreachable("envd's metrics are not an object")
        return answer

    async def _request(
        self,
        method: str,
        socket: str,
        path: str,
        body: object = None,
        headers: dict[str | bytes, str | bytes] | None = None,
    ) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        described: dict[str | bytes, str | bytes] = {
            "Host": "sandbox",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
        }
        try:
            async with httpcore.AsyncConnectionPool(uds=str(self._run_directory / socket)) as pool:
                response = await pool.request(
                    method,
                    f"http://sandbox{path}",
                    headers={**described, **(headers or {})},
                    content=content,
                )
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise GuestUnreachable(f"{socket} does not answer: {error!r}") from error
        if not 200 <= response.status < 300:
            text = response.content[:500].decode(errors="replace")
            raise GuestUnreachable(f"{method} {path} on {socket}: {response.status} {text}")
        return response.content


async def _both(*requests: Coroutine[Any, Any, bytes]) -> None:
    """At the same time; the first failure ends the other and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for request in requests:
                group.create_task(request)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _for_envd(record: Record) -> dict[str, object]:
    return {
        "envVars": dict(record.env_vars),
        "accessToken": record.access_token,
        "timestamp": now().isoformat(),
        "defaultUser": DEFAULT_USER,
        "sandboxId": record.sandbox_id,
        "templateId": record.template,
    }


def _for_gateway(record: Record) -> dict[str, object]:
    return {"envVars": dict(record.env_vars), "sandboxId": record.sandbox_id}
