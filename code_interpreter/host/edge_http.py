"""HTTP/1.1 as the edge needs it, without I/O: bytes in, events out, and heads back to bytes.

A message is never copied through as it came. Its head is taken apart and written anew, and
its body is framed anew, so that what the next hop reads is what was understood here: no
request hides in another, and no server in a sandbox can slip a second response to a client.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

import httptools

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


class Malformed(Exception):
    """The other side does not speak HTTP/1.1 as it should; nothing after this is read."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Framing(Enum):
    """How the end of a body is found."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"

    def frame(self, data: bytes) -> bytes:
        """A piece of a body, ready to be sent."""
        if self is not Framing.CHUNKED or not data:  # an empty chunk would end the body
            return data
        return b"%x\r\n%s\r\n" % (len(data), data)

    @property
    def end(self) -> bytes:
        """What is sent after the last piece."""
        return b"0\r\n\r\n" if self is Framing.CHUNKED else b""


@dataclass(frozen=True, slots=True)
class RequestHead:
    method: bytes
    target: bytes
    """Path and query, as sent."""
    version: str
    headers: Headers
    """Names as sent; use `values` to look one up."""
    framing: Framing
    keep_alive: bool
    upgrade: bool

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a header, its name in lower case."""
        return [value for key, value in self.headers if key.lower() == name]

    def serialize(self, replaced: dict[bytes, bytes], dropped: Iterable[bytes] = ()) -> bytes:
        """The head for the next hop, with some headers replaced or dropped (lower-case names)."""
        unwanted = {*_hop_by_hop(self.headers), *replaced, *dropped}
        lines = [b"%s %s HTTP/1.1\r\n" % (self.method, self.target)]
        lines += _lines(self.headers, unwanted)
        lines += [b"%s: %s\r\n" % item for item in replaced.items()]
        if self.framing is Framing.CHUNKED:
            lines.append(b"transfer-encoding: chunked\r\n")
        if self.upgrade:
            lines.append(b"connection: upgrade\r\nupgrade: %s\r\n" % self.values(b"upgrade")[0])
        return b"".join(lines) + b"\r\n"


@dataclass(frozen=True, slots=True)
class ResponseHead:
    status: int
    reason: bytes
    headers: Headers
    framing: Framing

    @property
    def informational(self) -> bool:
        """Another head follows for the same request."""
        return self.status < 200 and self.status != 101

    def serialize(self, framing: Framing, *, close: bool) -> bytes:
        """The head for the client, whose body comes in ``framing``."""
        lines = [b"HTTP/1.1 %d %s\r\n" % (self.status, self.reason)]
        lines += _lines(self.headers, _hop_by_hop(self.headers))
        if framing is Framing.CHUNKED:
            lines.append(b"transfer-encoding: chunked\r\n")
        if self.status == 101:
            upgrades = [value for name, value in self.headers if name.lower() == b"upgrade"]
            lines.append(b"connection: upgrade\r\nupgrade: %s\r\n" % b", ".join(upgrades))
        elif close:
            lines.append(b"connection: close\r\n")
        return b"".join(lines) + b"\r\n"


@dataclass(frozen=True, slots=True)
class Body:
    data: bytes


class End(Enum):
    """The message is complete."""

    END = "end"


RequestEvent: TypeAlias = RequestHead | Body | End
ResponseEvent: TypeAlias = ResponseHead | Body | End


def _lines(headers: Headers, unwanted: Iterable[bytes]) -> list[bytes]:
    return [b"%s: %s\r\n" % item for item in headers if item[0].lower() not in unwanted]


def _hop_by_hop(headers: Headers) -> frozenset[bytes]:
    named: set[bytes] = set()
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(option.strip().lower() for option in value.split(b","))
    # A length names the body, not the hop: nobody may have it taken out.
    return _HOP_BY_HOP.union(named - {b"content-length", b"host"}) if named else _HOP_BY_HOP


_Head = TypeVar("_Head", RequestHead, ResponseHead)


