"""A gateway that does what a cell tells it, step by step: also what a sound one never does.

It speaks the real protocol over real sockets. A cell is a JSON list of steps, each a list:

``["event", type, {fields}]``   send an event (``seq`` is added)
``["sleep", seconds]``
``["drop"]``                    cut the WebSocket; the cell goes on
``["skip"]``                    leave out a number
``["input", prompt]``           ask for a line, and print it
``["end", {fields}]``           the last event; without it the cell hangs until cancelled
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket
from e2b import ConnectionConfig
from e2b.sandbox.main import SandboxOpts
from packaging.version import Version

from code_interpreter import AsyncSandbox, Sandbox
from code_interpreter.protocol import executions as wire

SANDBOX_ID = "ipeer"
GONE = json.dumps({"sandboxId": SANDBOX_ID, "message": "The sandbox was not found", "code": 502})
RECEIPT = {"wall_seconds": 0.25, "stdout": {"total_bytes": 3}}


@dataclass
class Cell:
    execute: wire.Execute
    events: list[dict[str, Any]] = field(default_factory=list)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    seq: int = 0


@dataclass
class Peer:
    """What it saw, and what it shall do. Change it between calls only."""

    url: str = ""
    websocket_status: int | None = None
    """Refuse WebSockets with this status."""
    gone: bool = False
    """Answer everything as the edge answers for a sandbox that was killed."""
    forgets: bool = False
    """Lose what it knew whenever a WebSocket is opened."""
    opened: int = 0
    runs: int = 0
    messages: list[wire.ClientMessage] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    cells: dict[str, Cell] = field(default_factory=dict)
    sockets: set[Socket] = field(default_factory=set)
    loop: asyncio.AbstractEventLoop | None = None

    def drop_all(self) -> None:
        """Cut every WebSocket, from any thread."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.cut_all)

    def cut_all(self) -> None:
        for socket in list(self.sockets):
            socket.cut()

    def options(self) -> SandboxOpts:
        config = ConnectionConfig(
            api_key="e2b_" + "0" * 40,
            api_url=self.url,
            sandbox_url=self.url,
            extra_sandbox_headers={"E2b-Sandbox-Id": SANDBOX_ID, "E2b-Sandbox-Port": "49983"},
        )
        return SandboxOpts(
            sandbox_id=SANDBOX_ID,
            sandbox_domain=None,
            envd_version=Version("0.6.13"),
            envd_access_token="access",
            traffic_access_token="traffic",
            connection_config=config,
        )

    def sandbox(self) -> Sandbox:
        return Sandbox(**self.options())

    def async_sandbox(self) -> AsyncSandbox:
        return AsyncSandbox(**self.options())

    def accept(self, execute: wire.Execute) -> Cell:
        cell = self.cells.get(execute.execution_id)
        if cell is None:
            self.runs += 1
            cell = self.cells[execute.execution_id] = Cell(execute)
            cell.task = asyncio.create_task(self._run(cell))
        return cell

    async def _run(self, cell: Cell) -> None:
        await _emit(cell, "accepted", context_id="c1", language=cell.execute.language or "python")
        for name, *rest in json.loads(cell.execute.code):
            match name:
                case "event":
                    await _emit(cell, rest[0], **rest[1])
                case "sleep":
                    await asyncio.sleep(rest[0])
                case "drop":
                    await asyncio.sleep(0.05)
                    self.cut_all()
                case "skip":
                    cell.seq += 1
                case "input":
                    await _emit(cell, "input_request", prompt=rest[0], password=True)
                    text = await cell.answers.get()
                    await _emit(cell, "stdout", text=text, timestamp="t")
                case "end":
                    await _end(cell, **(rest[0] if rest else {}))
                    return
        await cell.cancelled.wait()
        await _end(cell, status="interrupted", cause="cancel")


async def _emit(cell: Cell, kind: str, **fields: Any) -> None:
    cell.seq += 1
    message = {
        "type": kind,
        "execution_id": cell.execute.execution_id,
        "seq": cell.seq,
        **fields,
    }
    async with cell.grown:
        cell.events.append(message)
        cell.grown.notify_all()


async def _end(cell: Cell, **fields: Any) -> None:
    defaults = {"status": "ok", "kernel_state": "preserved", "receipt": RECEIPT}
    await _emit(cell, "end_of_execution", **{**defaults, **fields})


