"""Names of the sandbox's accounts, read without the C library, as `guest.users` reads them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

ACCOUNTS = Path("/etc/passwd")
GROUPS = Path("/etc/group")
_MOST_BYTES = 1024 * 1024


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
