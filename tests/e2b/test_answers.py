"""What E2B's clients make of every answer a server may give: exception class and message."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import e2b
import pytest
from e2b import Sandbox

from tests import npm
from tests.e2b import answers
from tests.e2b.answers import Answer, Server, plain, stream, unary

NOT_FOUND = plain(502, "The sandbox was not found")
NOT_OPEN = plain(502, "The sandbox is running but port is not open")
ONCE = {"Should-Retry": "false"}
START = {"event": {"start": {"pid": 7}}}
END = {"event": {"end": {"exitCode": 0, "exited": True, "status": "exit status 0"}}}
CUT = Answer(200, answers.envelope(0, START), {"Content-Type": "application/connect+json"}, True)
FULL = "not enough disk space available"

Row = tuple[str, Answer, str, str, str, str]
API: list[Row] = [
    # what is done, the answer, Python's class, words in it, npm's class, words in it
    ("get_info", plain(401, "no"), "AuthenticationException", "no", "AuthenticationError", "no"),
    ("get_info", plain(404, "no such"), "SandboxNotFoundException", "iscripted",
     "SandboxNotFoundError", "iscripted"),
    ("set_timeout", plain(404, "none"), "SandboxNotFoundException", "iscripted",
     "SandboxNotFoundError", "iscripted"),
    ("kill", plain(404, "no such"), "False", "", "false", ""),
    ("pause", plain(409, "paused"), "False", "", "false", ""),
    ("get_info", plain(429, "slow down", **ONCE), "RateLimitException", "slow down",
     "RateLimitError", "slow down"),
    ("get_info", plain(503, "later", **ONCE), "ServiceBusyException", "later",
     "ServiceBusyError", "later"),
    ("get_info", plain(500, "broken"), "SandboxException", "500: broken", "SandboxError",
     "500: broken"),
    ("get_info", plain(501, "not offered"), "SandboxException", "501: not offered",
     "SandboxError", "501: not offered"),
]  # fmt: skip
PLAIN: list[Row] = [
    ("read", plain(400, "bad"), "InvalidArgumentException", "bad", "InvalidArgumentError", "bad"),
    ("read", plain(401, "who"), "AuthenticationException", "who", "AuthenticationError", "who"),
    ("read", plain(404, "gone"), "FileNotFoundException", "gone", "FileNotFoundError", "gone"),
    ("write", plain(404, "gone"), "FileNotFoundException", "gone", "FileNotFoundError", "gone"),
    ("read", plain(429, "slow"), "RateLimitException", "slow", "RateLimitError", "slow"),
    ("read", NOT_FOUND, "SandboxNotRunningException", "was not found", "TimeoutError",
     "was not found"),
    ("read", NOT_OPEN, "SandboxUnreachableException", "port is not open", "TimeoutError",
     "port is not open"),
    ("write", plain(507, FULL), "NotEnoughSpaceException", FULL, "NotEnoughSpaceError", FULL),
    ("read", plain(500, "broken"), "SandboxException", "broken", "SandboxError", "broken"),
    ("is_running", NOT_FOUND, "True", "", "true", ""),  # what it asks is told apart below
]  # fmt: skip
CODES: dict[str, tuple[int, str, str]] = {
    # code: the status of it, Python's class, npm's class
    "invalid_argument": (400, "InvalidArgumentException", "InvalidArgumentError"),
    "unauthenticated": (401, "AuthenticationException", "AuthenticationError"),
    "not_found": (404, "FileNotFoundException", "FileNotFoundError"),
    "canceled": (499, "TimeoutException", "TimeoutError"),
    "deadline_exceeded": (504, "TimeoutException", "TimeoutError"),
    "resource_exhausted": (429, "RateLimitException", "RateLimitError"),
    "internal": (500, "SandboxException", "SandboxError"),
    "unknown": (500, "SandboxException", "SandboxError"),
    "permission_denied": (403, "SandboxException", "SandboxError"),
    "failed_precondition": (400, "SandboxException", "SandboxError"),
    "unimplemented": (501, "SandboxException", "SandboxError"),
}
CONNECT: list[Row] = [
    ("list", unary(status, code, "words"), python, "words", javascript, "words")
    for code, (status, python, javascript) in CODES.items()
] + [
    ("make_dir", unary(409, "already_exists", "x"), "False", "", "false", ""),
    ("list", NOT_FOUND, "SandboxNotRunningException", "was not found", "TimeoutError",
     "was not found"),
    ("list", NOT_OPEN, "SandboxUnreachableException", "port is not open", "TimeoutError",
     "port is not open"),
]  # fmt: skip
STREAMS: list[Row] = [
    ("run", stream(error={"code": code, "message": "words"}),
     "NotFoundException" if code == "not_found" else python, "words",
     "NotFoundError" if code == "not_found" else javascript, "words")
    for code, (_, python, javascript) in CODES.items()
] + [
    ("run", stream(START, END), "CommandResult", "", "object", ""),
    ("run", plain(401, "who"), "AuthenticationException", "who", "AuthenticationError", "401"),
    ("run", NOT_FOUND, "SandboxNotRunningException", "was not found", "SandboxNotFoundError",
     "probably not running"),
    ("run", NOT_OPEN, "SandboxUnreachableException", "port is not open",
     "SandboxNotFoundError", "probably not running"),
    ("run", Answer(200, CUT.body, CUT.headers, close=True, health=502),
     "SandboxNotRunningException", "killed or reached its end of life", "TimeoutError",
     "killed or reached its end of life"),
]  # fmt: skip
ROWS = [*API, *PLAIN, *CONNECT, *STREAMS]
NAMES = [f"{row[0]}-{row[1].status}-{row[2]}-{number}" for number, row in enumerate(ROWS)]

ACTIONS: dict[str, Callable[[Sandbox], object]] = {
    "get_info": lambda s: s.get_info(),
    "kill": lambda s: s.kill(),
    "pause": lambda s: s.pause(),
    "set_timeout": lambda s: s.set_timeout(60),
    "read": lambda s: s.files.read("file"),
    "write": lambda s: s.files.write("file", "x"),
    "list": lambda s: s.files.list("."),
    "make_dir": lambda s: s.files.make_dir("d"),
    "run": lambda s: s.commands.run("true"),
    "is_running": lambda s: s.is_running(),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with answers.answering() as running:
        yield running


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_python(server: Server, row: Row) -> None:
    action, server.answer, name, words, *_ = row
    sandbox = Sandbox.create(**server.options)  # type: ignore[arg-type]
    expected = getattr(e2b, name, None)
    if not (isinstance(expected, type) and issubclass(expected, Exception)):
        value = ACTIONS[action](sandbox)
        assert name in (str(value), type(value).__name__)
        return
    with pytest.raises(expected) as caught:
        ACTIONS[action](sandbox)
    assert type(caught.value) is expected
    assert words in str(caught.value)


@pytest.fixture(scope="module")
def javascript(server: Server) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Does a thing on Node, and tells what came of it."""
    packages = npm.installed(npm.CODE_INTERPRETER, npm.BASE)
    script = shutil.copy(Path(__file__).with_name("answers.mjs"), packages.directory)
    with subprocess.Popen(
        [packages.node, str(script)],
        env={**os.environ, **server.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        asked, told = node.stdin, node.stdout

        def do(action: str) -> dict[str, Any]:
            print(action, file=asked, flush=True)
            seen: dict[str, Any] = json.loads(told.readline())
            return seen

        yield do
        asked.close()
        node.wait(30)


@pytest.mark.npm
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_npm(server: Server, javascript: Callable[[str], dict[str, Any]], row: Row) -> None:
    action, server.answer, _, _, name, words = row
    seen = javascript(action)
    if "value" in seen:
        value = seen["value"]
        assert name in (json.dumps(value), "object" if isinstance(value, dict) else "")
    else:
        assert seen["name"] == name, seen
        assert words in seen["message"]


def test_what_is_not_running_is_no_error(server: Server) -> None:
    sandbox = Sandbox.create(**server.options)  # type: ignore[arg-type]
    server.answer = Answer(200, health=502)
    assert sandbox.is_running() is False


def test_what_is_told_not_to_be_tried_again_is_not(server: Server) -> None:
    sandbox = Sandbox.create(**server.options)  # type: ignore[arg-type]
    server.answer = plain(429, "limit", **ONCE)
    server.requests.clear()
    with pytest.raises(e2b.RateLimitException):
        sandbox.get_info()
    assert len(server.requests) == 1
