"""Everything that this package raises, beside what the E2B SDK raises.

A name with ``e2b.`` is the SDK's own class; ours stand below it, so that a program that
catches E2B's exceptions catches these::

    Exception
    ├── e2b.AuthenticationException           the API key is wrong or missing
    └── e2b.SandboxException                  anything about a sandbox
        ├── e2b.InvalidArgumentException      an argument cannot be right; nothing was sent
        │   └── InvalidCodeException          … the code itself; is a TypeError too
        ├── e2b.NotFoundException             no such context, or no such execution
        ├── ArchiveException                  a directory could not be received from the sandbox
        ├── ExecutionLostException            the sandbox no longer knows the execution
        ├── NeedsWebSocketException           the server speaks HTTP only, and this needs more
        ├── EmbeddedHostException             the host on this machine did not start
        └── e2b.TimeoutException
            ├── ExecutionTimeoutException     the code ran longer than ``timeout``
            ├── RequestTimeoutException       the server did not answer in ``request_timeout``
            ├── e2b.SandboxNotRunningException
            │   ├── SandboxKilledException    the sandbox went away during the request
            │   └── SandboxPausedException    … or was paused: it can be resumed
            └── e2b.SandboxUnreachableException
                └── ConnectionLostException   the connection went away and did not come back
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from e2b import (
    AuthenticationException,
    InvalidArgumentException,
    NotFoundException,
    RateLimitException,
    SandboxException,
    SandboxNotRunningException,
    SandboxUnreachableException,
    TimeoutException,
)

if TYPE_CHECKING:
    from code_interpreter.models import Execution

_LIVES_LONGER = (
    "A sandbox lives longer with a larger 'timeout' when it is created, or after '.set_timeout'."
)


class InvalidCodeException(InvalidArgumentException, TypeError):
    """``code`` is not text that can be run."""


class ArchiveException(SandboxException):
    """What a sandbox sent of a directory cannot be put where it belongs; says why."""


class ExecutionLostException(SandboxException):
    """The sandbox does not know the execution any more, so its outcome cannot be known."""


class NeedsWebSocketException(SandboxException):
    """The sandbox's server takes code over plain HTTP only, which cannot do what was asked."""


class EmbeddedHostException(SandboxException):
    """The host on this machine could not be found or started; says why, and what helps."""


class ExecutionTimeoutException(TimeoutException):
    """The code ran longer than ``timeout``, and was stopped."""

    execution: Execution
    """What there was until then. ``kernel_state`` says what became of the variables; it is
    None if the sandbox did not tell in time."""

    def __init__(self, execution: Execution, timeout: float | None) -> None:
        seconds = "its time-out" if timeout is None else f"{timeout:g} s"
        super().__init__(
            f"Execution timed out after {seconds}: the 'timeout' option gives it more time, "
            "0 no limit"
        )
        self.execution = execution


class RequestTimeoutException(TimeoutException):
    """The server did not answer within ``request_timeout``."""

    def __init__(self) -> None:
        super().__init__("Request timed out: the 'request_timeout' option gives it more time")


class SandboxKilledException(SandboxNotRunningException):
    """The sandbox ended while it was asked for something."""

    def __init__(self) -> None:
        super().__init__(
            "The sandbox was killed while the request was in progress: its time was up, or it "
            f"was killed by a call. {_LIVES_LONGER}"
        )


class SandboxPausedException(SandboxNotRunningException):
    """The sandbox is paused, maybe since it was asked for something; nothing of it is lost."""

    execution_id: str | None
    """What ran in it. It goes on with the sandbox."""

    def __init__(self, execution_id: str | None = None) -> None:
        what = "" if execution_id is None else f", and execution '{execution_id}' with it"
        super().__init__(
            f"The sandbox is paused{what}: 'connect' resumes it, 'attach_execution' reads on "
            "where a cell was"
        )
        self.execution_id = execution_id


class ConnectionLostException(SandboxUnreachableException):
    """The connection to the sandbox was lost, and with it a cell that nobody waited for."""

    execution_id: str
    execution: Execution | None = None
    """How the sandbox ended the cell, if the connection could be made again to ask."""

    @classmethod
    def for_good(cls, execution_id: str, reason: BaseException | None) -> ConnectionLostException:
        """It could not be made again."""
        lost = cls(
            f"The connection was lost while execution '{execution_id}' ran, and could not be "
            f"made again ({reason}). 'attach_execution' reads on once the sandbox can be reached."
        )
        lost.execution_id = execution_id
        return lost

    @classmethod
    def for_a_while(cls, execution: Execution) -> ConnectionLostException:
        """It is there again, but the sandbox stopped the cell meanwhile."""
        lost = cls(
            f"The connection was lost while execution '{execution.id}' ran, so the sandbox "
            f"interrupted it (the kernel's state is {execution.kernel_state}). What is run with "
            "'background=True' goes on without a connection."
        )
        lost.execution_id, lost.execution = execution.id or "", execution
        return lost


def from_status(status: int, body: str) -> Exception:
    """The exception for an answer that is not a success, whichever way it came."""
    body = body.strip()
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundException(body)
    if status == HTTPStatus.BAD_GATEWAY:
        return TimeoutException(
            f"{body}: This error is likely due to sandbox timeout. {_LIVES_LONGER}"
        )
    text = f"{status} {_phrase(status)}{f': {body}' if body else ''}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitException(text)  # type: ignore[no-untyped-call]
    return SandboxException(text, status_code=status)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


__all__ = [
    "ArchiveException",
    "AuthenticationException",
    "ConnectionLostException",
    "EmbeddedHostException",
    "ExecutionLostException",
    "ExecutionTimeoutException",
    "InvalidArgumentException",
    "InvalidCodeException",
    "NeedsWebSocketException",
    "NotFoundException",
    "RateLimitException",
    "RequestTimeoutException",
    "SandboxException",
    "SandboxKilledException",
    "SandboxNotRunningException",
    "SandboxPausedException",
    "SandboxUnreachableException",
    "TimeoutException",
    "from_status",
]
