"""What the control plane answers when it cannot do what was asked.

HostError
    BadRequest          400
    NotFound            404
    Conflict            409
    IdempotencyMismatch 422
    TooManySandboxes    429
    HostFailure         500
    NotReady            503
    NoRoom              503
        NotStored       503
"""

from __future__ import annotations

from collections.abc import Mapping


class HostError(Exception):
    """The message says what was wrong and what would be right; it is shown to the caller."""

    status = 500
    error_code: str | None = None
    headers: Mapping[str, str] = {}


class BadRequest(HostError):
    status = 400


class NotFound(HostError):
    status = 404


class Conflict(HostError):
    status = 409


class IdempotencyMismatch(HostError):
    """An idempotency key came again with another request."""

    status = 422
    error_code = "idempotency_request_mismatch"


class TooManySandboxes(HostError):
    """The host's limit is reached. Waiting for it is the caller's choice, not the client's."""

    status = 429
    headers = {"Retry-After": "5", "Should-Retry": "false"}  # noqa: RUF012


class HostFailure(HostError):
    """The sandbox could not be made, paused or ended."""

    status = 500
    headers = {"Should-Retry": "false"}  # noqa: RUF012


class NotReady(HostError):
    """The host is stopping."""

    status = 503
    headers = {"Retry-After": "1", "Should-Retry": "false"}  # noqa: RUF012


class NoRoom(HostError):
    """The machine has no memory or no disk for another sandbox at the moment."""

    status = 503
    headers = {"Retry-After": "5", "Should-Retry": "false"}  # noqa: RUF012


class NotStored(NoRoom):
    """The host's own disk takes nothing more."""


def sandbox_not_found(sandbox_id: str) -> NotFound:
    return NotFound(f"sandbox {sandbox_id[:64]!r} was not found: it never was, or has ended")
