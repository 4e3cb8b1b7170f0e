"""The data directory: what is in it, and that one host at a time uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from code_interpreter.protocol.control import HostFile

LONGEST_SOCKET_PATH = 107
"""Bytes; of unix(7)."""
_LONGEST_SOCKET = "run/i" + 20 * "x" + "/gateway.sock"


class DataDirectoryUnusable(Exception):
    """The message names the directory and the remedy."""


class InUse(DataDirectoryUnusable):
    """Another host runs on this data directory."""


class DataDirectory:
    """Paths below one directory. Nothing is made before `prepare`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host_file = root / "host.json"
        self.lock = root / "host.lock"
        self.key_file = root / "api-key"
        self.log = root / "host.log"
        self.progress = root / "host-progress"
        self.store = root / "store.sqlite"
        self.run = root / "run"
        self.api_socket = root / "run" / "api.sock"

    def prepare(self) -> None:
        """Make the directories. Raises `DataDirectoryUnusable`."""
        path = self.root / _LONGEST_SOCKET
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise DataDirectoryUnusable(
                f"the data directory's path is too long for unix sockets ({self.root}): choose a "
                f"path of at most {LONGEST_SOCKET_PATH - len(_LONGEST_SOCKET) - 1} bytes with "
                "--data-dir"
            )
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("run", "sandboxes"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise DataDirectoryUnusable(
                f"the data directory {self.root} cannot be written ({error.strerror}): choose "
                "another one with --data-dir or CODE_INTERPRETER_DATA_DIR"
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The only host on this directory, for the length of the block. Raises `InUse`."""
        with self.lock.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUse(self._who_has_it()) from None
            yield

    def is_locked(self) -> bool:
        """True while a host runs on this directory."""
        try:
            with self.lock.open() as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def _who_has_it(self) -> str:
        host = self.read_host_file()
        who = f" (process {host.pid}, {host.url})" if host else ""
        return (
            f"a host runs already on the data directory {self.root}{who}: use it, end it with "
            "`code-interpreter stop`, or choose another directory with --data-dir"
        )

    def api_key(self) -> str:
        """The key of this directory, made on first use, in the form that E2B's clients check."""
        with contextlib.suppress(FileNotFoundError):
            key = self.key_file.read_text().strip()
            if key:
                return key
        key = f"e2b_{secrets.token_hex(20)}"
        write_atomically(self.key_file, key + "\n")
        return key

    def read_host_file(self) -> HostFile | None:
        try:
            return HostFile.model_validate_json(self.host_file.read_bytes())
        except (OSError, ValueError):
            return None

    def write_host_file(self, host: HostFile) -> None:
        write_atomically(self.host_file, host.model_dump_json())

    def say_progress(self, line: str) -> None:
        """For the client that waits until the host is ready."""
        write_atomically(self.progress, line.replace("\n", " ") + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old file or the new one, and only this user may (mode 0600)."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
