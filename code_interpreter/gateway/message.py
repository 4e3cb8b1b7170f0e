"""One message of the Jupyter protocol, and its form on the wire.

https://jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol
"""

from __future__ import annotations

import hmac
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic_core import from_json

DELIMITER = b"<IDS|MSG>"
VERSION = "5.3"


class BadMessage(ValueError):
    """Bytes on a kernel's socket that are no message of this kernel."""


@dataclass(frozen=True, slots=True)
class KernelMessage:
    type: str
    parent_id: str
    """``msg_id`` of the request that this belongs to; empty if none."""
    content: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    date: str = ""
    """ISO 8601 with an offset."""
    header: dict[str, Any] = field(default_factory=dict)
    parent: dict[str, Any] = field(default_factory=dict)
    buffers: tuple[bytes, ...] = ()
    size: int = 0
    """Bytes of the content as it came."""
    raw: tuple[bytes, ...] = ()
    """Header, parent, metadata and content as they came."""

    @property
    def unescaped(self) -> bool:
        """No text of the content holds anything that JSON escapes."""
        return bool(self.raw) and b"\\" not in self.raw[3]


def made_message(
    message_type: str, content: dict[str, Any], parent: dict[str, Any] | None = None
) -> KernelMessage:
    """One that the gateway says in the kernel's place."""
    header = {
        "msg_id": os.urandom(16).hex(),
        "session": "gateway",
        "username": "gateway",
        "date": now_text(),
        "msg_type": message_type,
        "version": VERSION,
    }
    raw = tuple(_dump(part) for part in (header, parent or {}, {}, content))
    return KernelMessage(
        message_type,
        str((parent or {}).get("msg_id", "")),
        content,
        date=str(header["date"]),
        header=header,
        parent=parent or {},
        size=len(raw[3]),
        raw=raw,
    )


class Codec:
    """Signs and reads messages of one kernel."""

    def __init__(self, key: str) -> None:
        self._mac = hmac.new(key.encode(), digestmod="sha256")
        self._session = os.urandom(16).hex()
        self._count = 0

    def request(
        self,
        message_type: str,
        content: dict[str, Any],
        *,
        metadata: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
    ) -> tuple[str, list[bytes]]:
        """The ``msg_id`` and the frames of a new message to the kernel."""
        self._count += 1
        message_id = f"{self._session}_{self._count}"
        header = {
            "msg_id": message_id,
            "session": self._session,
            "username": "gateway",
            "date": now_text(),
            "msg_type": message_type,
            "version": VERSION,
        }
        return message_id, self.frames(header, parent or {}, metadata or {}, content)

    def frames(
        self,
        header: dict[str, Any],
        parent: dict[str, Any],
        metadata: dict[str, Any],
        content: dict[str, Any],
        buffers: tuple[bytes, ...] = (),
    ) -> list[bytes]:
        parts = [_dump(part) for part in (header, parent, metadata, content)]
        return [DELIMITER, self._sign(parts), *parts, *buffers]

    def read(self, frames: list[bytes]) -> KernelMessage:
        """Raises `BadMessage` for a wrong signature or what is no message at all."""
        try:
            start = frames.index(DELIMITER)
            signature, *parts = frames[start + 1 : start + 6]
            header, parent, metadata, content = parts
        except ValueError:
            raise BadMessage("frames are missing") from None
        if not hmac.compare_digest(signature, self._sign(parts)):
            raise BadMessage("the signature is wrong")
        head, parent_head = _load(header), _load(parent)
        return KernelMessage(
            type=str(head.get("msg_type", "")),
            parent_id=str(parent_head.get("msg_id", "")),
            content=_load(content),
            metadata=_load(metadata),
            date=_with_offset(str(head.get("date") or "")),
            header=head,
            parent=parent_head,
            buffers=tuple(frames[start + 6 :]),
            size=len(content),
            raw=(header, parent, metadata, content),
        )

    def _sign(self, parts: list[bytes]) -> bytes:
        mac = self._mac.copy()
        for part in parts:
            mac.update(part)
        return mac.hexdigest().encode()


def _dump(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value)


def _load(data: bytes) -> dict[str, Any]:
    try:
        value = from_json(data)
    except ValueError:
        value = _load_odd(data)
    if not isinstance(value, dict):
        raise BadMessage("a part is not a JSON object")
    return value


def _load_odd(data: bytes) -> Any:
    """Lone surrogates and bad UTF-8 become replacement characters; the rest is kept."""
    try:
        value = json.loads(data.decode("utf-8", "replace"))
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"a part is not JSON: {error}") from error


def _with_offset(date: str) -> str:
    if not date:
        return now_text()
    return date.replace("Z", "+00:00") if date.endswith("Z") else date


def now_text() -> str:
    return datetime.now(UTC).isoformat()
