"""Prepared templates of earlier versions, which would stay for ever."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from code_interpreter.host.removal import remove_tree

UNUSED_SECONDS = 7 * 24 * 3600.0
"""After which a template that no host has used since goes."""
_PREPARED = re.compile(r"[0-9a-f]{16}|root-[0-9a-f]{8}")
_UNFINISHED = ".unfinished"
_log = logging.getLogger(__name__)


def note_use(template: Path) -> None:
    """By a host that runs."""
    with contextlib.suppress(OSError):
        os.utime(template)


async def remove_unused(directory: Path, present_root: Path) -> None:
    """Remove what nobody has used for `UNUSED_SECONDS`, and what was never finished.

    ``present_root`` is that of this host's template, which is in ``directory``. Does nothing
    while one is being prepared there. Raises `RuntimeFailure`.
    """
    present = present_root.parent
    with _lock(directory / "lock") as free:
        if not free:
            return
        for place in [*_old(directory, present), *_old(present, present_root)]:
            gone = place.with_suffix(_UNFINISHED)  # from now on nobody takes it for whole
            with contextlib.suppress(OSError):
                place.rename(gone)
                await remove_tree(gone)
                _log.info("removed the template %s, which nobody has used any more", place)


def _old(directory: Path, present: Path) -> Iterator[Path]:
    latest = time.time() - UNUSED_SECONDS
    for place in sorted(directory.iterdir()):
        name = place.name.removesuffix(_UNFINISHED)
        if place == present or place.is_symlink() or not _PREPARED.fullmatch(name):
            continue
        if place.suffix == _UNFINISHED or place.stat().st_mtime < latest:
            yield place


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether nobody else has it."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
