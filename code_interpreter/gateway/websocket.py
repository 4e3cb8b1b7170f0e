"""The WebSocket of `protocol.executions`: many executions at once on one connection."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Coroutine
from typing import Any

from pydantic import ValidationError
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from code_interpreter.gateway.gateway import Gateway, LostWithGateway, Refusal
from code_interpreter.gateway.run import RETURN_SECONDS, Request, Run
from code_interpreter.protocol.executions import (
    SUBPROTOCOL,
    Accepted,
    Attach,
    Cancel,
    Cause,
    Execute,
    Input,
    Refused,
    client_message,
    encode,
)

_GOODBYES = (1000, 1001)
"""Codes of a closing handshake by somebody who does not come back: RFC 6455, 7.4.1."""

log = logging.getLogger(__name__)


def _text_frame_head(length: int) -> bytes:
    """Of a whole text message from a server: RFC 6455, 5.2."""
    if length < 126:
        return struct.pack("!BB", 0x81, length)
    if length < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, length)
    return struct.pack("!BBQ", 0x81, 127, length)


class Executions(WebSocketHandler):
    def initialize(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._tasks: set[asyncio.Task[None]] = set()
        self._owned: set[Run] = set()

    def prepare(self) -> None:
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        if SUBPROTOCOL not in (name.strip() for name in offered.split(",")):
            raise HTTPError(400, reason=f"Open this WebSocket with the subprotocol {SUBPROTOCOL}")

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return SUBPROTOCOL

    def write_error(self, status_code: int, **kwargs: object) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._reason)

    # --- from the client ------------------------------------------------------------------

    def on_message(self, message: str | bytes) -> None:
        try:
            received = client_message.validate_json(message)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            self._refuse(None, 400, f"Message not understood: {where} {first['msg']}".strip())
            return
        try:
            self._obey(received)
        except Refusal as refusal:
            self._refuse(received.execution_id, refusal.status, str(refusal))
        except LostWithGateway as lost:
            self._spawn(self._tell_loss(received, lost))

    def _obey(self, message: Execute | Attach | Cancel | Input) -> None:
        match message:
            case Execute():
                self._submit(message)
            case Attach():
                self._follow(self._gateway.run(message.execution_id), message.after)
            case Cancel():
                self._gateway.run(message.execution_id).stop(Cause.CANCEL)
            case Input():
                run = self._gateway.run(message.execution_id)
                if not run.answer_input(message.value, message.seq):
                    raise Refusal(409, "The execution does not wait for input")

    def _submit(self, message: Execute) -> None:
        request = Request(
            execution_id=message.execution_id,
            code=message.code,
            env_vars=message.env_vars or {},
            timeout=message.timeout,
            allow_stdin=message.allow_stdin,
            on_disconnect=message.on_disconnect,
        )
        run = self._gateway.execute(request, message.context_id, message.language)
        self._follow(run, 0)

    # --- to the client --------------------------------------------------------------------

    def _refuse(self, execution_id: str | None, status: int, text: str) -> None:
        self._send(encode(Refused(execution_id=execution_id, status=status, message=text)))

    def _send(self, text: str) -> None:
        try:
            self.write_message(text)
        except WebSocketClosedError:
            return

    async def _tell_loss(
        self, message: Execute | Attach | Cancel | Input, lost: LostWithGateway
    ) -> None:
        seq = message.after if isinstance(message, Attach) else 0
        if isinstance(message, Execute):
            seq += 1
            accepted = Accepted(
                execution_id=message.execution_id,
                seq=seq,
                context_id=message.context_id or "",
                language=message.language or "",
            )
            self._send(encode(accepted))
        self._send(encode(await lost.end(message.execution_id, seq + 1)))

    def _follow(self, run: Run, after: int) -> None:
        """Whoever follows a cell owns it: it goes on as long as one of them is there."""
        run.own(self)
        self._owned.add(run)
        self._spawn(self._send_events(run, after))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_events(self, run: Run, after: int) -> None:
        try:
            async for frames in run.journal.follow(after):
                await self._write(frames)
        except (WebSocketClosedError, StreamClosedError):
            return
        self._owned.discard(run)

    async def _write(self, texts: list[bytes]) -> None:
        """Several messages with one system call: `write_message` costs one for each."""
        connection = self.ws_connection
        if connection is None or connection.is_closing():
            raise WebSocketClosedError
        parts = [part for text in texts for part in (_text_frame_head(len(text)), text)]
        stream = connection.stream
        if stream is None:
            raise WebSocketClosedError
        if len(parts) > 2:
            await stream.write(b"".join(parts))
        else:  # may be large: not copied
            head, text = parts
            stream.write(head)
            await stream.write(text)

    def on_close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for run in self._owned:
            run.disown(self, 0.0 if self._left_on_purpose else RETURN_SECONDS)
        self._owned.clear()

    @property
    def _left_on_purpose(self) -> bool:
        """The client has said goodbye: its connection did not just break."""
        return self.close_code in _GOODBYES
