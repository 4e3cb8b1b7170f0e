"""``GET /v2/sandboxes``: which sandboxes, in which order, which page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import parse_qsl, unquote

from code_interpreter.host.errors import BadRequest
from code_interpreter.host.records import Phase, Record
from code_interpreter.protocol.control import SandboxState

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Listing:
    """A checked query. Every given condition has to hold."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    states: frozenset[SandboxState] = frozenset(SandboxState)
    order: Literal["asc", "desc"] = "desc"
    """By start time."""
    started_after: datetime | None = None
    """A sandbox that started at this very time is in."""
    template: str | None = None
    limit: int = PAGE_SIZE
    cursor: tuple[str, str] | None = None
    """Sort key of the last sandbox of the page before."""

    def select(self, records: Iterable[Record]) -> tuple[list[Record], str | None]:
        """One page, and the token of the next one if there is more."""
        descending = self.order == "desc"
        matching = sorted(filter(self._matches, records), key=_sort_key, reverse=descending)
        if (cursor := self.cursor) is not None:
            matching = [
                record
                for record in matching
                if (_sort_key(record) < cursor if descending else _sort_key(record) > cursor)
            ]
        page = matching[: self.limit]
        more = len(matching) > len(page)
        return page, _encode_cursor(_sort_key(page[-1])) if more else None

    def _matches(self, record: Record) -> bool:
        return (
            state_of(record) in self.states
            and (self.template is None or record.template == self.template)
            and (self.started_after is None or record.started_at >= self.started_after)
            and self.metadata.items() <= dict(record.metadata).items()
        )


def state_of(record: Record) -> SandboxState:
    paused = record.phase in (Phase.PAUSED, Phase.RESUMING)
    return SandboxState.PAUSED if paused else SandboxState.RUNNING


def parse_listing(
    *,
    metadata: str | None = None,
    state: str | None = None,
    order: str | None = None,
    started_after: str | None = None,
    template: str | None = None,
    limit: str | None = None,
    next_token: str | None = None,
) -> Listing:
    """From the query's decoded values. Raises `BadRequest`, naming the parameter."""
    return Listing(
        metadata=parse_metadata(metadata or ""),
        states=_parse_states(state),
        order=_parse_order(order),
        started_after=_parse_time(started_after),
        template=template.lower().removesuffix(":default") if template else None,
        limit=_parse_limit(limit),
        cursor=_decode_cursor(next_token) if next_token else None,
    )


def parse_metadata(value: str) -> dict[str, str]:
    """A form of pairs whose parts are percent-encoded once more than forms usually are."""
    try:
        pairs = parse_qsl(value, keep_blank_values=True, strict_parsing=bool(value))
    except ValueError as error:
        raise BadRequest(f"metadata must be pairs like key=value&key2=value2: {error}") from error
    return {unquote(name): unquote(text) for name, text in pairs}


def _parse_states(value: str | None) -> frozenset[SandboxState]:
    if not value:
        return frozenset(SandboxState)
    try:
        return frozenset(SandboxState(name.strip()) for name in value.split(","))
    except ValueError:
        raise BadRequest(f"state must be 'running', 'paused' or both, not {value!r}") from None


def _parse_order(value: str | None) -> Literal["asc", "desc"]:
    match value:
        case None | "" | "desc":
            return "desc"
        case "asc":
            return "asc"
    raise BadRequest(f"order must be 'asc' or 'desc', not {value!r}")


def _parse_time(value: str | None) -> datetime | None:
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise BadRequest(
            f"startedAfter must be a time like 2026-01-31T12:00:00Z, not {value!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parse_limit(value: str | None) -> int:
    if value is None:
        return PAGE_SIZE
    digits = value.isascii() and value.isdigit() and len(value) < 5
    if not (digits and 1 <= int(value) <= PAGE_SIZE):
        raise BadRequest(f"limit must be from 1 to {PAGE_SIZE}, not {value[:20]!r}")
    return int(value)


def _sort_key(record: Record) -> tuple[str, str]:
    started = record.started_at.astimezone(UTC).isoformat(timespec="microseconds")
    return started, record.sandbox_id


def _encode_cursor(key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode("__".join(key).encode()).decode()


def _decode_cursor(token: str) -> tuple[str, str]:
    try:
        started, separator, sandbox_id = (
            base64.urlsafe_b64decode(token.encode()).decode().partition("__")
        )
    except (binascii.Error, ValueError):
        separator = ""
    if not separator:
        raise BadRequest("nextToken is not one that this host has given")
    return started, sandbox_id
