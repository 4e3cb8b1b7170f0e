"""Rows of what E2B's clients make of each answer: what is done, the answer, what comes of it.

An expectation is the name of an exception's class, or of a value's, or a value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.e2b import answers
from tests.e2b.answers import Answer, plain, stream, unary

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


def unavailable(words: str, *before: dict[str, Any], health: int = 204) -> Answer:
    """A stream that ends with this code."""
    made = stream(*before, error={"code": "unavailable", "message": words})
    return replace(made, health=health)


GONE = "The sandbox was not found"
CLOSED = "The sandbox is running but port is not open"
REFUSED_STREAMS: list[Row] = [
    # answered by something that knows nothing of Connect
    (action, plain(status, "words", **ONCE), python, "words", javascript, "")
    for action in ("run", "connect", "pty")
    for status, python, javascript in (
        (401, "AuthenticationException", "AuthenticationError"),
        (403, "SandboxException", "SandboxError"),
        (404, "NotFoundException", "SandboxError"),
        (429, "RateLimitException", "SandboxNotFoundError"),
        (502, "SandboxUnreachableException", "SandboxNotFoundError"),
        (503, "SandboxUnreachableException", "SandboxNotFoundError"),
    )
]
UNAVAILABLE: list[Row] = [
    row
    for action in ("run", "connect", "pty")
    for row in (
        (action, unavailable(GONE), "SandboxNotRunningException", "was not found",
         "SandboxNotFoundError", ""),
        (action, unavailable(CLOSED), "SandboxUnreachableException", "not open",
         "SandboxNotFoundError", ""),
        (action, unavailable("later", health=502), "SandboxNotRunningException", "later",
         "SandboxNotFoundError", ""),
        (action, unavailable("later"), "SandboxUnreachableException", "later",
         "SandboxNotFoundError", ""),
        (action, unavailable(GONE, START), "SandboxNotRunningException", "was not found",
         "TimeoutError", ""),
        (action, unavailable("later", START, health=502), "SandboxNotRunningException",
         "killed or reached", "TimeoutError", ""),
    )
]  # fmt: skip
NO_ENVELOPE = Answer(
    200,
    answers.envelope(0, START) + answers.envelope(0, END),
    {"Content-Type": "application/connect+json"},
)
FAULTS: list[Row] = [
    ("run", NO_ENVELOPE, "CommandResult", "", "SandboxError", "EndStreamResponse"),
    ("run", stream(START), "Exception", "", "SandboxError", ""),
    ("run", CUT, "SandboxUnreachableException", "", "SandboxError", "terminated"),
]  # fmt: skip
GUEST = Answer(
    409,
    b'{"code": 409, "error_code": "sandbox_snapshot_guest_agent_unresponsive", "message": "hung"}',
    {"Content-Type": "application/json"},
)
OTHER_KINDS: list[Row] = [
    ("resume", GUEST, "GuestUnresponsiveException", "hung", "SandboxError", "hung"),
    ("resume", plain(404, "none"), "SandboxNotFoundException", "", "SandboxNotFoundError", ""),
    ("alias", plain(500, "broken"), "TemplateException", "broken", "TemplateError", "broken"),
    ("tags", plain(500, "broken"), "TemplateException", "broken", "TemplateError", "broken"),
    ("build", plain(500, "broken"), "BuildException", "broken", "BuildError", "broken"),
    ("volume", plain(500, "broken"), "VolumeException", "broken", "VolumeError", "broken"),
    ("volume", plain(404, "none"), "VolumeNotFoundException", "", "VolumeNotFoundError", ""),
    ("volume_read", plain(404, "none"), "VolumePathNotFoundException", "",
     "VolumePathNotFoundError", ""),
    ("volume_read", plain(500, "broken"), "VolumeException", "broken", "VolumeError", "broken"),
    ("secret", plain(500, "broken"), "SecretException", "broken", "SecretError", "broken"),
    ("secret", plain(404, "none"), "SecretNotFoundException", "", "SecretNotFoundError", ""),
]  # fmt: skip
LINES = Answer(200, b'{"type": "stdout", "text": "x"}\n', {"Content-Type": "text/plain"}, True)
INTERPRETER: list[Row] = [
    row
    for action in ("run_code", "context")
    for row in (
        (action, plain(404, "no context"), "NotFoundException", "no context", "NotFoundError",
         "no context"),
        (action, NOT_FOUND, "TimeoutException", "was not found", "TimeoutError", "was not found"),
        (action, plain(500, "broken"), "SandboxException", "broken", "SandboxError", "500"),
        (action, plain(429, "slow"), "SandboxException", "slow", "SandboxError", "429"),
        (action, replace(LINES, health=502), "TimeoutException", "killed while", "TimeoutError",
         "killed while"),
        (action, LINES, "RemoteProtocolError", "", "TypeError", ""),
    )
] + [
    ("run_code", replace(LINES, slow=True), "TimeoutException", "timeout", "TimeoutError",
     "timeout"),
]  # fmt: skip
ROWS = [
    *API,
    *PLAIN,
    *CONNECT,
    *STREAMS,
    *REFUSED_STREAMS,
    *UNAVAILABLE,
    *FAULTS,
    *OTHER_KINDS,
    *INTERPRETER,
]
NAMES = [f"{row[0]}-{row[1].status}-{row[2]}-{number}" for number, row in enumerate(ROWS)]
