"""What a new sandbox may use, in place of the host's defaults; and how it is sent.

E2B's SDK makes the body of the request, so limits go as headers (`protocol.control`).
"""

from __future__ import annotations

import math

from e2b.connection_config import ApiParams, ConnectionConfig

from code_interpreter.errors import InvalidArgumentException
from code_interpreter.protocol.control import LIMIT_HEADERS


def with_limits(
    options: ApiParams,
    *,
    cpu_count: float | None,
    memory_mb: int | None,
    disk_mb: int | None,
) -> ApiParams:
    """Connection options that say the limits too. Raises `InvalidArgumentException`."""
    given = {
        "cpuCount": _checked("cpu_count", cpu_count, "a number of cores", (int, float)),
        "memoryMB": _checked("memory_mb", memory_mb, "a whole number of MiB", (int,)),
        "diskSizeMB": _checked("disk_mb", disk_mb, "a whole number of MiB", (int,)),
    }
    headers = {LIMIT_HEADERS[field]: text for field, text in given.items() if text is not None}
    if not headers:
        return options
    return {**options, "api_headers": {**(options.get("api_headers") or {}), **headers}}


def without_limits(config: ConnectionConfig) -> None:
    """The limits are told once, at the start."""
    for header in LIMIT_HEADERS.values():
        config.headers.pop(header, None)


def _checked(name: str, value: object, right: str, kinds: tuple[type, ...]) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InvalidArgumentException(f"{name} must be {right}, not {value!r}")
    assert isinstance(value, int | float)
    if not math.isfinite(value) or value <= 0:
        raise InvalidArgumentException(f"{name} must be {right} above 0, not {value!r}")
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
