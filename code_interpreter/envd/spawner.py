"""The process that starts commands, for one user of the sandbox.

envd is large: a fork of it takes ten times as long as the shell that it is for. So it
forks once, into this; and this, a single thread that is the user already, starts programs
without a copy of its memory (vfork). It is told what to start over a SOCK_SEQPACKET
socket, one message a program; its answers are JSON:

==================================================  ===========================================
envd sends                                          this answers
==================================================  ===========================================
an id in digits, with four descriptors: a file      ``{"id", "pid"}``, or
with a `Wanted` as JSON; stdin; stdout; stderr      ``{"id", "errno", "file"}``;
                                                    before either ``{"taken": id}``
nothing more: it closes the socket                  nothing: it ends
==================================================  ===========================================

and ``{"ended": pid, "status": …}``, of wait(2), whenever a program ends.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from code_interpreter.guest import syscalls
from code_interpreter.guest.launch import (
    arrange_descriptors,
    be_first_to_go,
    enter_user_namespace,
    reset_signals,
)
from code_interpreter.guest.users import User

_LONGEST_ID = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """A program to be started."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str

    def to_file(self) -> int:
        """A descriptor to read it from: a message could be too short for it."""
        descriptor = os.memfd_create("command", os.MFD_CLOEXEC)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(json.dumps(asdict(self)).encode(errors="surrogateescape"))
        return descriptor

    @classmethod
    def of_file(cls, descriptor: int) -> Wanted:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with open(descriptor, "rb") as file:
            fields = json.loads(file.read())
        return cls(tuple(fields["argv"]), fields["env"], fields["cwd"])


def fork_spawner(user: User, user_namespace: int | None) -> tuple[int, socket.socket]:
    """Its pid and this side's end of its socket, which does not block."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _become(user, user_namespace, theirs)
    theirs.close()
    ours.setblocking(False)
    return pid, ours


def _become(user: User, user_namespace: int | None, line: socket.socket) -> NoReturn:
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        null = os.open(os.devnull, os.O_RDWR)
        keep = {line.fileno()} | ({user_namespace} if user_namespace is not None else set())
        arrange_descriptors((null, null, null), keep)
        reset_signals()
        be_first_to_go()
        if user_namespace is not None:
            enter_user_namespace(user_namespace, user)
            os.close(user_namespace)
            syscalls.set_dumpable(False)  # what envd knew is in its memory
        _Spawner(line).run()
    finally:  # it must never return into envd
        os._exit(1)


class _Spawner:
    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._woken, wake = socket.socketpair()
        for end in (self._woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._wake = wake

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._line, selectors.EVENT_READ, self._start_one)
        selector.register(self._woken, selectors.EVENT_READ, self._reap)
        while True:
            for key, _ in selector.select():
                key.data()

    def _say(self, **answer: Any) -> None:
        self._line.sendall(json.dumps(answer).encode())

    def _start_one(self) -> None:
        name, descriptors, _, _ = socket.recv_fds(self._line, _LONGEST_ID, 4)
        if not name:
            os._exit(0)
        wanted, streams = Wanted.of_file(descriptors[0]), descriptors[1:]
        self._say(taken=int(name))
        try:
            pid = _start(wanted, streams)
        except OSError as error:
            self._say(id=int(name), errno=error.errno, file=str(error.filename))
        else:
            self._say(id=int(name), pid=pid)
        finally:
            for stream in streams:
                os.close(stream)

    def _reap(self) -> None:
        self._woken.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._say(ended=pid, status=status)


def _start(wanted: Wanted, streams: list[int]) -> int:
    process = subprocess.Popen(
        wanted.argv,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        cwd=wanted.cwd,
        env=wanted.env,
        start_new_session=True,
    )
    process.returncode = 0  # `_reap` waits for it
    return process.pid
