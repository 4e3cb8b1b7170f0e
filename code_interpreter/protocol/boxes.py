"""What the host and a template's fork server say to each other.

JSON objects over a SOCK_SEQPACKET socket; `guest/forkserver.py` lists them. The set-up of
the fork server itself is a `ViewConfig` on its command line.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

DATA = "/run/host/data"
"""Where the view shows the host's data directory."""
PID_FILE = "init.pid"
"""In a box's run directory: pid of its init as the host sees it, and its start ticks."""
PACKAGE = "/opt/code-interpreter"
"""Where the view and every box show this package."""
SUPERVISOR_ID = 65536
"""The supervisors' uid and gid: one past every id that user code has, so that not even its
root, which shares all its ids with nobody here, may signal them."""
OPEN_FILES = 65536
"""What each process of a box may have open (RLIMIT_NOFILE)."""
USER_ID = 1000
"""uid and gid of the account ``user``."""
TEAM_ID = "00000000-0000-4000-8000-000000000001"
"""Of all sandboxes of a host: there is one team, whoever has the key."""
FULL_RANGE = SUPERVISOR_ID + 1


@dataclass(frozen=True, slots=True)
class Layer:
    """One writable overlay of a box: read-only directories below, highest first."""

    at: str
    lower: tuple[str, ...]
    name: str
    """Names its upper directory among the box's files."""
    mapped: bool = True
    """Whether what is below can be shown with the box's own ids as owners, where ids are mapped;
    else it belongs to nobody there."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A directory of the host that boxes see, read-only."""

    at: str
    source: str
    hidden: tuple[str, ...] = ()
    """What is left out, relative to it."""


@dataclass(frozen=True, slots=True)
class ViewConfig:
    layers: tuple[Layer, ...]
    """In mount order: ``/`` first."""
    shown: tuple[Shown, ...]
    data_directory: str
    socket_fd: int
    """The fork server's connection to the host."""
    python: str
    modules: tuple[str, ...] = ()
    """What the fork server imports before it forks; their ``warm_up``, if any, is called."""
    kernel_directory: str | None = None
    """Holds the module ``kernel_start`` for warm kernels; None starts kernels cold."""
    newuidmap: tuple[int, int] | None = None
    """First id and number of ids of this user's range in /etc/subuid, if it can be used."""
    newgidmap: tuple[int, int] | None = None
    single_id: bool = False
    """There is one uid only, in the view as in the boxes."""
    id_mapped: bool = False
    """Each box has an id range of its own; needs root on the host."""
    slowness: float = 1.0
    """How many times as long as elsewhere boxes may take to start and to end."""

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> ViewConfig:
        fields = json.loads(text)
        fields["layers"] = tuple(
            Layer(layer["at"], tuple(layer["lower"]), layer["name"], layer["mapped"])
            for layer in fields["layers"]
        )
        fields["shown"] = tuple(
            Shown(each["at"], each["source"], tuple(each["hidden"])) for each in fields["shown"]
        )
        fields["modules"] = tuple(fields["modules"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class BoxRequest:
    """What the fork server is asked to make."""

    name: str
    """Of its directories; says nothing of the sandbox's id."""
    first_id: int
    """First host id of the box's own range; ignored where ids are not mapped."""
    disk_image: str | None = None
    """An empty ext4 image in the view; the box gets a copy of it as its disk."""
    control_groups: dict[str, str] = field(default_factory=dict)
    """Controller → its directory under /sys/fs/cgroup; supervisors may read it in the box."""
    memory_bytes: int | None = None
    """What the control group gives it; shared memory and the like get a part of that."""
    process_memory_bytes: int | None = None
    """What one process may have, where no control group limits the box."""
    processes: int | None = None
    """Processes and threads of user code."""
    hostname: str = "sandbox"
