"""The JVM that evaluates cells; `JShellServer.java` says how one talks to it."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = Path(__file__).with_name("JShellServer.java")
_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


@dataclass(frozen=True, slots=True)
class Told:
    """One line from the JVM: ``ready``, ``value``, ``error`` or ``done``, and its fields."""

    kind: str
    fields: tuple[str, ...]


class Jvm:
    """``answers`` is a descriptor that becomes readable when it has told something."""

    def __init__(self) -> None:
        self.answers, answers_write = os.pipe2(os.O_CLOEXEC)
        self.process = subprocess.Popen(
            ["java", *_OPTIONS, str(_PROGRAM), str(answers_write)],
            stdin=subprocess.PIPE,
            pass_fds=[answers_write],
            process_group=0,  # an interrupt is not for the JVM, which would end
            bufsize=0,
        )
        os.close(answers_write)
        os.set_blocking(self.answers, False)
        self._rest = b""

    def run(self, code: str, *, hidden: bool = False) -> None:
        self._send(b"h" if hidden else b"r", code.encode("utf-8", "replace"))

    def stop(self) -> None:
        """Interrupt the cell."""
        self._send(b"s", b"")

    def _send(self, command: bytes, data: bytes) -> None:
        assert self.process.stdin is not None
        message = memoryview(command + struct.pack(">i", len(data)) + data)
        while message:
            message = message[self.process.stdin.write(message) :]

    def read(self) -> Iterator[Told] | None:
        """What it has told since; None when it is gone."""
        try:
            data = os.read(self.answers, 1 << 20)
        except BlockingIOError:
            return iter(())
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return (_told(line) for line in lines)


def _told(line: bytes) -> Told:
    kind, *fields = line.decode("ascii").split(" ")
    return Told(kind, tuple(base64.b64decode(field).decode() for field in fields))
