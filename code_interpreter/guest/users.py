"""The accounts of a sandbox, read from its own ``/etc/passwd`` and ``/etc/group``."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LARGEST = 1 << 20


class UnknownUser(LookupError):
    """No account of this name in the sandbox."""

    def __init__(self, name: str) -> None:
        super().__init__(f"invalid username: '{name}'")
        self.name = name


@dataclass(frozen=True, slots=True)
class User:
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: Path
    shell: str


ROOT = User("root", 0, 0, (0,), Path("/root"), "/bin/bash")
"""Whatever ``/etc/passwd`` says."""


def find_user(name: str) -> User:
    """The account called ``name``. Raises `UnknownUser`.

    The files are read here and not by the C library: that would load what the sandbox's
    ``/etc/nsswitch.conf`` names into a supervisor.
    """
    for line in _lines("/etc/passwd"):
        fields = line.split(":")
        if len(fields) == 7 and fields[0] == name:
            try:
                uid, gid = int(fields[2]), int(fields[3])
            except ValueError:
                break
            groups = {*_groups_of(name), gid}
            return User(name, uid, gid, tuple(sorted(groups)), Path(fields[5]), fields[6])
    raise UnknownUser(name)


def _groups_of(name: str) -> Iterator[int]:
    for line in _lines("/etc/group"):
        fields = line.split(":")
        if len(fields) == 4 and name in fields[3].split(",") and fields[2].isdigit():
            yield int(fields[2])


def _lines(path: str) -> list[str]:
    """Of a file that user code may have replaced by anything; empty if it is not a small file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(descriptor, errors="replace") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return []
        return file.read(_LARGEST).splitlines()


def current_user(home: Path) -> User:
    """The account this process runs as, with ``home`` as its home; there is no other."""
    uid, gid = os.getuid(), os.getgid()
    try:
        entry = pwd.getpwuid(uid)
        name, shell = entry.pw_name, entry.pw_shell
    except KeyError:
        name, shell = str(uid), "/bin/sh"
    return User(name, uid, gid, tuple(os.getgroups()), home, shell)
