"""A server that gives one answer to everything: what clients make of each is their affair.

Our own host gives most of these answers too, and tests of the rooms drive it; here are also
those that it gives when something is broken, or never.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SANDBOX = {"templateID": "base", "sandboxID": "iscripted", "clientID": "x", "envdVersion": "0.6.13"}
END_OF_STREAM = 2
LONG = 1.0


@dataclass(frozen=True)
class Answer:
    """``close`` ends the connection after it; ``health`` is what ``GET /health`` answers.

    ``slow``: its body comes after `LONG` seconds, which is longer than who asks has time.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    health: int = 204
    slow: bool = False


def plain(status: int, message: str, **headers: str) -> Answer:
    """``{"code", "message"}``, as the API, the edge and ``/files`` answer."""
    body = json.dumps({"code": status, "message": message}).encode()
    return Answer(status, body, {"Content-Type": "application/json", **headers})


def unary(status: int, code: str, message: str) -> Answer:
    """A Connect error of a call with one answer."""
    body = json.dumps({"code": code, "message": message}).encode()
    return Answer(status, body, {"Content-Type": "application/json"})


def stream(*messages: dict[str, Any], error: dict[str, str] | None = None) -> Answer:
    """A Connect stream with its end."""
    last = {"error": error} if error else {}
    body = b"".join(envelope(0, message) for message in messages) + envelope(END_OF_STREAM, last)
    return Answer(200, body, {"Content-Type": "application/connect+json"})


def envelope(flags: int, message: dict[str, Any]) -> bytes:
    content = json.dumps(message).encode()
    return bytes([flags]) + len(content).to_bytes(4, "big") + content


class Server:
    """Creates sandboxes that are not there."""

    def __init__(self, port: int) -> None:
        self.answer = plain(500, "no answer was chosen")
        self.requests: list[str] = []
        url = f"http://127.0.0.1:{port}"
        self.options: dict[str, Any] = {"api_key": "e2b_00", "api_url": url, "sandbox_url": url}
        self.account = {"api_key": "e2b_00", "api_url": url}
        self.environment = {
            "E2B_API_KEY": "e2b_00",
            "E2B_API_URL": url,
            "E2B_SANDBOX_URL": url,
            "E2B_VOLUME_API_URL": url,
        }

    def reply_to(self, method: str, path: str) -> Answer:
        self.requests.append(f"{method} {path}")
        if method == "POST" and path in ("/sandboxes", "/v2/sandboxes"):
            return Answer(201, json.dumps(SANDBOX).encode(), {"Content-Type": "application/json"})
        if path == "/health":
            if self.answer.health == 502:
                return plain(502, "The sandbox was not found")
            return Answer(self.answer.health)
        return self.answer


@contextmanager
def answering() -> Iterator[Server]:
    """A server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            self._read_body()
            answer = server.reply_to(self.command, self.path.partition("?")[0])
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name.replace("_", "-"), value)
            extra = 1 if answer.close else 0  # a byte that never comes
            if answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body) + extra))
            self.end_headers()
            self.wfile.flush()
            if answer.slow:
                time.sleep(LONG)
            self.wfile.write(answer.body)
            self.close_connection = answer.close

        do_GET = do_POST = do_DELETE = do_PUT = handle_one  # noqa: N815 - the library's names

        def _read_body(self) -> None:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()
            else:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server = Server(http.server_address[1])
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
