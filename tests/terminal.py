"""A terminal's screen, drawn by a terminal emulator from what a program writes."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pyte

READ_SECONDS = 15.0
T = TypeVar("T")


class _Emulator(pyte.Screen):
    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        """What vim asks of newer terminals has the same letter, and is no colour."""
        if not private:
            super().select_graphic_rendition(*attributes)


class Screen:
    """What a person would see; fed from one thread, looked at from another."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self._screen = _Emulator(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.output = b""
        """All that was written, as it came."""

    def feed(self, data: bytes) -> None:
        with self._lock:
            self.output += data
            self._stream.feed(data)

    def resize(self, rows: int, columns: int) -> None:
        with self._lock:
            self._screen.resize(rows, columns)

    @property
    def lines(self) -> list[str]:
        """From the top, without the blanks at their ends."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def until(self, pattern: str, seconds: float = READ_SECONDS) -> re.Match[str]:
        """Wait until the screen shows it."""
        return self._wait(lambda: re.search(pattern, self.text, re.MULTILINE), pattern, seconds)

    def until_gone(self, pattern: str, seconds: float = READ_SECONDS) -> None:
        """Wait until the screen no longer shows it."""
        self._wait(
            lambda: re.search(pattern, self.text, re.MULTILINE) is None or None, pattern, seconds
        )

    def _wait(self, look: Callable[[], T | None], pattern: str, seconds: float) -> T:
        deadline = time.monotonic() + seconds
        while (found := look()) is None:
            assert time.monotonic() < deadline, f"waited for {pattern!r} on:\n{self.text}"
            time.sleep(0.02)
        return found
