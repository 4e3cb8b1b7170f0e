"""Messages of type ``stream``, made without the detours of jupyter_client's `Session`.

A loop that prints to both streams sends one of these for each print.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from jupyter_client.session import DELIM, Session

_VERSION = "5.3"


class StreamMessages:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._parent: dict[str, Any] | None = None
        self._packed_parent = b"{}"

    def frames(self, name: str, text: str, parent: dict[str, Any]) -> list[bytes]:
        """A signed message; ``parent`` is the request that it belongs to, empty if none."""
        session = self._session
        header = {
            "msg_id": session.msg_id,
            "msg_type": "stream",
            "username": session.username,
            "session": session.session,
            "date": datetime.now(UTC).isoformat(),
            "version": _VERSION,
        }
        content = {"name": name, "text": text}
        parts = [_pack(header), self._pack_parent(parent), b"{}", _pack(content)]
        return [f"stream.{name}".encode(), DELIM, session.sign(parts), *parts]

    def _pack_parent(self, parent: dict[str, Any]) -> bytes:
        if parent is not self._parent:
            self._packed_parent = self._session.pack(parent.get("header", {}))
            self._parent = parent
        return self._packed_parent


def _pack(value: dict[str, str]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
