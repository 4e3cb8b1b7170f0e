"""What the edge asks of the host: which sandboxes there are, and how to reach each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach one live sandbox, and who may."""

    sandbox_id: str
    run_directory: Path
    """Holds the box's sockets, named in `code_interpreter.host.runtimes.base`."""
    paused: bool = False
    auto_resume: bool = False
    """A request wakes the paused sandbox; otherwise a paused one is as good as not there."""
    access_token: str | None = None
    """envd's. Whoever wakes a sandbox through envd has to show it; envd checks it otherwise."""
    traffic_token: str | None = None
    """Asked for on every port but envd's, where the sandbox has one."""
    mask_request_host: str | None = None
    """What servers in the sandbox see as ``Host``; ``${PORT}`` stands for the port."""


class WakeRefused(Exception):
    """The sandbox cannot be resumed now; the message says why."""


class Routes(Protocol):
    """What the edge asks of the host's lifecycle."""

    def find(self, sandbox_id: str) -> Route | None:
        """The sandbox of this id, running or paused; None if there is none. From memory."""

    def find_by_signature(
        self,
        path: str,
        username: str | None,
        signature: str,
        expiration: int | None,
        operation: Literal["read", "write"],
    ) -> Route | None:
        """The sandbox whose access token made this signature of a file's URL.

        An expired signature still names its sandbox: envd turns it down. ``username`` is
        None where the URL has none, ``expiration`` is in unix seconds.
        """

    def find_by_access_token(self, token: str) -> Route | None:
        """The sandbox with this access token: clients before 2026 name some no other way."""

    async def wake(self, sandbox_id: str) -> None:
        """Resume a paused sandbox; returns once it answers. Raises `WakeRefused`.

        Does nothing if it runs already. Called for several requests at once.
        """
