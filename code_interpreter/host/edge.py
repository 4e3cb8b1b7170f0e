"""The one TCP port of a host: the control-plane API and every sandbox behind it.

The parts, each of which can be read alone:

* `edge_http`: HTTP/1.1 without I/O
* `edge_address`: whom a request is for
* `edge_answers`: what the edge says itself
* `edge_routes`: what it asks of the host
* `edge_upstream`: connections to servers
* `edge_switchboard`: from a request's head to such a connection
* `edge_exchange`: one request and its response
* `edge_client`: connections of clients
* `edge_crowd`: how many of them there may be
* `edge_vigil`: whether servers that are silent still live
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from code_interpreter.host.edge_client import ClientConnection
from code_interpreter.host.edge_crowd import Crowd
from code_interpreter.host.edge_routes import Route, Routes, WakeRefused
from code_interpreter.host.edge_switchboard import Switchboard
from code_interpreter.host.edge_vigil import PATIENCE, Vigil

__all__ = ["Edge", "Route", "Routes", "WakeRefused"]

_BACKLOG = 1024
_SWEEP_SECONDS = 1.0


class Edge:
    """Forwards HTTP/1.1 and WebSockets to the API and into sandboxes.

    ``api_socket`` is the unix socket on which the control-plane API listens. ``domain`` is
    the name (with its port, if it is not 80) under which sandboxes are reached as
    ``<port>-<sandbox id>.<domain>``. ``patience``: as `edge_vigil.PATIENCE`.
    """

    def __init__(
        self,
        routes: Routes,
        api_socket: Path,
        *,
        domain: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._vigil = Vigil(patience)
        self._switchboard = Switchboard(routes, api_socket, domain, self._vigil)
        self._clients: Crowd[ClientConnection] = Crowd()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def serve(self, host: str, port: int) -> int:
        """Listen, and return the port: a free one where ``port`` was 0. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._accept, host, port, backlog=_BACKLOG, reuse_address=True
        )
        self._sweeper = loop.create_task(self._sweep())
        return int(self._server.sockets[0].getsockname()[1])

    def refuse_all(self) -> None:
        """Answer from now on that this host is stopping; what is under way goes on."""
        self._switchboard.stopping = True

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        await self._vigil.close()
        dialling = [client.opening for client in self._clients if client.opening is not None]
        for client in self._clients:
            client.abort()
        await asyncio.gather(*dialling, return_exceptions=True)
        self._switchboard.pool.close()

    def disconnect(self, sandbox_id: str) -> None:
        """Cut every connection of a sandbox, at once: it is gone, or being paused.

        Let `Routes.find` stop finding it first, or else clients that ask again get through.
        """
        self._vigil.forget(sandbox_id)
        self._switchboard.pool.drop(sandbox_id)
        for client in self._clients:
            client.cut(sandbox_id)

    def _accept(self) -> ClientConnection:
        return ClientConnection(self._switchboard, self._clients)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for client in self._clients:
                client.sweep(now)
            self._switchboard.pool.sweep()
