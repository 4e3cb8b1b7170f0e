"""Connecting to unix sockets whose paths may be longer than the 108 bytes of unix(7)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 100


async def connect(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A connected non-blocking socket that the caller owns. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, kind)
    try:
        connection.setblocking(False)
        with short_path(path) as name:
            await asyncio.get_running_loop().sock_connect(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name of the same socket that fits, valid within the ``with``."""
    if len(os.fsencode(path)) <= _LONGEST or not sys.platform.startswith("linux"):
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
