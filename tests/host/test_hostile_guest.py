"""What somebody who took over a supervisor of a sandbox could answer to the host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from code_interpreter.host.edge_upstream import PortClosed, open_sandbox_port
from code_interpreter.host.guest_link import MOST_BYTES, GuestLink, GuestUnreachable
from code_interpreter.host.init_link import INIT_SOCKET, ask_init
from code_interpreter.host.runtimes.base import ENVD_SOCKET, PORTS_SOCKET

pytestmark = pytest.mark.security
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DEEP = b"[" * 100_000 + b"]" * 100_000
SECONDS = 10.0


def _whole(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@contextmanager
def _answering(path: Path, kind: int, answer: bytes, *more: int) -> Iterator[None]:
    """A server that says ``answer`` again and again, with descriptors the first time."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(SECONDS)
                peer.recv(1 << 20)
                socket.send_fds(peer, [answer], list(more))
                while endless:
                    peer.sendall(answer)

    endless = answer.endswith(b"\n") and not more
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


ANSWERS = {
    "endless body": HEAD + b"Content-Length: 9999999999\r\n\r\n" + b"\n" * MOST_BYTES,
    "endless chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n100000\r\n" + b"\n" * MOST_BYTES,
    "endless head": HEAD + b"X: \n" * 10_000,
    "one head after another": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "no HTTP": b"SSH-2.0-x\r\n",
    "deep JSON": _whole(DEEP),
    "no JSON": _whole(b"{"),
    "a list": _whole(b"[]"),
    "nothing": b"",
    "a failure": b"HTTP/1.1 500 x\r\nContent-Length: 1\r\n\r\n\x1b",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_no_answer_is_more_than_unreachable(tmp_path: Path, answer: bytes) -> None:
    with _answering(tmp_path / ENVD_SOCKET, socket.SOCK_STREAM, answer):
        with pytest.raises(GuestUnreachable):
            async with asyncio.timeout(SECONDS):
                await GuestLink(tmp_path).metrics("token")


@pytest.mark.parametrize("answer", [DEEP, b"{", b"[]", b"1", b"\xff"], ids=len)
async def test_nonsense_of_init_is_a_value_error(tmp_path: Path, answer: bytes) -> None:
    with _answering(tmp_path / INIT_SOCKET, socket.SOCK_SEQPACKET, answer):
        with pytest.raises(ValueError, match=r"."):
            async with asyncio.timeout(SECONDS):
                await ask_init(tmp_path, {"op": "start"})


PASSED = ("file", "directory", "datagrams", "unix", "pipe")


def _something(kind: str, directory: Path) -> int:
    match kind:
        case "file":
            return os.open(directory / "file", os.O_CREAT | os.O_RDWR)
        case "directory":
            return os.open(directory, os.O_RDONLY)
        case "datagrams":
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
        case "unix":
            return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach()
    read, write = os.pipe()
    os.close(write)
    return read


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("word", [b"+", b"-", b"?"])
@pytest.mark.parametrize("kind", PASSED)
async def test_no_passed_descriptor_is_kept(tmp_path: Path, kind: str, word: bytes) -> None:
    passed = _something(kind, tmp_path)
    before = _descriptors()
    with _answering(tmp_path / PORTS_SOCKET, socket.SOCK_STREAM, word, passed, passed):
        with pytest.raises((OSError, PortClosed)):
            async with asyncio.timeout(SECONDS):
                await open_sandbox_port(tmp_path, ("box", 8000))
    assert _descriptors() == before
    os.close(passed)


async def test_a_true_answer_is_still_taken(tmp_path: Path) -> None:
    with _answering(tmp_path / ENVD_SOCKET, socket.SOCK_STREAM, _whole(json.dumps({}).encode())):
        assert await GuestLink(tmp_path).metrics("token") == {}
