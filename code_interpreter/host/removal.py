"""Removing what a sandbox has written."""

from __future__ import annotations

import asyncio
import os
from itertools import islice
from pathlib import Path

from code_interpreter.host.runtimes.base import RuntimeFailure

REMOVAL_DEADLINE = 300.0
"""Seconds for one tree; a sandbox may have millions of files."""
_FEW = 16
"""Entries of a directory that are removed here: a process for them costs more."""


async def remove_tree(directory: Path) -> None:
    """Remove a directory and everything below it; one that is not there is no error.

    What is more than a handful of files goes by rm(1), which takes trees of any depth,
    follows no link and can be stopped. Raises `RuntimeFailure`.
    """
    try:
        await asyncio.to_thread(_remove_few, directory)
    except OSError:
        await _remove_many(directory)


def _remove_few(directory: Path) -> None:
    """A directory of files and empty directories. Raises OSError when it is more than that."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        with os.scandir(handle) as listing:
            entries = list(islice(listing, _FEW))
        for entry in entries:
            remove = os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink
            remove(entry.name, dir_fd=handle)
    finally:
        os.close(handle)
    directory.rmdir()


async def _remove_many(directory: Path) -> None:
    removal = await asyncio.create_subprocess_exec(
        *("rm", "-rf", "--one-file-system", "--", str(directory)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(REMOVAL_DEADLINE):
            _, words = await removal.communicate()
    except TimeoutError:
        raise RuntimeFailure(f"{directory} could not be removed in time") from None
    finally:
        if removal.returncode is None:
            removal.kill()
            await removal.wait()
    if removal.returncode:
        raise RuntimeFailure(f"{directory} could not be removed: {words.decode().strip()[-400:]}")
