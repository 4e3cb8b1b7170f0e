"""What a kernel's process writes to its own descriptors 1 and 2, for kernels that do not
look after these themselves: programs that a cell starts write there."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Callable

_READ = 1 << 16
_LAST_WORDS = 2000
_NAMES = ("stdout", "stderr")

Say = Callable[[str, str], None]
"""Called with the stream's name and text."""


class ProcessOutput:
    """Two pipes. Until `open_to` is called what comes is kept as `last_words` only."""

    def __init__(self) -> None:
        self.last_words = ""
        self._say: Say | None = None
        self._loop = asyncio.get_running_loop()
        self._decoders: dict[int, tuple[str, codecs.IncrementalDecoder]] = {}
        self._write_ends: list[int] = []
        for name in _NAMES:
            read, write = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(read, False)
            self._decoders[read] = (name, codecs.getincrementaldecoder("utf-8")("replace"))
            self._write_ends.append(write)
            self._loop.add_reader(read, self._read, read)

    def ends_for_child(self) -> tuple[int, int]:
        """Descriptors for its stdout and stderr; call `started` when it has them."""
        return self._write_ends[0], self._write_ends[1]

    def started(self) -> None:
        for descriptor in self._write_ends:
            os.close(descriptor)
        self._write_ends = []

    def open_to(self, say: Say) -> None:
        """Have everything that comes from now on said."""
        self.drain()
        self._say = say

    def drain(self) -> None:
        """Take in what has been written."""
        for descriptor in list(self._decoders):
            while self._read(descriptor):
                pass

    def _read(self, descriptor: int) -> bool:
        name, decoder = self._decoders[descriptor]
        try:
            data = os.read(descriptor, _READ)
        except BlockingIOError:
            return False
        if not data:
            self._forget(descriptor)
            return False
        text = decoder.decode(data)
        if self._say is None:
            self.last_words = (self.last_words + text)[-_LAST_WORDS:]
        elif text:
            self._say(name, text)
        return True

    def _forget(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        del self._decoders[descriptor]

    def close(self) -> None:
        self.started()
        for descriptor in list(self._decoders):
            self._forget(descriptor)
