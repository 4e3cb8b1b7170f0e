"""What a supervisor process (envd, gateway) is told about the box that it runs in."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """Frozen at start. What changes with a sandbox's life comes over ``POST /init``."""

    isolated: bool
    """False in the ``process`` runtime: no users to switch to, no root of its own."""
    home: str
    """Home directory of ``default_user``; relative paths of clients start here."""
    default_user: str = "user"
    state_directory: str = "/run/code-interpreter"
    """Private to the supervisors, with room for sockets and journals."""
    python: str = "/usr/local/bin/python3"
    """The Python that runs kernels."""
    jupyter_path: str = "/usr/local/share/jupyter"
    """Holds ``kernels/<name>/kernel.json``."""
    user_namespace_fd: int | None = None
    """The user namespace for user code; None where there is only one."""
    listen_fd: int | None = None
    """A listening unix socket that was opened before the process was shut in."""
    listen_path: str | None = None
    """Where to listen if ``listen_fd`` is not given."""
    ports_fd: int | None = None
    """envd only: the listening socket of the port opener, `guest/ports.py`."""
    ports_path: str | None = None
    max_contexts: int = 100
    """gateway only."""
    max_queued: int = 1000
    """gateway only: cells that may wait in one context."""
    idle_seconds: float | None = None
    """envd only: without a request for so long it ends, with status 0; None: never."""
    remembered_seconds: float = 30.0
    """envd only: how long a finished process can still be connected to."""
    kernel_starter_fd: int | None = None
    """gateway only: a connection to the init that forks warm kernels; None starts them cold."""

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> GuestConfig:
        return cls(**json.loads(text))


def listening_socket(descriptor: int | None, path: str | None) -> socket.socket:
    """The unix socket to serve on: inherited, or made at ``path`` (mode 0600)."""
    if descriptor is not None:
        return socket.socket(fileno=descriptor)
    if path is None:
        raise ValueError("neither a descriptor nor a path to listen on was given")
    Path(path).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    Path(path).chmod(0o600)
    server.listen(256)
    return server
