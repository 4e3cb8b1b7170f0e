"""Reading and writing HTTP/1.1 messages, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from code_interpreter.host.edge_http import (
    MAX_HEAD_BYTES,
    Body,
    End,
    Framing,
    Malformed,
    RequestEvent,
    RequestHead,
    RequestReader,
    ResponseEvent,
    ResponseHead,
    ResponseReader,
)


@dataclass(frozen=True)
class Message:
    """What a peer meant."""

    target: bytes
    body: bytes
    chunks: tuple[int, ...] | None

    def encoded(self) -> bytes:
        head = b"POST /%s HTTP/1.1\r\nHost: localhost\r\nX-A:  b \r\n" % self.target
        if self.chunks is None:
            return head + b"Content-Length: %d\r\n\r\n" % len(self.body) + self.body
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + self._chunked(self.chunks)

    def _chunked(self, sizes: tuple[int, ...]) -> bytes:
        rest, out = self.body, b""
        for size in sizes:
            piece, rest = rest[:size], rest[size:]
            out += b"%X;ext=1\r\n%s\r\n" % (len(piece), piece) if piece else b""
        out += b"%x\r\n%s\r\n" % (len(rest), rest) if rest else b""
        return out + b"0\r\nX-Trailer: t\r\n\r\n"


messages = st.builds(
    Message,
    target=st.text("abc/%20?=&", max_size=20).map(str.encode),
    body=st.binary(max_size=300),
    chunks=st.none() | st.lists(st.integers(1, 100), max_size=4).map(tuple),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def understood(events: list[RequestEvent]) -> list[tuple[bytes, bytes]]:
    """Target and body of each complete request."""
    result: list[tuple[bytes, bytes]] = []
    target, body = b"", b""
    for event in events:
        if isinstance(event, RequestHead):
            target, body = event.target, b""
        elif isinstance(event, Body):
            body += event.data
        else:
            result.append((target, body))
    return result


def read(pieces: list[bytes]) -> list[RequestEvent]:
    reader = RequestReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    if reader.failure is not None:
        raise reader.failure
    return events


@settings(deadline=None, max_examples=300)
@given(st.lists(messages, max_size=4), st.lists(st.integers(0, 10_000), max_size=40))
def test_requests_are_understood_wherever_they_are_cut(
    sent: list[Message], places: list[int]
) -> None:
    data = b"".join(message.encoded() for message in sent)
    expected = [(b"/" + message.target, message.body) for message in sent]
    assert understood(read(cut(data, places))) == expected


def test_an_empty_piece_does_not_end_a_chunked_body() -> None:
    assert Framing.CHUNKED.frame(b"") == b""


@settings(deadline=None, max_examples=300)
@example([Message(b"", bytes(8), (1, 7))], [99])
@given(st.lists(messages, min_size=1, max_size=3), st.lists(st.integers(0, 10_000), max_size=20))
def test_what_is_written_anew_means_the_same(sent: list[Message], places: list[int]) -> None:
    data = b"".join(message.encoded() for message in sent)
    events = read(cut(data, places))
    written, framing = b"", Framing.NONE
    for event in events:
        if isinstance(event, RequestHead):
            framing = event.framing
            written += event.serialize({b"host": b"other"}, dropped=[b"x-a"])
        elif isinstance(event, Body):
            written += framing.frame(event.data)
        else:
            written += framing.end
    again = read([written])
    assert understood(again) == understood(events)
    for event in again:
        if isinstance(event, RequestHead):
            assert event.values(b"host") == [b"other"]
            assert event.values(b"x-a") == []


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10))
def test_nonsense_is_never_more_than_malformed(data: bytes, places: list[int]) -> None:
    for pieces in (cut(data, places), cut(b"GET / HTTP/1.1\r\n" + data, places)):
        reader = RequestReader()
        for piece in pieces:
            reader.feed(piece)
        response = ResponseReader(to_head=False)
        try:
            for piece in pieces:
                response.feed(piece)
        except Malformed as error:
            assert error.status in (431, 501, 502)  # noqa: PT017


@pytest.mark.parametrize("step", range(1, 12))
def test_no_piece_of_a_body_is_empty(step: int) -> None:
    data = Message(b"", bytes(8), (1, 7)).encoded()
    events = read([data[at : at + step] for at in range(0, len(data), step)])
    assert all(event.data for event in events if isinstance(event, Body))


POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
SMUGGLING = {
    "length and chunked": POST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": POST + b"Content-Length: \r\n\r\nabc",
    "a huge length": POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked, then identity": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bare line feed after the request line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "bare line feed after a header": b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare carriage return": b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc",
    "a NUL": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "HTTP/2": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "an absolute target": b"GET http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT evil:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the target": b"GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a hexadecimal prefix of a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n",
    "bare line feeds in chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "a chunk longer than it says": POST
    + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING.keys())
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_what_two_servers_could_read_differently_is_malformed(data: bytes, step: int) -> None:
    hidden = data + b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    reader = RequestReader()
    events = [e for at in range(0, len(hidden), step) for e in reader.feed(hidden[at : at + step])]
    assert reader.failure is not None
    assert reader.failure.status in (400, 405, 501, 505)
    assert End.END not in events


def test_what_follows_the_last_request_is_not_read() -> None:
    data = b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"
    assert understood(read([data])) == [(b"/1", b"")]


@pytest.mark.parametrize("step", [1000, 256 * 1024])
@pytest.mark.parametrize("part", [b"GET /%s HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n%s: b\r\n"])
def test_an_oversized_head(step: int, part: bytes) -> None:
    data = part % (b"a" * (MAX_HEAD_BYTES + 300_000))
    reader = RequestReader()
    fed = 0
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
        fed += step
        if reader.failure:
            break
    assert reader.failure is not None
    assert reader.failure.status == 431
    assert fed < MAX_HEAD_BYTES + 3 * step


def test_too_many_headers() -> None:
    reader = RequestReader()
    assert reader.feed(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 300 + b"\r\n") == []
    assert reader.failure is not None
    assert reader.failure.status == 431


def test_a_large_head_may_come_in_many_pieces() -> None:
    data = b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (MAX_HEAD_BYTES - 2000) + b"\r\n\r\n"
    assert understood(read([b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n" + data[:9], data[9:]]))


def upgrade(reader: RequestReader, rest: bytes = b"") -> RequestHead:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    head, end = reader.feed(request + rest)
    assert end is End.END
    assert isinstance(head, RequestHead)
    assert head.upgrade
    return head


def test_what_follows_an_upgrade_is_kept() -> None:
    reader = RequestReader()
    head = upgrade(reader, b"GET not http")
    assert b"connection: upgrade\r\nupgrade: websocket\r\n" in head.serialize({})
    assert reader.feed(b"\x00\x01") == []
    assert reader.waiting_bytes == 14
    assert reader.take_rest() == b"GET not http\x00\x01"


def test_after_a_refused_upgrade_requests_follow() -> None:
    reader = RequestReader()
    upgrade(reader, b"GET /next HTTP/1.1\r\n")
    assert reader.go_on() == []
    assert understood(reader.feed(b"Host: x\r\n\r\n")) == [(b"/next", b"")]
    assert reader.go_on() == []


@pytest.mark.parametrize("step", [1, 10_000])
def test_an_upgrade_with_a_body_is_none(step: int) -> None:
    data = (
        POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
        b"Content-Length: 3\r\n\r\nabcGET /next HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    events = read([data[at : at + step] for at in range(0, len(data), step)])
    assert understood(events) == [(b"/a", b"abc"), (b"/next", b"")]


def test_headers_of_the_hop_stay_behind() -> None:
    (head, *_) = read(
        [
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
            b"Keep-Alive: timeout=5\r\nTE: trailers\r\nX-Stays: 1\r\n\r\n"
        ]
    )
    assert isinstance(head, RequestHead)
    assert head.serialize({}) == b"GET / HTTP/1.1\r\nHost: x\r\nX-Stays: 1\r\n\r\n"


def test_nobody_can_have_the_length_taken_out() -> None:
    (head, *_) = read([POST + b"Connection: Content-Length, Host\r\nContent-Length: 3\r\n\r\nabc"])
    assert isinstance(head, RequestHead)
    assert b"Content-Length: 3\r\n" in head.serialize({})
    assert b"Host: x\r\n" in head.serialize({})


# Responses.


def respond(data: bytes, *, to_head: bool = False, step: int = 10**6) -> list[ResponseEvent]:
    reader = ResponseReader(to_head=to_head)
    return [e for at in range(0, len(data), step) for e in reader.feed(data[at : at + step])]


@pytest.mark.parametrize("step", [1, 5, 10**6])
@pytest.mark.parametrize(
    ("data", "framing"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Framing.LENGTH),
        (
            b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Framing.CHUNKED,
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", Framing.UNTIL_CLOSE),
    ],
)
def test_the_body_of_a_response(data: bytes, framing: Framing, step: int) -> None:
    head, *rest = respond(data, step=step)
    assert isinstance(head, ResponseHead)
    assert head.framing is framing
    assert b"".join(event.data for event in rest if isinstance(event, Body)) == b"abc"
    assert (End.END in rest) == (framing is not Framing.UNTIL_CLOSE)


@pytest.mark.parametrize(
    ("status", "to_head"), [(200, True), (204, False), (304, False), (304, True)]
)
def test_a_response_without_a_body(status: int, to_head: bool) -> None:
    head, end = respond(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n" % status, to_head=to_head)
    assert isinstance(head, ResponseHead)
    assert (head.framing, end) == (Framing.NONE, End.END)
    assert b"Content-Length: 9" in head.serialize(Framing.NONE, close=False)


@pytest.mark.parametrize("step", [1, 10**6])
def test_heads_before_the_response(step: int) -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 X\r\n\r\n"
    *heads, end = respond(data, step=step)
    assert [head.status for head in heads if isinstance(head, ResponseHead)] == [100, 103, 204]
    assert end is End.END


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"x", b"\0"])
@pytest.mark.parametrize("to_head", [False, True])
def test_a_second_response_nobody_asked_for_goes_nowhere(extra: bytes, to_head: bool) -> None:
    reader = ResponseReader(to_head=to_head)
    body = b"" if to_head else b"abc"
    events = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + body + extra)
    assert [type(event) for event in events].count(ResponseHead) == 1
    assert events[-1] is End.END
    assert b"".join(event.data for event in events if isinstance(event, Body)) == body
    assert not reader.reusable


@pytest.mark.parametrize(
    ("response", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_whether_the_connection_can_be_used_again(response: bytes, reusable: bool) -> None:
    reader = ResponseReader(to_head=False)
    reader.feed(response)
    assert reader.reusable is reusable


def test_switching_protocols() -> None:
    reader = ResponseReader(to_head=False)
    events = reader.feed(
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: 1\r\n\r\nrest"
    )
    head = events[0]
    assert isinstance(head, ResponseHead)
    assert reader.rest == b"rest"
    assert head.serialize(Framing.NONE, close=False) == (
        b"HTTP/1.1 101 S\r\nX: 1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
    ],
)
def test_a_response_that_cannot_be_passed_on(data: bytes) -> None:
    with pytest.raises(Malformed):
        respond(data)


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "value of a trailer": (b"0\r\nX: ", b"a" * 5000),
    "name of a trailer": (b"0\r\n", b"a" * 5000),
    "trailers": (b"0\r\n", b"X: a\r\n" * 1000),
    "extension of a chunk": (b"5;", b"a" * 5000),
    "size of a chunk": (b"", b"0" * 5000),
}


@pytest.mark.security
@pytest.mark.parametrize(("beginning", "more"), ENDLESS.values(), ids=ENDLESS.keys())
def test_what_is_around_a_body_is_bounded(beginning: bytes, more: bytes) -> None:
    """The parser keeps what completes nothing, and nobody else counts it."""
    reader = RequestReader()
    reader.feed(POST + CHUNKED + beginning)
    response = ResponseReader(to_head=False)
    response.feed(b"HTTP/1.1 200 OK\r\n" + CHUNKED + beginning)
    for _ in range(MAX_HEAD_BYTES // len(more) + 1):
        assert reader.failure is None
        reader.feed(more)
    assert reader.failure is not None
    assert reader.failure.status == 431
    with pytest.raises(Malformed, match="larger"):
        _feed_all(response, [more] * (MAX_HEAD_BYTES // len(more) + 1))


def _feed_all(reader: ResponseReader, pieces: list[bytes]) -> None:
    for piece in pieces:
        reader.feed(piece)


def test_bodies_in_small_chunks_may_be_long() -> None:
    reader = RequestReader()
    reader.feed(POST + CHUNKED)
    for _ in range(20_000):
        assert len(reader.feed(b"1;extension=of-some-length\r\nx\r\n")) == 1
    assert reader.feed(b"0\r\nX-Trailer: t\r\n\r\n") == [End.END]
    assert reader.failure is None


@pytest.mark.security
def test_empty_lines_before_a_request_are_bounded() -> None:
    reader = RequestReader()
    for _ in range(MAX_HEAD_BYTES // 4096 + 1):
        reader.feed(b"\r\n" * 2048)
    assert reader.failure is not None