class _Reader(Generic[_Head]):
    """The callbacks that both directions share; collects the events of one feed."""

    def __init__(self) -> None:
        self.mid_head = False
        """The beginning of a head was read, not its end."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._start_line: list[bytes] = []
        """Pieces of the target or of the reason phrase."""
        self._head_bytes = 0
        self._waited_bytes = 0
        """Of feeds in a row that completed nothing: a head, trailers, a chunk's size."""
        self._events: list[_Head | Body | End] = []
        self._pieces: list[bytes] = []
        self._broken: Malformed | None = None

    def on_message_begin(self) -> None:
        self.mid_head = True
        self._headers = []
        self._start_line = []
        self._head_bytes = self._waited_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.mid_head:
            return  # a trailer, which RFC 9110, 6.5.1 allows to drop
        self._headers.append((name, value.rstrip(b" \t")))
        self._head_bytes += len(name) + len(value) + 4

    def on_body(self, data: bytes) -> None:
        if self._broken is None and data:  # between a chunk's size and its bytes there are none
            self._pieces.append(data)

    def _read_start_line(self, piece: bytes) -> None:
        self._start_line.append(piece)
        self._head_bytes += len(piece)

    def _emit(self, event: _Head | End) -> None:
        self._flush()
        self._events.append(event)

    def _flush(self) -> None:
        if self._pieces:
            self._events.append(Body(b"".join(self._pieces)))
            self._pieces = []

    def _take_events(self) -> list[_Head | Body | End]:
        self._flush()
        events, self._events = self._events, []
        return events

    def _fail(self, reason: str, status: int = 400) -> None:
        self._broken = self._broken or Malformed(reason, status)

    def _count(self, data: bytes, *, was_mid_head: bool) -> None:
        """What completes nothing is kept by the parser; the first feed of a head is not counted."""
        if self._events or self._pieces:
            self._waited_bytes = 0
        elif was_mid_head == self.mid_head:
            self._waited_bytes += len(data)
        self._check_size()

    def _check_size(self) -> None:
        size = max(self._head_bytes, self._waited_bytes)
        if size > MAX_HEAD_BYTES or len(self._headers) > MAX_HEADERS:
            most = f"{MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers"
            self._fail(f"the head, or what follows the body, is larger than {most}", 431)

    def _framing(self) -> Framing:
        """That of a message whose headers are read; NONE may still mean "until close"."""
        framing = Framing.NONE
        for name, value in self._headers:
            key = name.lower()
            if key == b"transfer-encoding":
                if value.lower() != b"chunked":
                    self._fail("the only Transfer-Encoding understood is 'chunked'", 501)
                framing = Framing.CHUNKED
            elif key == b"content-length":
                framing = Framing.LENGTH if int(value) else Framing.NONE
        return framing


