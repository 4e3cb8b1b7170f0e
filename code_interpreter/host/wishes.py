"""What a caller wants of a new sandbox, checked: nothing is accepted that is not enforced."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from code_interpreter.host.errors import BadRequest
from code_interpreter.host.runtimes.base import Limits
from code_interpreter.protocol.control import LIMIT_HEADERS, Network, NewSandbox

DEFAULT_TIMEOUT = 300
"""Seconds; of ``POST /v2/sandboxes``."""
LEGACY_DEFAULT_TIMEOUT = 15
"""Seconds; of ``POST /sandboxes``."""
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked request for a sandbox."""

    template: str
    timeout: int
    limits: Limits = field(default_factory=Limits)
    metadata: Mapping[str, str] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)
    auto_pause: bool = False
    auto_resume: bool = False
    allow_internet_access: bool | None = None
    network: Mapping[str, Any] | None = None
    private_traffic: bool = False
    """Ports other than envd's ask for a token."""
    idempotency_key: str | None = None
    digest: str | None = None
    """Of the request, to tell a repetition from another one with the same key."""

    @property
    def cuts_internet(self) -> bool:
        return self.allow_internet_access is False or "deny_out" in (self.network or {})


def read_wish(body: NewSandbox, *, default_timeout: int, key: str | None = None) -> Wish:
    """Raises `BadRequest`, naming the field."""
    _check_lifecycle(body)
    _check_not_here_yet(body)
    return Wish(
        template=body.template_id,
        timeout=default_timeout if body.timeout is None else body.timeout,
        limits=Limits(
            memory_bytes=None if body.memory_mb is None else body.memory_mb * MIB,
            cpu_count=body.cpu_count,
            disk_bytes=None if body.disk_size_mb is None else body.disk_size_mb * MIB,
        ),
        metadata=body.metadata,
        env_vars=body.env_vars,
        auto_pause=body.auto_pause,
        auto_resume=body.auto_resume.enabled,
        allow_internet_access=body.allow_internet_access,
        network=_given(body.network) or None,
        private_traffic=body.network is not None and body.network.allow_public_traffic is False,
        idempotency_key=key,
        digest=None if key is None else hashlib.sha256(body.model_dump_json().encode()).hexdigest(),
    )


def with_limit_headers(body: NewSandbox, headers: Mapping[str, str]) -> NewSandbox:
    """The body, with limits from headers where it has none. Raises `BadRequest`."""
    given = {
        field: _number(header, headers[header])
        for field, header in LIMIT_HEADERS.items()
        if header in headers
    }
    if not given:
        return body
    said = body.model_dump(by_alias=True, exclude_unset=True)
    for name, value in given.items():
        if said.setdefault(name, value) != value:
            raise BadRequest(f"{LIMIT_HEADERS[name]} says {value:g}, {name} {said[name]:g}")
    return NewSandbox.model_validate(said)


def _number(header: str, text: str) -> float:
    pattern = r"\d{1,12}(\.\d{1,6})?" if header == LIMIT_HEADERS["cpuCount"] else r"\d{1,12}"
    if re.fullmatch(pattern, text, re.ASCII) is None:
        kind = "number" if "." in pattern else "whole number of MiB"
        raise BadRequest(f"{header} must be a {kind}, not {text[:40]!r}")
    return float(text) if "." in text else int(text)


def check_timeout(seconds: int, maximum: int, *, least: int = 1) -> int:
    """Raises `BadRequest`."""
    if not least <= seconds <= maximum:
        raise BadRequest(f"timeout must be from {least} to {maximum} seconds, not {seconds}")
    return seconds


def _check_lifecycle(body: NewSandbox) -> None:
    if body.auto_pause_memory:
        return
    if not body.auto_pause:
        raise BadRequest("autoPauseMemory false needs autoPause true")
    if body.auto_resume.enabled:
        raise BadRequest(
            "autoPauseMemory false cannot be combined with autoResume: without its memory a "
            "sandbox is only resumed by connecting to it"
        )
    raise BadRequest("autoPauseMemory false is not supported by this host: leave it out")


def _check_not_here_yet(body: NewSandbox) -> None:
    """Policies that this host could not hold to are refused, never dropped in silence."""
    enforced = {"allow_public_traffic", "mask_request_host", "deny_out"}
    refused = sorted(set(_given(body.network)) - enforced)
    if refused:
        raise BadRequest(
            f"network settings {', '.join(refused)} cannot be enforced by this host: leave them out"
        )
    _check_denied(body.network)
    if body.iam is not None and body.iam.tokens:
        raise BadRequest("iam tokens are not supported by this host: leave iam out")
    if body.volume_mounts:
        raise BadRequest("volumes are not supported by this host: leave volumeMounts out")
    host = body.network and body.network.mask_request_host
    if host and not (host.isascii() and host.isprintable()):
        raise BadRequest("maskRequestHost must be printable ASCII")


def _check_denied(network: Network | None) -> None:
    """What may be denied; a sandbox that reaches nothing reaches none of it."""
    for denied in (network and network.deny_out) or ():
        try:
            ipaddress.ip_network(denied, strict=False)
        except ValueError:
            raise BadRequest(
                f"denyOut takes addresses like 8.8.8.8 and ranges like 10.0.0.0/8, not {denied!r}"
            ) from None


def _given(network: Network | None) -> dict[str, Any]:
    """The settings that say something: an empty list is like leaving it out."""
    if network is None:
        return {}
    given = network.model_dump(exclude_none=True)
    return {name: value for name, value in given.items() if value not in ([], {})}
