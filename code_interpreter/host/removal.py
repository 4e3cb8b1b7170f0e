"""Removing what a sandbox has written."""

from __future__ import annotations

import asyncio
from pathlib import Path

from code_interpreter.host.runtimes.base import RuntimeFailure

REMOVAL_DEADLINE = 300.0
"""Seconds for one tree; a sandbox may have millions of files."""


async def remove_tree(directory: Path) -> None:
    """Remove a directory and everything below it; one that is not there is no error.

    By rm(1), which takes trees of any depth, follows no link and can be stopped. Raises
    `RuntimeFailure`.
    """
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
