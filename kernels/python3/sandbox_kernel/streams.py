"""stdout and stderr of the kernel: what Python writes, and what reaches descriptors 1 and 2.

Text is held back for `DELAY` seconds at most, so that one ``print`` is one message and a
loop of prints is a few. Both streams share one buffer, which keeps their order. Output
belongs to the cell that runs when it is sent, whichever thread wrote it.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import select
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

DELAY = 0.001
"""Seconds between a write and its message, unless the cell ends before."""
FULL = 1 << 16
"""Characters after which the writer itself sends."""
_LONGEST = 1 << 17
"""Characters of one message: what waits in sockets is counted in messages."""
_PIPE_SIZE = 1 << 20
_READ = 1 << 16
_LOOK_AGAIN = 0.0003
"""Seconds after which a writer looks again for what programs have written meanwhile."""
_NAMES = ("stdout", "stderr")

Send = Callable[[str, str], None]
"""Called with the stream's name and text, in order."""


class Output:
    """Collects the text of both streams and of descriptors 1 and 2, and sends it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._chunks: deque[tuple[str, str]] = deque()
        self._size = 0
        self._woken = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._pipes: dict[int, tuple[str, Any]] = {}
        self._write_ends: list[int] = []
        self._in_child = False
        self._looked = 0.0
        os.register_at_fork(after_in_child=self._forked)

    def capture_descriptors(self) -> None:
        """Put pipes on descriptors 1 and 2 and start the thread that reads them.

        What was descriptor 2 stays as `log`.
        """
        log = os.dup(2)
        self.log = os.fdopen(log, "w", buffering=1, errors="replace")
        for target, name in enumerate(_NAMES, start=1):
            read, write = os.pipe2(os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # a user may have so much in pipes, see pipe(7)
                fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            os.dup2(write, target, inheritable=True)
            self._write_ends.append(write)  # open for good: the pipe never reports its end
            self._pipes[read] = (name, codecs.getincrementaldecoder("utf-8")("replace"))
        threading.Thread(target=self._serve, name="Output", daemon=True).start()

    def keep_descriptors(self) -> None:
        """A cell that closed descriptor 1 or 2 must not take it from the next one."""
        for target, end in enumerate(self._write_ends, start=1):
            try:
                os.fstat(target)
            except OSError:
                with contextlib.suppress(OSError):
                    os.dup2(end, target, inheritable=True)

    def write(self, name: str, text: str) -> None:
        if self._in_child:
            os.write(_NAMES.index(name) + 1, text.encode("utf-8", "replace"))
            return
        if time.monotonic() - self._looked > _LOOK_AGAIN:
            with self._lock:
                self._take_in()  # what programs have written before comes first
        self._chunks.append((name, text))  # a deque needs no lock for this
        self._size += len(text)
        if self._size >= FULL:
            self.flush()
        elif not self._woken:
            self._woken = True
            os.write(self._wake_write, b"x")

    def flush(self) -> None:
        """Send what was written."""
        if self._in_child:
            return
        with self._lock:
            self._size = 0
            chunks = [self._chunks.popleft() for _ in range(len(self._chunks))]
            sent = 0
            try:
                for name, text, end in _merged(chunks):
                    sent = end
                    for start in range(0, len(text), _LONGEST):
                        self._send(name, text[start : start + _LONGEST])
            except BaseException:  # an interrupt: what was not sent yet stays
                self._chunks.extendleft(reversed(chunks[sent:]))
                raise

    def drain(self) -> None:
        """Also take in what has reached the descriptors, then send: at the end of a cell."""
        if self._in_child:
            return
        with self._lock:
            self._take_in()
        if self._chunks:
            self.flush()

    def _take_in(self) -> None:
        """Read the pipes until they are empty."""
        self._looked = time.monotonic()
        for descriptor in self._pipes:
            while _readable_bytes(descriptor):
                self._read(descriptor)

    def _serve(self) -> None:
        poll = select.poll()
        for descriptor in (self._wake_read, *self._pipes):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            for descriptor in ready:
                if descriptor == self._wake_read:
                    os.read(descriptor, _READ)
                else:
                    self._read(descriptor)
            time.sleep(DELAY)
            self._woken = False
            self.flush()

    def _read(self, descriptor: int) -> None:
        name, decoder = self._pipes[descriptor]
        with self._lock:
            if available := _readable_bytes(descriptor):
                text = decoder.decode(os.read(descriptor, min(available, _READ)))
                if text:
                    self._chunks.append((name, text))
                    self._size += len(text)

    def _forked(self) -> None:
        self._in_child = True


def _readable_bytes(descriptor: int) -> int:
    answer: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]
    return answer


def _merged(chunks: list[tuple[str, str]]) -> Iterable[tuple[str, str, int]]:
    """Neighbours of one stream as one text, with the index after the last of them."""
    position = 0
    while position < len(chunks):
        name = chunks[position][0]
        end = position
        while end < len(chunks) and chunks[end][0] == name:
            end += 1
        yield name, "".join(text for _, text in chunks[position:end]), end
        position = end


class Stream(io.TextIOBase):
    """What ``sys.stdout`` and ``sys.stderr`` are."""

    def __init__(self, output: Output, name: str) -> None:
        self._output = output
        self._name = name
        self._buffer = _Binary(self)

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    @property
    def mode(self) -> str:
        return "w"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"

    @property
    def buffer(self) -> io.BufferedIOBase:
        return self._buffer

    @property
    def line_buffering(self) -> bool:
        return True

    def reconfigure(self, **_: Any) -> None:
        """Accepted for programs that set an encoding; text goes out as text."""

    def fileno(self) -> int:
        return _NAMES.index(self._name) + 1

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            if not text.isascii():
                text = text.encode("utf-8", "replace").decode("utf-8")
            self._output.write(self._name, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        self.write("".join(lines))

    def flush(self) -> None:
        self._output.flush()

    def close(self) -> None:
        """A cell that closes ``sys.stdout`` must not take it from the next one."""


class _Binary(io.BufferedIOBase):
    """``sys.stdout.buffer``."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._stream.write(self._decoder.decode(bytes(view)))
        return view.nbytes

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """As for the text stream."""
