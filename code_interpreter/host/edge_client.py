"""One connection of a client: its requests one after the other, each to its own server."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from typing import cast

from code_interpreter.host import edge_answers as answers
from code_interpreter.host.edge_crowd import Crowd, Mood
from code_interpreter.host.edge_exchange import Exchange
from code_interpreter.host.edge_http import (
    Body,
    Framing,
    RequestEvent,
    RequestHead,
    RequestReader,
    ResponseEvent,
    ResponseHead,
)
from code_interpreter.host.edge_switchboard import Destination, Switchboard
from code_interpreter.host.edge_upstream import WRITE_BUFFER_BYTES, Upstream

SILENT_SECONDS = 60.0
"""From the start of a connection to its first byte."""
HEAD_SECONDS = 15.0
"""From the first byte of a head to its last."""
IDLE_SECONDS = 640.0
"""Longer than clients keep an idle connection (300 seconds)."""
LINGER_SECONDS = 30.0
"""How long a refused upload may go on, so that the client reads why before it is cut."""
HALF_CLOSED_SECONDS = 60.0
"""After one side of a switched connection has nothing more to send."""
MAX_WAITING_REQUESTS = 16
MAX_UNSENT_BYTES = 256 * 1024

_OPTIONS = {
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT): 128 * 1024,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 60,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 15,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 4,
}
"""A client whose machine is gone is noticed after two minutes; and of what one cell prints, no
more waits here than the network takes, so that what another says is not queued behind megabytes."""
_TCP_CLOSE, _TCP_CLOSE_WAIT = 7, 8
_log = logging.getLogger(__name__)


class ClientConnection(asyncio.Protocol):
    """Reads requests, and hands each to a server while the others wait their turn."""

    def __init__(self, switchboard: Switchboard, crowd: Crowd[ClientConnection]) -> None:
        self.opening: asyncio.Task[None] | None = None
        """Finds and connects the server of the current request."""
        self._switchboard = switchboard
        self._crowd = crowd
        self.peer = ""
        self._reader = RequestReader()
        self._exchange: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._receiving: Exchange | None = None
        """The request whose body is being read."""
        self._upload_paused = False
        self._lingering = False
        self._switched = False
        self._ended_sides = 0
        self._deadline: float | None = None
        self._transport: asyncio.Transport

    # The client's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        connection = transport.get_extra_info("socket")
        for option, value in _OPTIONS.items():
            connection.setsockopt(*option, value)
        self._deadline = time.monotonic() + SILENT_SECONDS
        self.peer = str((transport.get_extra_info("peername") or [""])[0])
        if not self._crowd.admit(self):
            self._send(answers.crowded().response(close=True))
            self._hang_up()

    def data_received(self, data: bytes) -> None:
        if self._lingering or self._transport.is_closing():
            return
        if self._switched:
            self._to_server(data)
            return
        self._note(self._reader.feed(data))
        self._check_failure()
        self._advance()
        self._settle()

    def eof_received(self) -> bool:
        """The client sends nothing more: over HTTP, it does not wait for its answer either."""
        if not self._switched:
            self._let_go()
            return False
        upstream = self._exchange.upstream if self._exchange else None
        if upstream is not None and not upstream.closed:
            upstream.transport.write_eof()
        return self._end_side()

    def connection_lost(self, error: Exception | None) -> None:
        self._let_go()
        self._reader.end()
        self._crowd.discard(self)

    def pause_writing(self) -> None:
        if self._exchange is not None and self._exchange.upstream is not None:
            self._exchange.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        upstream = self._exchange.upstream if self._exchange else None
        if upstream is not None and not upstream.closed:
            upstream.transport.resume_reading()

    # The host's side.

    def abort(self) -> None:
        """Cut the connection and whatever is under way on it."""
        self._let_go()
        self._transport.abort()

    def cut(self, sandbox_id: str) -> None:
        """Abort if a request into this sandbox is under way."""
        upstream = self._exchange.upstream if self._exchange else None
        if upstream is not None and upstream.key[0] == sandbox_id:
            self.abort()

    def turn_away(self) -> None:
        """Others need the room."""
        if self._reader.mid_head and not self._lingering:
            self._send(answers.crowded().response(close=True))
        self._hang_up()

    def sweep(self, now: float) -> None:
        """Act on what did not happen in time; called about once a second."""
        if self._deadline is not None and now >= self._deadline:
            self._expire()
        elif not self._transport.is_reading() and self._client_is_gone():
            self.abort()
        elif self._exchange is not None:
            self._see_to_server(self._exchange, now)

    def _see_to_server(self, exchange: Exchange, now: float) -> None:
        """Wait no longer for a server that hangs, and find out about one that is silent."""
        destination, since, vigil = (
            exchange.destination,
            exchange.waiting_since,
            self._switchboard.vigil,
        )
        if destination is None or destination.route is None or since is None:
            return
        if vigil.is_hung(destination.key):
            self._give_up(exchange, destination)
        elif now - since >= vigil.silence and vigil.watches(destination.key):
            exchange.waiting_since = now
            vigil.look(destination.key, destination.route.run_directory)

    def _give_up(self, exchange: Exchange, destination: Destination) -> None:
        if self._switched or exchange.answer is not None:
            self.abort()
            return
        self._drop_server(exchange)
        self._answer(exchange, answers.hung(*destination.key))
        self._advance()
        self._settle()

    # Requests.

    def _note(self, events: list[RequestEvent]) -> None:
        for event in events:
            if isinstance(event, RequestHead):
                self._receiving = Exchange(event)
                self._waiting.append(self._receiving)
                continue
            exchange = self._receiving
            assert exchange is not None
            if isinstance(event, Body):
                exchange.add_body(event.data)
            else:
                exchange.end()
        if self._exchange is not None:
            self._exchange.send_on()

    def _check_failure(self) -> None:
        """A body that breaks off in nonsense ends its exchange at once."""
        failure, exchange = self._reader.failure, self._exchange
        if failure is None or exchange is None or exchange.ended:
            return
        self._drop_server(exchange)
        if exchange.answer is not None:
            self.abort()
        else:
            self._answer(exchange, answers.malformed(str(failure), failure.status))

    def _advance(self) -> None:
        """Start the next request if none is under way."""
        while self._exchange is None and not self._lingering and not self._transport.is_closing():
            if not self._waiting:
                self._note(self._reader.go_on())
            if not self._waiting:
                self._report_failure()
                return
            self._exchange = self._waiting.popleft()
            self._start(self._exchange)

    def _report_failure(self) -> None:
        failure = self._reader.failure
        if failure is not None:
            self._send(answers.malformed(str(failure), failure.status).response(close=True))
            self._linger()

    def _start(self, exchange: Exchange) -> None:
        failure = self._reader.failure
        try:
            if failure is not None and not exchange.ended:
                raise answers.malformed(str(failure), failure.status)
            exchange.destination = destination = self._switchboard.resolve(exchange.head)
            self._take_share(exchange, destination)
        except answers.Refused as refused:
            self._answer(exchange, refused)
            return
        upstream = self._switchboard.take(destination)
        if upstream is not None:
            self._link(exchange, destination, upstream)
        else:
            self._open(exchange, destination)

    def _take_share(self, exchange: Exchange, destination: Destination) -> None:
        """Raises `answers.Refused` where others would have no room."""
        if destination.route is None:
            return
        sandbox_id, shares = destination.route.sandbox_id, self._crowd.shares
        if not shares.take(sandbox_id):
            raise answers.too_many_for_one(sandbox_id, shares.most)
        exchange.share = sandbox_id

    def _give_share_back(self, exchange: Exchange) -> None:
        if exchange.share is not None:
            self._crowd.shares.give_back(exchange.share)
            exchange.share = None

    def _open(self, exchange: Exchange, destination: Destination) -> None:
        self.opening = asyncio.get_running_loop().create_task(self._dial(exchange, destination))

    async def _dial(self, exchange: Exchange, destination: Destination) -> None:
        try:
            upstream = await self._switchboard.open(destination)
        except answers.Refused as refused:
            self._answer(exchange, refused)
        except Exception:
            _log.exception("no connection to %s", destination.key)
            self._answer(exchange, answers.failed())
        else:
            self._link(exchange, destination, upstream)
        self.opening = None
        self._advance()
        self._settle()

    def _link(self, exchange: Exchange, destination: Destination, upstream: Upstream) -> None:
        exchange.upstream = upstream
        exchange.waiting_since = time.monotonic()
        upstream.begin(self, exchange.head)
        exchange.unsent.insert(0, self._switchboard.head_for(destination, exchange.head))
        exchange.send_on()

    # Responses.

    def upstream_events(self, events: list[ResponseEvent]) -> None:
        exchange = self._exchange
        assert exchange is not None
        exchange.waiting_since = time.monotonic()
        output: list[bytes] = []
        ended = False
        for event in events:
            if isinstance(event, ResponseHead):
                if event.status == 101:
                    self._switch(exchange, event, output)
                    return
                output.append(exchange.begin_answer(event))
            elif isinstance(event, Body):
                assert exchange.answer is not None
                output.append(exchange.answer.frame(event.data))
            else:
                assert exchange.answer is not None
                output.append(exchange.answer.end)
                ended = True
        self._send(b"".join(output))
        if ended:
            self._finish(exchange)

    def _finish(self, exchange: Exchange) -> None:
        upstream, exchange.upstream = exchange.upstream, None
        if upstream is not None:
            if exchange.ended:
                self._switchboard.pool.put_back(upstream)
            else:
                upstream.abort()
        self._complete(exchange)
        self._advance()
        self._settle()

    def _answer(self, exchange: Exchange, refused: answers.Refused) -> None:
        """Answer in the server's place."""
        exchange.close = exchange.last_on_connection
        to_head = exchange.head.method == b"HEAD"
        self._send(refused.response(close=exchange.close, to_head=to_head))
        self._complete(exchange)

    def _complete(self, exchange: Exchange) -> None:
        self._exchange = None
        self._give_share_back(exchange)
        self._upload_paused = False
        if not exchange.close:
            return
        if exchange.ended:
            self._hang_up()
        else:
            self._linger()

    def upstream_lost(self, reason: str, *, cleanly: bool) -> None:
        exchange = self._exchange
        if exchange is None or exchange.destination is None:
            return
        upstream, exchange.upstream = exchange.upstream, None
        if self._switched:
            self._hang_up()
        elif exchange.answer is None:
            self._lost_before_answer(exchange, exchange.destination, upstream, reason)
        elif exchange.answer_until_close and cleanly:
            self._send(exchange.answer.end)
            self._finish(exchange)
        else:
            self._hang_up()  # the missing end tells the client

    def _lost_before_answer(
        self,
        exchange: Exchange,
        destination: Destination,
        upstream: Upstream | None,
        reason: str,
    ) -> None:
        if upstream is not None and upstream.used and exchange.repeatable:
            self._open(exchange, destination)
            return
        self._answer(exchange, self._switchboard.lost(destination, reason))
        self._advance()
        self._settle()

    # Another protocol, after status 101.

    def _switch(self, exchange: Exchange, head: ResponseHead, output: list[bytes]) -> None:
        upstream = exchange.upstream
        assert upstream is not None
        if not exchange.head.upgrade:
            upstream.abort()
            self.upstream_lost("it switched protocols unasked", cleanly=False)
            return
        self._switched = True
        exchange.waiting_since = None
        self._deadline = None
        output += [head.serialize(Framing.NONE, close=False), upstream.switch_protocols()]
        self._send(b"".join(output))
        self._to_server(self._reader.take_rest())

    def _to_server(self, data: bytes) -> None:
        exchange = self._exchange
        if not data or exchange is None or exchange.upstream is None or exchange.upstream.closed:
            return
        if exchange.waiting_since is None:
            exchange.waiting_since = time.monotonic()
        exchange.upstream.transport.write(data)

    def upstream_bytes(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.waiting_since = None
        self._send(data)

    def upstream_ended(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._end_side()

    def _end_side(self) -> bool:
        """Whether the other side goes on."""
        self._ended_sides += 1
        self._deadline = time.monotonic() + HALF_CLOSED_SECONDS
        if self._ended_sides == 2:
            self._hang_up()
        return self._ended_sides < 2

    # Flow and time.

    def pause_upload(self) -> None:
        self._upload_paused = True
        self._settle()

    def resume_upload(self) -> None:
        self._upload_paused = False
        self._settle()

    def _settle(self) -> None:
        """Read on or not, and until when, after anything has changed."""
        if self._transport.is_closing():
            return
        if self._lingering or not self._is_full():
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
        if not self._lingering and not self._switched:
            self._deadline = self._next_deadline()
        self._crowd.note(self, self._mood())

    def _mood(self) -> Mood:
        if self._exchange is not None:
            return Mood.BUSY
        return Mood.SLOW if self._reader.mid_head else Mood.IDLE

    def _is_full(self) -> bool:
        unsent = self._receiving.unsent_bytes if self._receiving else 0
        return (
            self._upload_paused
            or unsent > MAX_UNSENT_BYTES
            or self._reader.waiting_bytes > MAX_UNSENT_BYTES
            or len(self._waiting) > MAX_WAITING_REQUESTS
        )

    def _next_deadline(self) -> float | None:
        now = time.monotonic()
        if self._reader.mid_head and self._transport.is_reading():
            soon = now + HEAD_SECONDS
            return soon if self._deadline is None else min(soon, self._deadline)
        return now + IDLE_SECONDS if self._exchange is None else None

    def _expire(self) -> None:
        if self._reader.mid_head and self._exchange is None and not self._lingering:
            self._send(answers.head_too_slow(HEAD_SECONDS).response(close=True))
            self._linger()
        else:
            self.abort()

    def _client_is_gone(self) -> bool:
        """While it is not read from, nothing else tells that the client has closed."""
        connection = self._transport.get_extra_info("socket")
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        except OSError:
            return True
        return not self._switched and info[0] in (_TCP_CLOSE, _TCP_CLOSE_WAIT)

    def _send(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _hang_up(self) -> None:
        """Close once everything written is sent, or some time is over."""
        self._deadline = time.monotonic() + LINGER_SECONDS
        self._transport.close()

    def _linger(self) -> None:
        """Close, but let the client finish sending, or its system throws our answer away."""
        if self._transport.is_closing():
            return
        self._lingering = True
        self._deadline = time.monotonic() + LINGER_SECONDS
        self._transport.write_eof()
        self._transport.resume_reading()

    def _drop_server(self, exchange: Exchange) -> None:
        if self.opening is not None:
            self.opening.cancel()
        upstream, exchange.upstream = exchange.upstream, None
        if upstream is None:
            return
        if self._switched:
            upstream.finish()
        else:
            upstream.abort()

    def _let_go(self) -> None:
        """Stop whatever is under way for this client."""
        exchange, self._exchange = self._exchange, None
        self._waiting.clear()
        if exchange is not None:
            self._give_share_back(exchange)
            self._drop_server(exchange)
