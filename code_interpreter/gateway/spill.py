"""All of a stream in a file of the sandbox, for when only a part of it is sent."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MEMORY_BYTES = 256 << 10
"""Shorter outputs never reach the disk."""
FILE_BYTES = 4 << 30


class Spill:
    """One stream of one execution."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = bytearray()
        self.written = 0
        """Bytes in the file."""
        self._file: int | None = None
        self.failed = False
        """True: the file does not hold all of it (full disk, or too long)."""

    def write(self, text: str) -> None:
        if self.failed:
            return
        self._pending += text.encode("utf-8", "replace")
        if len(self._pending) >= MEMORY_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory; sets `failed` if that cannot be done."""
        if self.failed:
            return
        try:
            if self._file is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.open(self.path, flags, 0o644)
            while self._pending:
                written = os.write(self._file, self._pending)
                del self._pending[:written]
                self.written += written
        except OSError:
            self._give_up()
            return
        if self.written > FILE_BYTES:
            self._give_up()

    def _give_up(self) -> None:
        self.failed = True
        self._pending.clear()
        self.remove()

    def keep(self) -> None:
        """Write what is left and close the file; it stays."""
        self.flush()
        self._close()

    def remove(self) -> None:
        existed = self._file is not None
        self._close()
        self.written = 0
        if existed:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
