"""The sandbox's accounts, read without the C library.

The library would look up in ``/etc/nsswitch.conf`` how to find them, and load what is named
there: root among the user code could have its own code run with envd's rights.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from code_interpreter.guest.users import UnknownUser, User

ACCOUNTS = Path("/etc/passwd")
GROUPS = Path("/etc/group")
_MOST_BYTES = 4 * 1024 * 1024


def find_account(name: str) -> User:
    """Raises `UnknownUser`."""
    for fields in _lines(ACCOUNTS, 7):
        if fields[0] == name:
            uid, gid = int(fields[2]), int(fields[3])
            groups = {gid, *_groups_of(name)}
            return User(name, uid, gid, tuple(sorted(groups)), Path(fields[5]), fields[6])
    raise UnknownUser(name)


def _groups_of(name: str) -> set[int]:
    return {int(fields[2]) for fields in _lines(GROUPS, 4) if name in fields[3].split(",")}


def user_names() -> dict[int, str]:
    """By uid; of two accounts with one uid the first."""
    return {int(fields[2]): fields[0] for fields in reversed(_lines(ACCOUNTS, 7))}


def group_names() -> dict[int, str]:
    """By gid."""
    return {int(fields[2]): fields[0] for fields in reversed(_lines(GROUPS, 4))}


def _lines(path: Path, count: int) -> list[list[str]]:
    """Fields of the lines that are as passwd(5) and group(5) have them."""
    split = [line.split(":") for line in _read(path).splitlines()]
    return [
        fields
        for fields in split
        if len(fields) == count and all(number.isdecimal() for number in fields[2 : count // 2 + 1])
    ]


def _read(path: Path) -> str:
    """Empty for what is no file: nothing that stands there can make envd wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(_MOST_BYTES).decode(errors="replace")
