"""Requests about contexts: what to send, and what the answer means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from code_interpreter.cell import context_id_of
from code_interpreter.errors import from_status
from code_interpreter.link import Link
from code_interpreter.models import Context


@dataclass(frozen=True, slots=True)
class ContextRequest:
    method: str
    path: str
    body: dict[str, str] | None = None

    def arguments(self, link: Link, timeout: float | None) -> dict[str, Any]:
        """Arguments of ``request`` of an httpx client."""
        return {
            "method": self.method,
            "url": link.url + self.path,
            "json": self.body,
            "headers": link.headers(),
            "timeout": httpx.Timeout(timeout, write=0.0),
        }


def create(cwd: str | None, language: str | None) -> ContextRequest:
    fields = {"language": language, "cwd": cwd}
    return ContextRequest(
        "POST", "/contexts", {name: value for name, value in fields.items() if value}
    )


def listing() -> ContextRequest:
    return ContextRequest("GET", "/contexts")


def restart(context: Context | str) -> ContextRequest:
    return ContextRequest("POST", f"/contexts/{segment(context)}/restart")


def remove(context: Context | str) -> ContextRequest:
    return ContextRequest("DELETE", f"/contexts/{segment(context)}")


def segment(context: Context | str) -> str:
    """A context, or another id, as a part of a path."""
    return quote(context_id_of(context), safe="")


def read(response: httpx.Response) -> Any:
    """The answer's JSON. Raises what its status means."""
    if not response.is_success:
        raise from_status(response.status_code, response.text)
    return response.json() if response.content else None
