"""Everything that can be set on a host, read once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from code_interpreter.host.edge_vigil import PATIENCE


class RuntimeName(StrEnum):
    """How sandboxes are kept apart. ``auto`` is the best one that is not ``process``."""

    AUTO = "auto"
    NAMESPACES = "namespaces"
    PROCESS = "process"


def default_data_directory() -> Path:
    return Path(platformdirs.user_data_dir("code-interpreter"))


class Settings(BaseSettings):
    """Each field is the environment variable ``CODE_INTERPRETER_<FIELD>``.

    Durations are seconds. A maximum of None is what the machine has.
    """

    model_config = SettingsConfigDict(
        env_prefix="CODE_INTERPRETER_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    data_dir: Path = Field(default_factory=default_data_directory)
    templates_dir: Path | None = None
    """Prepared templates; default ``templates`` in the data directory. Hosts may share it."""
    host: str = "127.0.0.1"
    """The address to listen on. Anything but a loopback address is reachable by others."""
    port: int = Field(default=7070, ge=0, le=65535)
    """0 takes a free one."""
    domain: str | None = None
    """Sandboxes are also reached as ``<port>-<id>.<domain>``; default ``localhost:<port>``."""
    api_key: SecretStr | None = None
    """Default: made on first start and kept in the data directory."""
    runtime: RuntimeName = RuntimeName.AUTO

    idle_stop: float = Field(default=900, ge=0)
    """An embedded host without sandboxes or requests for so long stops; 0: never."""
    max_timeout: int = Field(default=30 * 24 * 3600, gt=0)
    """The longest time a sandbox may be given at once."""
    max_sandboxes: int = Field(default=500, gt=0)
    pool_size: int = Field(default=2, ge=0)
    """Sandboxes that are kept ready, so that a create need not wait for one; 0: none."""
    pool_max: int | None = Field(default=None, ge=0)
    """As many are kept ready while they are asked for that fast; default: see `host.ahead`."""
    furnished_max: int | None = Field(default=None, ge=0)
    """Together with those, so many are kept half made, all but the kernel, whatever is asked for;
    0: none. Default: see `host.ahead`."""
    warm_languages: Annotated[tuple[str, ...] | None, NoDecode] = None
    """Languages whose kernels are started ahead, beside Python's, in the sandbox that is given out
    next; separated by commas, or ``none``. Default: see `host.warmth`."""
    warm_seconds: float = Field(default=60, gt=0)
    """After which such a kernel ends if whoever has got the sandbox does not use it."""
    fork_server: bool = True
    """Start sandboxes and kernels from a process that has imported everything. Without it all
    is started as a program of its own: slower by a second, and nothing is shared."""
    pool_template: str = "code-interpreter-v1"

    slowness: float = Field(default=1, ge=1)
    """How many times as long as elsewhere sandboxes may take here to start and to end."""
    guest_patience: float = Field(default=PATIENCE, gt=0)
    """After so long without a sign of life from a sandbox's envd or gateway, with somebody
    waiting for it, the waiting are told that it hangs."""

    default_memory_mb: int = Field(default=2048, gt=0)
    default_cpu_count: float = Field(default=2, gt=0)
    default_pids: int = Field(default=512, gt=0)
    default_disk_mb: int | None = Field(default=10240, gt=0)
    max_memory_mb: int | None = Field(default=None, gt=0)
    max_cpu_count: float | None = Field(default=None, gt=0)
    max_disk_mb: int | None = Field(default=None, gt=0)
    overcommit: float = Field(default=4, ge=1)
    """How many times more than the machine has sandboxes are promised together."""
    memory_reserve_mb: int | None = Field(default=None, ge=0)
    """Sandboxes never get this; default: a twentieth of the memory, 256 to 2048."""
    disk_reserve_mb: int | None = Field(default=None, ge=0)
    """No new sandbox below this; default: a twentieth of the disk, 512 to 4096."""

    @field_validator("warm_languages", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            names = tuple(name for part in value.split(",") if (name := part.strip()))
            return () if names == ("none",) else names
        return value

    @field_validator("data_dir", "templates_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()
