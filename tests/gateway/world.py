"""A real gateway process on a unix socket, and clients for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel
from websockets.asyncio.client import ClientConnection, unix_connect

from code_interpreter.guest.config import GuestConfig
from code_interpreter.protocol.executions import (
    PATH,
    SUBPROTOCOL,
    EndOfExecution,
    ErrorEvent,
    Execute,
    ExecutionEvent,
    GatewayMessage,
    Refused,
    ResultEvent,
    Stderr,
    Stdout,
    encode,
    gateway_message,
)

ROOT = Path(__file__).parents[2]
START_DEADLINE = 20.0
Kind = TypeVar("Kind")


@dataclass
class Outcome:
    """All events of one execution, and what one asks of them most."""

    events: list[ExecutionEvent] = field(default_factory=list)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def text(self) -> str | None:
        return next((r.bundle.text for r in self.of(ResultEvent) if r.is_main_result), None)

    @property
    def stdout(self) -> str:
        return "".join(event.text for event in self.of(Stdout))

    @property
    def stderr(self) -> str:
        return "".join(event.text for event in self.of(Stderr))

    @property
    def error(self) -> ErrorEvent | None:
        return next(iter(self.of(ErrorEvent)), None)

    @property
    def results(self) -> list[ResultEvent]:
        return self.of(ResultEvent)

    @property
    def end(self) -> EndOfExecution:
        assert len(self.of(EndOfExecution)) == 1
        last = self.events[-1]
        assert isinstance(last, EndOfExecution)
        return last


class Link:
    """One WebSocket with any number of executions on it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._waiting: list[GatewayMessage] = []

    async def send(self, message: BaseModel) -> None:
        await self.connection.send(encode(message))

    async def receive(self, deadline: float = 30) -> GatewayMessage:
        async with asyncio.timeout(deadline):
            return gateway_message.validate_json(await self.connection.recv())

    async def next_of(self, execution_id: str, deadline: float = 30) -> GatewayMessage:
        """The next message of one execution; those of others wait."""
        for index, message in enumerate(self._waiting):
            if message.execution_id == execution_id:
                return self._waiting.pop(index)
        while True:
            message = await self.receive(deadline)
            if message.execution_id == execution_id:
                return message
            self._waiting.append(message)

    async def begin(self, code: str, **fields: Any) -> str:
        execution_id = fields.pop("execution_id", None) or uuid.uuid4().hex
        await self.send(Execute(execution_id=execution_id, code=code, **fields))
        return execution_id

    async def until(self, execution_id: str, kind: type[Kind], deadline: float = 30) -> Kind:
        while True:
            message = await self.next_of(execution_id, deadline)
            if isinstance(message, kind):
                return message

    async def outcome(self, execution_id: str, deadline: float = 30) -> Outcome:
        """Read to the end; checks that events are numbered without a gap."""
        outcome = Outcome()
        while True:
            message = await self.next_of(execution_id, deadline)
            assert not isinstance(message, Refused), message
            if outcome.events:
                assert message.seq == outcome.events[-1].seq + 1
            outcome.events.append(message)
            if isinstance(message, EndOfExecution):
                return outcome

    async def run(self, code: str, *, deadline: float = 30, **fields: Any) -> Outcome:
        return await self.outcome(await self.begin(code, **fields), deadline)


class World:
    """One gateway with a home and a state directory of its own."""

    def __init__(self, directory: Path, process: asyncio.subprocess.Process) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.socket = str(directory / "g.sock")
        self.process = process

    def client(self, **options: Any) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=self.socket)
        return httpx.AsyncClient(
            transport=transport, base_url="http://gateway", timeout=30, **options
        )

    @contextlib.asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        async with unix_connect(
            self.socket, f"ws://gateway{PATH}", subprotocols=[SUBPROTOCOL], max_size=None
        ) as connection:
            yield Link(connection)

    async def run(self, code: str, **fields: Any) -> Outcome:
        async with self.link() as link:
            return await link.run(code, **fields)

    async def execute(self, code: str, **fields: Any) -> list[dict[str, Any]]:
        """``POST /execute`` and its lines."""
        async with self.client() as client:
            response = await client.post("/execute", json={"code": code, **fields})
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.text.splitlines()]

    def kernels(self) -> list[int]:
        """Pids of the kernels that the gateway has."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def memory(self) -> int:
        """Resident bytes of the gateway."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.asynccontextmanager
async def running_gateway(
    directory: Path,
    kernel_starter_fd: int | None = None,
    max_contexts: int = 100,
    max_queued: int = 1000,
) -> AsyncIterator[World]:
    """Start a gateway in ``directory``; ended afterwards, with its kernels."""
    (directory / "home").mkdir(exist_ok=True)
    (directory / "state").mkdir(exist_ok=True)
    config = GuestConfig(
        isolated=False,
        home=str(directory / "home"),
        state_directory=str(directory / "state"),
        python=sys.executable,
        jupyter_path=str(ROOT),
        listen_path=str(directory / "g.sock"),
        kernel_starter_fd=kernel_starter_fd,
        max_contexts=max_contexts,
        max_queued=max_queued,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "code_interpreter.gateway",
        "--config",
        config.dump(),
        pass_fds=[] if kernel_starter_fd is None else [kernel_starter_fd],
    )
    world = World(directory, process)
    try:
        await _until_healthy(world)
        yield world
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(20):
            await process.wait()


async def _until_healthy(world: World) -> None:
    async with asyncio.timeout(START_DEADLINE), world.client() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/health")).status_code == 200:
                    return
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """Unix sockets have short names, pytest's own directories have long ones."""
    with tempfile.TemporaryDirectory(prefix="gw") as name:
        yield Path(name)
