"""Where the gateway keeps what, and as whom kernels run in this box."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from code_interpreter.guest.config import GuestConfig
from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.users import User, current_user, find_user

KERNELS = Path("/run/code-interpreter-kernels")
"""In a box: sockets of kernels. Beside the supervisors' own directory, which user code
may not enter, and open to root only."""
SPOOL = Path("/var/lib/code-interpreter")
"""In a box: long outputs, and events that do not fit in memory."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Place:
    config: GuestConfig
    user: User
    launcher: Launcher
    kernels: Path
    spool: Path

    @classmethod
    def of(cls, config: GuestConfig) -> Place:
        """Makes the directories."""
        if config.isolated:
            user, kernels, spool = find_user("root"), KERNELS, SPOOL
        else:
            state = Path(config.state_directory)
            user = current_user(Path(config.home))
            kernels, spool = state / "kernels", state / "spool"
        with contextlib.suppress(FileExistsError):
            kernels.mkdir(mode=0o700, parents=True)
        for directory in (spool, spool / "outputs", spool / "events"):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(parents=True)
        (spool / "events").chmod(0o700)
        return cls(config, user, Launcher(config.user_namespace_fd), kernels, spool)

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        """The whole environment of a new kernel; ``variables`` are the sandbox's."""
        path = _PATH if self.config.isolated else os.environ.get("PATH", _PATH)
        own = str(Path(self.config.python).parent)
        if own not in path.split(":"):
            path = f"{own}:{path}"
        return {
            "PATH": path,
            "HOME": str(self.user.home),
            "USER": self.user.name,
            "LOGNAME": self.user.name,
            "SHELL": self.user.shell,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            **variables,
        }

    def new_kernel_directory(self) -> Path:
        """A private directory with a name short enough for sockets in it."""
        directory = self.kernels / uuid.uuid4().hex[:12]
        directory.mkdir(mode=0o700)
        return directory

    def sweep(self, kept: set[str]) -> None:
        """Remove what an earlier gateway left, but for the kernel directories in ``kept``."""
        for directory in self.kernels.iterdir():
            if str(directory) not in kept:
                shutil.rmtree(directory, ignore_errors=True)
        for file in (self.spool / "events").iterdir():
            file.unlink(missing_ok=True)

    def output(self, name: str) -> Path:
        """A file for clients to read."""
        return self.spool / "outputs" / name

    def events_path(self, execution_id: str) -> Path:
        return self.spool / "events" / f"{execution_id}.ndjson"
