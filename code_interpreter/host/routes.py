"""Where the edge finds sandboxes."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Literal

from code_interpreter.host.edge import Route, WakeRefused
from code_interpreter.host.errors import HostError
from code_interpreter.host.lifecycle import Lifecycle
from code_interpreter.host.records import Phase, Record


class HostRoutes:
    """`edge.Routes` on the lifecycle."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def find(self, sandbox_id: str) -> Route | None:
        record = self._lifecycle.registry.find(sandbox_id)
        return None if record is None else _route(record)

    def find_by_signature(
        self,
        path: str,
        username: str | None,
        signature: str,
        expiration: int | None,
        operation: Literal["read", "write"],
    ) -> Route | None:
        until = "" if expiration is None else f":{expiration}"
        given = signature.encode()
        for record in self._lifecycle.registry.visible():
            signed = f"{path}:{operation}:{username or ''}:{record.access_token}{until}"
            if secrets.compare_digest(sign(signed), given):
                return _route(record)
        return None

    def find_by_access_token(self, token: str) -> Route | None:
        given = token.encode()
        for record in self._lifecycle.registry.visible():
            if secrets.compare_digest((record.access_token or "").encode(), given):
                return _route(record)
        return None

    async def wake(self, sandbox_id: str) -> None:
        try:
            await self._lifecycle.wake(sandbox_id)
        except HostError as error:
            raise WakeRefused(str(error)) from error


def sign(text: str) -> bytes:
    """E2B's signature of a file's URL: SHA-256, base64 without padding, after ``v1_``."""
    digest = hashlib.sha256(text.encode()).digest()
    return b"v1_" + base64.b64encode(digest).rstrip(b"=")


def _route(record: Record) -> Route:
    network = record.network or {}
    return Route(
        sandbox_id=record.sandbox_id,
        run_directory=record.live_box.run_directory,
        paused=record.phase is not Phase.RUNNING,
        auto_resume=record.auto_resume,
        access_token=record.access_token,
        traffic_token=record.traffic_token,
        mask_request_host=network.get("mask_request_host"),
    )
