"""Talking to envd and the gateway of one box, over their unix sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import h11

from code_interpreter.host.init_link import ask_init
from code_interpreter.host.records import Record
from code_interpreter.host.runtimes.base import ENVD_SOCKET, GATEWAY_SOCKET
from code_interpreter.host.sockets import connect

DEFAULT_USER = "user"
MOST_BYTES = 1 << 20
"""Of an answer."""
_CHUNK = 1 << 16
_MOST_HEADS = 4
"""Of one answer: more than one say that another comes (status 1xx)."""


class GuestUnreachable(Exception):
    """A supervisor of the box did not answer, or not as it should."""


class GuestLink:
    """Every call raises `GuestUnreachable`; deadlines are the caller's."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory

    async def introduce(
        self,
        record: Record,
        told: Record | None = None,
        languages: tuple[str, ...] = (),
        *,
        wake: bool = False,
    ) -> None:
        """Tell envd and the gateway who they are and what variables user code gets.

        ``told``: what they were told before; whom there is nothing new for is not asked.
        ``languages``: those whose kernels are to be started ahead. ``wake``: an envd that
        rests is started for it, too.
        """
        known = {} if told is None else _introductions(told)
        said = _introductions(record, languages)
        await _all(
            self._tell(socket, body, wake=wake)
            for socket, body in said.items()
            if body != known.get(socket)
        )

    async def _tell(self, socket: str, body: dict[str, object], *, wake: bool) -> None:
        if socket == ENVD_SOCKET and await self._init_keeps(body) and not wake:
            return
        await self._request("POST", socket, "/init", body=body)

    async def _init_keeps(self, body: dict[str, object]) -> bool:
        """Whether envd rests, and init has noted ``body`` for the next one."""
        try:
            answer = await ask_init(self._run_directory, {"op": "introduce", "envd": body})
        except (OSError, ValueError):  # a box without such an init
            return False
        return answer.get("kept") is True

    async def end_unused_after(self, seconds: float) -> None:
        """Have kernels that were started ahead end if nobody has used them so long from now."""
        await self._request("POST", GATEWAY_SOCKET, "/unused", body={"seconds": seconds})

    async def until_settled(self) -> None:
        """Return once the gateway starts no kernel any more."""
        await self._request("GET", GATEWAY_SOCKET, "/settled")

    async def prepare_for_pause(self) -> None:
        """Tell the gateway that its clients do not go away because they want to."""
        await self._request("POST", GATEWAY_SOCKET, "/freeze")

    async def until_healthy(self) -> None:
        """Return once both have answered."""
        await _all(
            self._request("GET", socket, "/health") for socket in (ENVD_SOCKET, GATEWAY_SOCKET)
        )

    async def until_answered(self, socket: str) -> None:
        """Return once the supervisor behind this socket has answered."""
        await self._request("GET", socket, "/health")

    async def metrics(self, access_token: str) -> Mapping[str, Any]:
        """What envd measures in the box: see ``GET /metrics`` of envd."""
        headers = {"X-Access-Token": access_token}
        content = await self._request("GET", ENVD_SOCKET, "/metrics", headers=headers)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise GuestUnreachable(f"envd's metrics are no JSON: {error}") from error
        if not isinstance(answer, dict):
            raise GuestUnreachable("envd's metrics are not an object")
        return answer

    async def _request(
        self,
        method: str,
        socket: str,
        path: str,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        described = {
            "Host": "sandbox",
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }
        head = h11.Request(method=method, target=path, headers=list(described.items()))
        try:
            status, answer = await _exchange(self._run_directory / socket, head, content)
        except (OSError, h11.ProtocolError) as error:
            raise GuestUnreachable(f"{socket} does not answer: {error!r}") from error
        if not 200 <= status < 300:
            text = answer[:500].decode(errors="replace")
            raise GuestUnreachable(f"{method} {path} on {socket}: {status} {text}")
        return answer


async def _exchange(path: Path, head: h11.Request, content: bytes) -> tuple[int, bytes]:
    """One request on a connection of its own; the answer's status and body."""
    reader, writer = await asyncio.open_unix_connection(sock=await connect(path))
    protocol = h11.Connection(h11.CLIENT)
    try:
        for event in (head, h11.Data(content), h11.EndOfMessage()):
            writer.write(protocol.send(event) or b"")
        return await _answer(reader, protocol)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, protocol: h11.Connection) -> tuple[int, bytes]:
    status, heads, body = 0, 0, bytearray()
    while len(body) <= MOST_BYTES and heads <= _MOST_HEADS:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, (h11.Response, h11.InformationalResponse)):
            status, heads = event.status_code, heads + 1
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)
    most = f"{MOST_BYTES} bytes or {_MOST_HEADS} heads"
    raise h11.RemoteProtocolError(f"the answer has more than {most}")


async def _all(requests: Iterable[Coroutine[Any, Any, object]]) -> None:
    """At the same time; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for request in requests:
                group.create_task(request)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _introductions(record: Record, languages: tuple[str, ...] = ()) -> dict[str, dict[str, object]]:
    """By socket: what its listener is told."""
    return {
        ENVD_SOCKET: {
            "envVars": dict(record.env_vars),
            "accessToken": record.access_token,
            "defaultUser": DEFAULT_USER,
            "sandboxId": record.sandbox_id,
            "templateId": record.template,
        },
        GATEWAY_SOCKET: {
            "envVars": dict(record.env_vars),
            "sandboxId": record.sandbox_id,
            **({"languages": languages} if languages else {}),
        },
    }
