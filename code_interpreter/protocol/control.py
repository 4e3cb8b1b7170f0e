"""Bodies of the control plane's REST API, as E2B's clients send and read them.

Times are seconds, sizes MiB where a name says ``MB``, timestamps RFC 3339 in UTC. Keys
are lower camel case, with the few exceptions that the clients have. Requests ignore
fields that they do not know; answers leave out what is not set.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)
from pydantic.alias_generators import to_camel

ENVD_VERSION = "0.6.13"
"""The version of E2B's envd whose features this one has; clients switch features on by it."""
LONGEST_VALUE = 128 * 1024 - 256
"""Bytes of an environment variable. Linux passes on 131,071 with the name and ``=``."""
CLIENT_ID = "self"
"""E2B's clients want one and do nothing with it."""


def _check_variable(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise ValueError(
            f"{name!r} is not a name for an environment variable: it must not be empty "
            "and must not contain '=' or a NUL character"
        )
    return name


def _check_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("a value must not contain a NUL character")
    if (size := len(value.encode(errors="replace"))) > LONGEST_VALUE:
        raise ValueError(f"a value has at most {LONGEST_VALUE} bytes, this one {size}")
    return value


VariableName = Annotated[StrictStr, AfterValidator(_check_variable)]
VariableValue = Annotated[StrictStr, AfterValidator(_check_text)]


def _to_rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Timestamp = Annotated[datetime, PlainSerializer(_to_rfc3339, return_type=str)]


def _alias(name: str) -> str:
    """``sandbox_id`` is ``sandboxID`` and ``memory_mb`` is ``memoryMB`` on the wire."""
    camel = to_camel(name)
    for ending in ("Id", "Mb"):
        camel = camel.removesuffix(ending) + ending.upper() if camel.endswith(ending) else camel
    return camel


class _Wire(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        alias_generator=_alias,
        validate_by_name=True,
        validate_by_alias=True,
        defer_build=True,  # clients import this for one model of it
    )


LIMIT_HEADERS = {
    "cpuCount": "X-Sandbox-Cpu-Count",
    "memoryMB": "X-Sandbox-Memory-MB",
    "diskSizeMB": "X-Sandbox-Disk-Size-MB",
}
"""Field of `NewSandbox` → the header that says the same, for clients that make the body
themselves: E2B's take headers for the API (``api_headers``, ``apiHeaders``)."""

_SANE = Field(lt=1 << 53)


# --- requests ---------------------------------------------------------------------------


class AutoResume(_Wire):
    """Whether traffic wakes a paused sandbox."""

    enabled: StrictBool = False


class VolumeMount(_Wire):
    name: StrictStr
    path: StrictStr


class Iam(_Wire):
    """Workload identity tokens to mint; none are minted here."""

    tokens: dict[StrictStr, Any] = Field(default_factory=dict)


class Network(_Wire):
    """What may go into and out of a sandbox."""

    allow_out: list[StrictStr] | None = None
    deny_out: list[StrictStr] | None = None
    dns_servers: list[StrictStr] | None = None
    egress_proxy: dict[str, Any] | None = None
    mask_request_host: StrictStr | None = None
    allow_public_traffic: StrictBool | None = None
    https_ports: list[StrictInt] | None = None
    rules: dict[str, Any] | None = None


class NewSandbox(_Wire):
    """``POST /sandboxes`` and ``POST /v2/sandboxes``; they differ in the default time-out."""

    template_id: StrictStr = Field(min_length=1, max_length=256)
    timeout: StrictInt | None = None
    auto_pause: StrictBool = False
    auto_pause_memory: StrictBool = True
    auto_resume: AutoResume = AutoResume()
    secure: StrictBool = True
    """Ignored: every sandbox is secured."""
    allow_internet_access: Annotated[StrictBool | None, Field(alias="allow_internet_access")] = None
    network: Network | None = None
    metadata: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    env_vars: dict[VariableName, VariableValue] = Field(default_factory=dict)
    mcp: dict[str, Any] | None = None
    iam: Iam | None = None
    volume_mounts: list[VolumeMount] = Field(default_factory=list)
    cpu_count: Annotated[StrictFloat | None, _SANE] = None
    """Our own, as are the next two: limits of this sandbox other than the host's defaults."""
    memory_mb: Annotated[StrictInt | None, _SANE] = None
    disk_size_mb: Annotated[StrictInt | None, _SANE] = None


class ConnectSandbox(_Wire):
    """``POST …/connect``: ``memory`` false asks for a reboot from disk."""

    timeout: StrictInt | None = None
    memory: StrictBool = True


class ResumeSandbox(_Wire):
    """``POST …/resume``, of very old clients."""

    timeout: StrictInt = 15
    auto_pause: StrictBool | None = None
    memory: StrictBool = True


class SetTimeout(_Wire):
    timeout: Annotated[StrictInt, Field(ge=0)]


class Refresh(_Wire):
    duration: Annotated[StrictInt, Field(ge=0, le=3600)] = 15


class PauseSandbox(_Wire):
    """``memory`` false asks for a pause that keeps only the disk."""

    memory: StrictBool = True
    require_healthy_guest: StrictBool = False


# --- answers ----------------------------------------------------------------------------


class ErrorBody(_Wire):
    """Every answer that is not a success. ``code`` repeats the HTTP status."""

    code: int
    message: str
    error_code: Annotated[str | None, Field(alias="error_code")] = None


class SandboxState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"


class OnTimeout(StrEnum):
    KILL = "kill"
    PAUSE = "pause"


class Lifecycle(_Wire):
    auto_resume: bool
    on_timeout: OnTimeout


class Sandbox(_Wire):
    """A sandbox as create, connect and resume answer it: how to reach it."""

    template_id: str
    sandbox_id: str
    client_id: str = CLIENT_ID
    envd_version: str = ENVD_VERSION
    alias: str | None = None
    envd_access_token: str | None = None
    traffic_access_token: str | None = None
    domain: str | None = None


class ListedSandbox(_Wire):
    template_id: str
    sandbox_id: str
    client_id: str = CLIENT_ID
    envd_version: str = ENVD_VERSION
    alias: str | None = None
    started_at: Timestamp
    end_at: Timestamp
    cpu_count: int | float
    """A fraction only where one was asked for: E2B's own are whole."""
    memory_mb: int
    disk_size_mb: int
    state: SandboxState
    metadata: dict[str, str] = Field(default_factory=dict)


class SandboxDetail(ListedSandbox):
    envd_access_token: str | None = None
    domain: str | None = None
    allow_internet_access: bool | None = None
    network: Network | None = None
    lifecycle: Lifecycle
    pause_mode: str | None = None


class SandboxMetric(_Wire):
    """One sample. ``cpu_used_pct`` is of one core; memory and disk are bytes."""

    timestamp: Timestamp
    timestamp_unix: int
    cpu_count: int
    cpu_used_pct: float
    mem_used: int
    mem_total: int
    mem_cache: int
    disk_used: int
    disk_total: int


class SandboxesWithMetrics(_Wire):
    sandboxes: dict[str, SandboxMetric]


class LogLine(_Wire):
    """``line`` is a JSON object as text, with ``level`` and ``message``."""

    timestamp: Timestamp
    line: str


class LogEntry(_Wire):
    timestamp: Timestamp
    level: str
    message: str
    fields: dict[str, str] = Field(default_factory=dict)


class SandboxLogs(_Wire):
    logs: list[LogLine]
    log_entries: list[LogEntry]


class SandboxLogsV2(_Wire):
    logs: list[LogEntry]


class SandboxEvent(_Wire):
    """A change in a sandbox's life."""

    model_config = ConfigDict(alias_generator=to_camel)

    version: str = "v1"
    id: str
    type: str
    """``sandbox.lifecycle.`` with ``created``, ``updated``, ``paused``, ``resumed``, ``killed``."""
    event_data: dict[str, Any] | None = None
    """``sandbox_metadata``, if it has any, and ``set_timeout``, the new end, of updates."""
    sandbox_build_id: str
    sandbox_execution_id: str
    sandbox_id: str
    sandbox_team_id: str
    sandbox_template_id: str
    timestamp: Timestamp


class TemplateAlias(_Wire):
    template_id: str
    public: bool = True


class Template(_Wire):
    template_id: str
    build_id: str
    cpu_count: int | float
    memory_mb: int
    disk_size_mb: int
    public: bool
    aliases: list[str]
    names: list[str]
    created_at: Timestamp
    updated_at: Timestamp
    created_by: None = None
    last_spawned_at: Timestamp | None = None
    spawn_count: int = 0
    build_count: int = 1
    envd_version: str = ENVD_VERSION
    build_status: str = "ready"


class Team(_Wire):
    team_id: str
    name: str
    api_key: str
    is_default: bool = True


class Pool(_Wire):
    """Sandboxes that are ready and nobody's yet."""

    ready: int
    wanted: int
    """How many the host would have, as the last minute was."""
    warm: int
    """In how many of the ready ones other languages than Python have been started ahead."""
    memory_bytes: int
    """What the ready ones take, as far as it is counted by the system, else estimated."""
    furnished: int = 0
    """How many are there beside, half made: they have no kernel yet."""


class Health(_Wire):
    """Of a host that answers, and lacks something."""

    message: str


# --- finding the host -------------------------------------------------------------------


class HostFile(BaseModel):
    """``host.json`` in the data directory: how a user's programs find the running host."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pid: int
    url: str
    api_key: str
    embedded: bool
    """Started by a client on first use, and stops by itself; otherwise by ``serve``."""
