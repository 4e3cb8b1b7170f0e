"""Which user and group ids this host may give to sandboxes."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from code_interpreter.protocol.boxes import FULL_RANGE


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
    if os.getuid() == 0:
        return IdGrant(IdKind.ALL)
    if shutil.which("newuidmap") and shutil.which("newgidmap"):
        uids, gids = _subordinate("/etc/subuid"), _subordinate("/etc/subgid")
        if uids and gids:
            return IdGrant(IdKind.RANGE, uids, gids)
    return IdGrant(IdKind.SINGLE)


def _subordinate(path: str) -> tuple[int, int] | None:
    """This user's range of at least a whole box, from subuid(5)."""
    names = {getpass.getuser(), str(os.getuid())}
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            name, _, span = line.partition(":")
            first, _, count = span.partition(":")
            if name in names and int(count) >= FULL_RANGE - 1:
                return int(first), int(count)
    return None