class RequestReader(_Reader[RequestHead]):
    """Reads the requests of one client connection, one after the other.

    An upgrade stops it: what follows the head is kept until `take_rest` (the server
    switched protocols) or `go_on` (it did not).
    """

    def __init__(self) -> None:
        super().__init__()
        self._parser = httptools.HttpRequestParser(self)
        self._rest: bytes | None = None
        self._keep_alive = True
        self._finished = False

    @property
    def failure(self) -> Malformed | None:
        """Why nothing more is read. It belongs after all events that `feed` gave."""
        return self._broken

    @property
    def waiting_bytes(self) -> int:
        """How much is kept behind an upgrade that was not answered yet."""
        return len(self._rest or b"")

    def feed(self, data: bytes) -> list[RequestEvent]:
        """What was completed by ``data``. What comes after a failure is ignored."""
        if self._finished or self._broken is not None:
            return []
        if self._rest is not None:
            self._rest += data
            return []
        was_mid_head = self.mid_head
        self._parse(data)
        self._count(data, was_mid_head=was_mid_head)
        return [*self._take_events()]

    def end(self) -> None:
        """Read nothing more, and let go of the parser: the two hold on to each other."""
        self._finished = True
        del self._parser

    def take_rest(self) -> bytes:
        """What came after an upgrade: bytes of the other protocol from here on."""
        rest, self._rest, self._finished = self._rest or b"", None, True
        return rest

    def go_on(self) -> list[RequestEvent]:
        """The upgrade was turned down: what came after it is requests."""
        if self._rest is None:
            return []
        rest, self._rest = self._rest, None
        self._parser = httptools.HttpRequestParser(self)
        return self.feed(rest) if rest else []

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stop_at_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._finished:  # else it complains of bytes that nobody will read
                self._fail(f"this is not a valid HTTP/1.1 request: {error}")

    def _stop_at_upgrade(self, rest: bytes) -> None:
        """With a body it is no upgrade: then the body has to be read as what it is."""
        if self._broken is not None:
            return
        head, _ = self._events[-2:]
        assert isinstance(head, RequestHead)
        if head.upgrade:
            self._rest = rest
            return
        del self._events[-2:]
        self._parser = httptools.HttpRequestParser(self)
        self._parse(head.serialize({}) + rest)

    def on_url(self, piece: bytes) -> None:
        self._read_start_line(piece)

    def on_headers_complete(self) -> None:
        self.mid_head = False
        self._keep_alive = self._parser.should_keep_alive()
        head = self._head()
        self._check_size()
        self._check(head)
        if self._broken is None:
            self._emit(head)

    def on_message_complete(self) -> None:
        if self._broken is None:
            self._emit(End.END)
            self._finished = not self._keep_alive

    def _head(self) -> RequestHead:
        framing = self._framing()
        return RequestHead(
            method=self._parser.get_method(),
            target=b"".join(self._start_line),
            version=self._parser.get_http_version(),
            headers=tuple(self._headers),
            framing=framing,
            keep_alive=self._keep_alive,
            upgrade=self._parser.should_upgrade() and framing is Framing.NONE,
        )

    def _check(self, head: RequestHead) -> None:
        if head.version not in ("1.0", "1.1"):
            self._fail("only HTTP/1.1 is spoken here", 505)
        elif head.version == "1.0" and head.framing is Framing.CHUNKED:
            self._fail("HTTP/1.0 has no Transfer-Encoding")
        elif head.method == b"CONNECT":
            self._fail("CONNECT is not supported: this is not a forward proxy", 405)
        elif not head.target.startswith(b"/") and head.target != b"*":
            self._fail("the request target must be a path")
        elif len(head.values(b"host")) != 1:
            self._fail("exactly one Host header is needed")


class ResponseReader(_Reader[ResponseHead]):
    """Reads the response to one request, heads of status 1xx included."""

    def __init__(self, *, to_head: bool) -> None:
        super().__init__()
        self._parser = httptools.HttpResponseParser(self)
        self._to_head = to_head
        self._head: ResponseHead | None = None
        self._ended = False
        self.reusable = False
        """After the end: the connection may carry another request."""
        self.rest = b""
        """After a 101: bytes of the other protocol."""

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """What was completed by ``data``. Raises `Malformed`."""
        was_mid_head = self.mid_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self.reusable = False
            if not self._ended:
                self._fail(f"not a valid HTTP/1.1 response: {error}", 502)
        self._count(data, was_mid_head=was_mid_head)
        if self._broken is not None:
            raise self._broken
        return [*self._take_events()]

    def on_status(self, piece: bytes) -> None:
        self._read_start_line(piece)

    def on_message_begin(self) -> None:
        if self._ended:
            self.reusable = False  # it answers what nobody asked
        else:
            super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._ended:
            return
        self.mid_head = False
        self._head = head = self._make_head()
        self._emit(head)
        if self._to_head and not head.informational:
            self._finish()

    def on_body(self, data: bytes) -> None:
        if self._ended:
            self.reusable = False
        else:
            super().on_body(data)

    def on_message_complete(self) -> None:
        if self._ended or (self._head is not None and self._head.informational):
            return
        self._finish()

    def _finish(self) -> None:
        self._ended = True
        self.reusable = self._parser.should_keep_alive()
        self._emit(End.END)

    def _make_head(self) -> ResponseHead:
        status = self._parser.get_status_code()
        framing = self._framing()
        if self._to_head or status < 200 or status in (204, 304):
            framing = Framing.NONE
        elif framing is Framing.NONE and not self._has(b"content-length"):
            framing = Framing.UNTIL_CLOSE
        return ResponseHead(status, b"".join(self._start_line), tuple(self._headers), framing)

    def _has(self, name: bytes) -> bool:
        return any(key.lower() == name for key, _ in self._headers)
