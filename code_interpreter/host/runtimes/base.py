"""The seam between the host and whatever runs a sandbox.

A runtime turns a `SandboxSpec` into a running box: an init process, envd and the kernel
gateway, each reachable over a unix socket in the box's run directory. It knows nothing of
HTTP, API keys or time-outs. The host (`host/lifecycle.py`) knows nothing of namespaces.

Contract, for every implementation:

* `create` returns when the three sockets accept connections; no kernel runs before the gateway
  is introduced. If it raises, nothing of the box is left: no process, mount, cgroup or file.
* `halt` returns when every process of the box has its death sentence, frozen ones too.
  `kill` returns when no process of the box is left and its directories are gone; if it
  raises, something is left, and it can be called again. Ending a box that is gone already
  is not an error.
* A box outlives the process that made it. `adopt` finds it again by its record.
* A limit that this runtime cannot enforce on this machine makes `create` raise
  `PolicyNotEnforceable`; it is never dropped in silence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

ENVD_SOCKET = "envd.sock"
GATEWAY_SOCKET = "gateway.sock"
PORTS_SOCKET = "ports.sock"


class RuntimeFailure(Exception):
    """A sandbox could not be made, paused or ended; the message says why and what helps."""


class PolicyNotEnforceable(RuntimeFailure):
    """A requested limit or isolation cannot be enforced on this machine."""


class TemplateMissing(RuntimeFailure):
    """The template's files are not on this machine."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may use. None: not limited."""

    memory_bytes: int | None = None
    cpu_count: float | None = None
    pids: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A box to be made."""

    sandbox_id: str
    template: str
    """Name of a prepared template, such as ``code-interpreter-v1``."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Box:
    """A running box. All of it is stored, and is enough to adopt the box again."""

    sandbox_id: str
    runtime: str
    pid: int
    """Its init process, as the host sees it."""
    start_ticks: int
    """Field 22 of ``/proc/<pid>/stat``: with the pid it names a process for good."""
    run_directory: Path
    """Holds the sockets `ENVD_SOCKET`, `GATEWAY_SOCKET` and `PORTS_SOCKET`."""
    template: str


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a runtime gives on this machine, in plain words for users."""

    tier: str
    enforced: tuple[str, ...]
    missing: tuple[str, ...]


class SandboxRuntime(ABC):
    """Makes, watches and ends boxes. One instance a host."""

    name: str
    cuts_internet = True
    """Whether sandboxes are kept off the internet: their network is their own loopback."""

    shares_memory = False
    """Whether boxes share what they have not written to, so that those in which nothing has run
    yet take little."""

    def directory_name(self, sandbox_id: str) -> str:
        """What a box is called in the data directory."""
        return sandbox_id

    def enforceable(self, limits: Limits) -> Limits:
        """``limits`` without those that this machine cannot enforce. `create` refuses the rest."""
        return limits

    def memory_room(self) -> int | None:
        """Bytes that boxes may still take together; None: nothing limits them but the machine."""
        return None

    def memory_bytes(self, box: Box) -> int | None:
        """What the box uses now; None where nobody counts."""
        return None

    @abstractmethod
    async def start(self) -> None:
        """Get ready to adopt boxes, and to end them. Raises `RuntimeFailure`."""

    async def warm_up(self) -> None:  # noqa: B027
        """Get ready to make boxes (fork server), as `create` does at need.

        May take seconds. Raises `RuntimeFailure`.
        """

    def stop_making(self) -> None:  # noqa: B027
        """What would have to wait for `warm_up` is not made any more: `RuntimeFailure`, at once."""

    @abstractmethod
    async def stop(self) -> None:
        """Let go of what `start` and `warm_up` made. Live boxes are not touched."""

    @abstractmethod
    async def create(self, spec: SandboxSpec) -> Box:
        """Make a box. Raises `RuntimeFailure`."""

    def hasten(self) -> None:  # noqa: B027
        """Every box is about to end: see to it that they get processor time for that."""

    async def halt(self, box: Box) -> None:
        """Have the box's processes end; nothing else is waited for. Raises `RuntimeFailure`."""
        await self.kill(box)

    @abstractmethod
    async def kill(self, box: Box) -> None:
        """End a box and remove everything of it. Raises `RuntimeFailure`."""

    @abstractmethod
    async def adopt(self, box: Box) -> bool:
        """Whether the box of this record is alive; if not, `kill` removes what is left of it."""

    @abstractmethod
    async def wait(self, box: Box) -> None:
        """Return when the box's init process is gone. May be cancelled."""

    @abstractmethod
    async def pause(self, box: Box) -> None:
        """Stop all its processes in memory, and begin to give back what they do not need.

        Returns when the last one stands still. Raises `RuntimeFailure`; then all go on.
        """

    @abstractmethod
    async def resume(self, box: Box) -> None:
        """Let the processes of a paused box go on. Raises `RuntimeFailure`."""

    @abstractmethod
    def isolation(self) -> Isolation:
        """What this runtime enforces on this machine."""
