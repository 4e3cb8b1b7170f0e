"""The accounts of a sandbox, read from its own ``/etc/passwd`` and ``/etc/group``."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path


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


def find_user(name: str) -> User:
    """The account called ``name``. Raises `UnknownUser`."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError) as error:
        raise UnknownUser(name) from error
    groups = {group.gr_gid for group in grp.getgrall() if name in group.gr_mem}
    groups.add(entry.pw_gid)
    return User(
        name, entry.pw_uid, entry.pw_gid, tuple(sorted(groups)), Path(entry.pw_dir), entry.pw_shell
    )


def current_user(home: Path) -> User:
    """The account this process runs as, with ``home`` as its home; there is no other."""
    uid, gid = os.getuid(), os.getgid()
    try:
        entry = pwd.getpwuid(uid)
        name, shell = entry.pw_name, entry.pw_shell
    except KeyError:
        name, shell = str(uid), "/bin/sh"
    return User(name, uid, gid, tuple(os.getgroups()), home, shell)
