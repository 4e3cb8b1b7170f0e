"""Which user and group ids this host may give to sandboxes."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from code_interpreter.protocol.boxes import FULL_RANGE

SYS_ADMIN = 21
"""The number of CAP_SYS_ADMIN (capabilities(7))."""
_ALL_IDS = 0xFFFF_FFFF
"""How many uids the first user namespace has (user_namespaces(7))."""


class IdKind(StrEnum):
    ALL = "all"
    """The host is root: each sandbox gets a range of its own."""
    RANGE = "range"
    """One range, from /etc/subuid and /etc/subgid, for all sandboxes."""
    SINGLE = "single"
    """The host's own uid and no other."""


@dataclass(frozen=True, slots=True)
class IdGrant:
    """``uids`` and ``gids``: first id and number of ids, with `IdKind.RANGE`."""

    kind: IdKind
    uids: tuple[int, int] | None = None
    gids: tuple[int, int] | None = None


@functools.cache
def id_grant() -> IdGrant:
    """Looked up once: templates and sandboxes must agree on it."""
    if is_machine_root():
        return IdGrant(IdKind.ALL)
    if shutil.which("newuidmap") and shutil.which("newgidmap"):
        uids, gids = _subordinate("/etc/subuid"), _subordinate("/etc/subgid")
        if uids and gids:
            return IdGrant(IdKind.RANGE, uids, gids)
    return IdGrant(IdKind.SINGLE)


def is_machine_root() -> bool:
    """Root of the whole machine, who may mount: neither that of a user namespace, such as a
    rootless container, nor one that was left without CAP_SYS_ADMIN."""
    if os.getuid() != 0 or not has_capability(SYS_ADMIN):
        return False
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    return any(int(line.split()[2]) == _ALL_IDS for line in lines)


def has_capability(number: int) -> bool:
    """Whether this process holds it now, over its own user namespace (capabilities(7))."""
    with contextlib.suppress(OSError, IndexError):
        held = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
        return bool(int(held, 16) >> number & 1)
    return False


@functools.cache
def sandboxes_own_usr() -> bool:
    """Whether this machine's programs are those of root in sandboxes, which can then change
    them, and become root by the set-user-id bit of one.

    Overlayfs, which /usr is on in most containers, cannot be shown with other owners.
    """
    return id_grant().kind is IdKind.ALL and _file_system("/usr") != "overlay"


def _file_system(directory: str) -> str:
    """The type of the file system that a directory is on (proc(5), mountinfo); "" unknown."""
    device = Path(directory).stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == number:
            return kind.split()[0]
    return ""


def user_name() -> str:
    """This user's name; the number of one that has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _subordinate(path: str) -> tuple[int, int] | None:
    """This user's range of at least a whole box, from subuid(5)."""
    names = {user_name(), str(os.getuid())}
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            name, _, span = line.partition(":")
            first, _, count = span.partition(":")
            if name in names and int(count) >= FULL_RANGE - 1:
                return int(first), int(count)
    return None