class Socket(tornado.websocket.WebSocketHandler):
    peer: Peer

    def initialize(self, peer: Peer) -> None:
        self.peer = peer
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, *args: Any, **kwargs: Any) -> None:
        status = 502 if self.peer.gone else self.peer.websocket_status
        if status is not None:
            self.set_status(status)
            await self.finish(GONE if self.peer.gone else f"no WebSocket ({status})")
            return
        await super().get(*args, **kwargs)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return wire.SUBPROTOCOL if wire.SUBPROTOCOL in subprotocols else None

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self.peer.opened += 1
        self.peer.headers = dict(self.request.headers)
        self.peer.sockets.add(self)
        if self.peer.forgets:
            self.peer.cells.clear()

    def on_message(self, message: str | bytes) -> None:
        parsed = wire.client_message.validate_json(message)
        self.peer.messages.append(parsed)
        match parsed:
            case wire.Execute():
                self._run_cell(parsed)
            case wire.Attach():
                self._attach(parsed)
            case wire.Cancel():
                if parsed.execution_id in self.peer.cells:
                    self.peer.cells[parsed.execution_id].cancelled.set()
            case wire.Input():
                self.peer.cells[parsed.execution_id].answers.put_nowait(parsed.value)

    def cut(self) -> None:
        if self.ws_connection is not None:
            self.ws_connection._abort()
        self.on_close()

    def on_close(self) -> None:
        self.peer.sockets.discard(self)
        for task in self._tasks:
            task.cancel()

    def _run_cell(self, execute: wire.Execute) -> None:
        if execute.language == "cobol":
            self._refuse(execute.execution_id, 400, "no kernel for 'cobol'")
        elif execute.context_id == "missing":
            self._refuse(execute.execution_id, 404, "Context missing not found")
        else:
            self._follow(self.peer.accept(execute), 0)

    def _attach(self, attach: wire.Attach) -> None:
        cell = self.peer.cells.get(attach.execution_id)
        if cell is None:
            self._refuse(attach.execution_id, 404, "no such execution")
        else:
            self._follow(cell, attach.after)

    def _refuse(self, execution_id: str, status: int, message: str) -> None:
        refused = wire.Refused(execution_id=execution_id, status=status, message=message)
        self.write_message(wire.encode(refused))

    def _follow(self, cell: Cell, after: int) -> None:
        task = asyncio.create_task(self._send_events(cell, after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_events(self, cell: Cell, after: int) -> None:
        sent: list[dict[str, Any]] = []
        with contextlib.suppress(tornado.websocket.WebSocketClosedError):
            while not sent or sent[-1]["type"] != "end_of_execution":
                async with cell.grown:
                    await cell.grown.wait_for(lambda: len(cell.events) > len(sent))
                for event in cell.events[len(sent) :]:
                    sent.append(event)
                    if event["seq"] > after:
                        await self.write_message(json.dumps(event))


class Http(tornado.web.RequestHandler):
    """envd's health, contexts, and ``POST /execute`` as E2B's server answers it."""

    def initialize(self, peer: Peer) -> None:
        self.peer = peer

    async def prepare(self) -> None:
        body = json.loads(self.request.body) if self.request.body else None
        self.peer.requests.append((self.request.method or "", self.request.path, body))
        self.peer.headers = dict(self.request.headers)
        if self.peer.gone:
            self.set_status(502)
            await self.finish(GONE)

    async def get(self, path: str) -> None:
        if path == "health":
            self.set_status(204)
        elif path == "contexts":
            self.finish('[{"id": "c1", "language": "python", "cwd": "/home/user"}]')
        else:
            self.set_status(404)

    async def delete(self, path: str) -> None:
        await self._change_context(path.removeprefix("contexts/"))

    async def post(self, path: str) -> None:
        if path == "contexts":
            body = json.loads(self.request.body)
            context = {"id": "c2", "language": "python", "cwd": "/home/user", **body}
            await self.finish(json.dumps(context))
        elif path == "execute":
            await self._run_cell(json.loads(self.request.body)["code"])
        else:
            await self._change_context(path.removeprefix("contexts/").removesuffix("/restart"))

    async def _change_context(self, context_id: str) -> None:
        if context_id != "c1":
            self.set_status(404)
            await self.finish(f"Context {context_id} not found")
        else:
            await self.finish("null")

    async def _run_cell(self, code: str) -> None:
        for name, *rest in json.loads(code):
            match name:
                case "event":
                    fields = rest[1]
                    line = {"type": rest[0], **fields.get("bundle", {}), **fields}
                    line.pop("bundle", None)
                    self.write(json.dumps(line, ensure_ascii=False) + "\n")
                    await self.flush()
                case "sleep":
                    await asyncio.sleep(rest[0])
                case "drop":
                    self.detach().close()
                    return
                case "end":
                    self.write('{"type": "end_of_execution"}')


@contextlib.contextmanager
def running_peer(port: int = 0) -> Iterator[Peer]:
    """A peer in a thread of its own."""
    peer = Peer()
    ready = threading.Event()
    stop: list[asyncio.Event] = []
    thread = threading.Thread(target=lambda: asyncio.run(_serve(peer, port, ready, stop)))
    thread.start()
    assert ready.wait(10)
    try:
        yield peer
    finally:
        assert peer.loop is not None
        peer.loop.call_soon_threadsafe(stop[0].set)
        thread.join(10)


async def _serve(peer: Peer, port: int, ready: threading.Event, stop: list[asyncio.Event]) -> None:
    application = tornado.web.Application(
        [
            (wire.PATH, Socket, {"peer": peer}),
            (r"/(.*)", Http, {"peer": peer}),
        ],
        websocket_max_message_size=wire.MAX_MESSAGE_BYTES,
    )
    (listener,) = tornado.netutil.bind_sockets(port, "127.0.0.1")
    server = tornado.httpserver.HTTPServer(application)
    server.add_socket(listener)
    peer.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    peer.loop = asyncio.get_running_loop()
    stop.append(asyncio.Event())
    ready.set()
    await stop[0].wait()
    server.stop()
    peer.cut_all()
    await server.close_all_connections()
    for cell in peer.cells.values():
        if cell.task is not None:
            cell.task.cancel()


def program(*steps: list[Any]) -> str:
    """The code of a cell that takes these steps."""
    return json.dumps(steps)


def stdout(text: str) -> list[Any]:
    return ["event", "stdout", {"text": text, "timestamp": "2026-01-01T00:00:00+00:00"}]


def result(text: str, **fields: Any) -> list[Any]:
    return ["event", "result", {"bundle": {"text": text}, "is_main_result": True, **fields}]


SMALL = program(stdout("hello\n"), result("2"), ["end"])
"""Prints a line and has a value."""
HANGS = program(stdout("before\n"))
"""Prints a line and never ends by itself."""
