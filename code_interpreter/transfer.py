"""One directory on its way into a sandbox, or out of it, over one HTTP request."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
from e2b import FileNotFoundException, InvalidArgumentException
from e2b.api.client_sync import get_envd_api
from e2b.connection_config import ConnectionConfig
from e2b.envd.api import (
    handle_envd_api_exception,
    handle_envd_api_transport_exception_with_health,
)

from code_interpreter.directories import OnProgress, Tally, Transferred, pack, unpack
from code_interpreter.errors import ArchiveException, RequestTimeoutException
from code_interpreter.protocol.archives import PATH, BadArchive, Excludes

STALL_SECONDS = 130.0
"""How long neither side may hear from the other; the sandbox gives up a little sooner."""
AnyPath = str | os.PathLike[str]


class Abandoned(Exception):
    """Nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Where to, and for how long; for one use, in any thread."""

    config: ConnectionConfig
    url: str
    excludes: Excludes
    tally: Tally
    user: str | None
    deadline: float | None
    """On the monotonic clock."""

    @classmethod
    def to(
        cls,
        config: ConnectionConfig,
        url: str,
        exclude: Sequence[str],
        on_progress: OnProgress | None,
        user: str | None,
        request_timeout: float | None,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> Self:
        """The caller's wishes, in the settings of a sandbox's other requests."""
        if isinstance(exclude, str):
            raise InvalidArgumentException("exclude takes a list of patterns, not one string")
        deadline = time.monotonic() + request_timeout if request_timeout else None

        def check() -> None:
            if abandoned():
                raise Abandoned
            if deadline is not None and time.monotonic() > deadline:
                raise RequestTimeoutException

        return cls(
            config=config,
            url=url,
            excludes=Excludes(exclude),
            tally=Tally(on_progress, check),
            user=user,
            deadline=deadline,
        )

    def upload(self, local: AnyPath, remote: str) -> Transferred:
        """What is in ``local`` into ``remote``."""
        if not Path(local).is_dir():
            raise InvalidArgumentException(f"'{local}' is not a directory on this machine")
        pieces = self._watched(pack(os.fspath(local), self.excludes, self.tally))
        headers = {"Content-Type": "application/x-tar"}
        with self._sender() as client:
            request = client.build_request(
                "POST", PATH, params=self._query(remote), headers=headers, content=pieces
            )
            with _answer(client, request) as answer:
                answer.read()
        return self.tally.total()

    def download(self, remote: str, local: AnyPath, exclude: Sequence[str]) -> Transferred:
        """What is in ``remote`` into ``local``."""
        query = self._query(remote) | {"exclude": list(exclude)}
        # Its time-out is for the whole; without one, a read may take a minute.
        client = get_envd_api(self.config, self.url, for_streaming=True)
        request = client.build_request("GET", PATH, params=query, timeout=self._left())
        with _answer(client, request) as answer:
            pieces = self._watched(answer.iter_bytes())
            try:
                unpack(lambda: next(pieces, b""), Path(local), self.tally)
            except BadArchive as error:
                raise ArchiveException(f"'{remote}' could not be received: {error}") from error
        return self.tally.total()

    def _query(self, remote: str) -> dict[str, str | list[str]]:
        query: dict[str, str | list[str]] = {"path": remote}
        return query | {"username": self.user} if self.user else query

    def _watched(self, pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
        for piece in pieces:
            self.tally.check()
            yield piece

    def _sender(self) -> httpx.Client:
        """Unlike E2B's own, one whose time-outs are for each step and not for the whole."""
        here = urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")
        stall = min(STALL_SECONDS, self._left() or STALL_SECONDS)
        return httpx.Client(
            base_url=self.url,
            headers=self.config.sandbox_headers,
            proxy=self.config.proxy,
            trust_env=not here,
            timeout=httpx.Timeout(stall, connect=self.config.get_request_timeout(None)),
        )

    def _left(self) -> float | None:
        """Seconds until the deadline."""
        return None if self.deadline is None else max(0.001, self.deadline - time.monotonic())


@contextmanager
def _answer(client: httpx.Client, request: httpx.Request) -> Iterator[httpx.Response]:
    """What is not a success is raised, and so is what becomes of the connection meanwhile."""
    try:
        answer = client.send(request, stream=True)
        with contextlib.closing(answer):
            refused = handle_envd_api_exception(answer, {404: FileNotFoundException})
            if refused is not None:
                raise refused
            yield answer
    except httpx.TimeoutException as late:
        raise RequestTimeoutException from late
    except httpx.TransportError as error:
        raise handle_envd_api_transport_exception_with_health(error, client) from error
