"""Python kernels as forks of init, which has all that they need in memory already.

A fork sheds first what user code must not have, and then waits to be told which kernel it is
to be. So one can be made before anybody has asked for it.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

from code_interpreter.guest import copying_ahead
from code_interpreter.guest.launch import (
    arrange_descriptors,
    be_first_to_go,
    enter_user_namespace,
    reset_signals,
)
from code_interpreter.guest.users import ROOT

_MESSAGE = 1 << 20
_OURS = ("code_interpreter", "e2b", "connectrpc", "starlette", "uvicorn", "uvloop", "httptools")


@dataclass(frozen=True, slots=True)
class Blank:
    """A fork that waits; its end of the line takes one request."""

    pid: int
    line: socket.socket


class WarmKernels:
    """For a process with one thread, after the fork server's warm-up."""

    def __init__(self, user_namespace: int | None) -> None:
        """``user_namespace``: a descriptor of the one for user code, if it has one."""
        self._user_namespace = user_namespace
        self._blank: Blank | None = None

    def start(self, request: dict[str, Any]) -> int:
        """The pid of a kernel with the ``cwd``, ``env`` and ``connection``. Raises OSError."""
        while True:
            blank = self._blank or self._fork()
            self._blank = None
            with blank.line:
                try:
                    blank.line.send(json.dumps(request).encode())
                except (BrokenPipeError, ConnectionResetError):
                    continue  # user code has ended it
            return blank.pid

    def prepare(self) -> None:
        """Have the next one wait. Raises OSError."""
        if self._blank is None:
            self._blank = self._fork()

    @property
    def waiting(self) -> set[int]:
        """The pid of the one that waits."""
        return set() if self._blank is None else {self._blank.pid}

    def drop(self, pid: int) -> bool:
        """A process has ended; whether it was the one that waited."""
        if self._blank is None or self._blank.pid != pid:
            return False
        self._blank.line.close()
        self._blank = None
        return True

    def _fork(self) -> Blank:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
            if pid == 0:
                self._serve(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Blank(pid, ours)

    def _serve(self, line: socket.socket) -> NoReturn:
        try:
            self._shed(line)
            # Not of this package: it belongs to the kernelspec, and the fork server loaded it.
            kernels = importlib.import_module("kernel_start")
            kernels.prepare()
            if not select.select([line], [], [], 0)[0]:  # nobody waits for it yet
                kernels.rehearse()
                copying_ahead.copy("kernel")
            request = _wait(line)
            if request is not None:
                kernels.kernel_main(request["connection"], request["cwd"], request["env"])
        except BaseException:  # the child must never return into init
            traceback.print_exc()
        finally:
            os._exit(1)

    def _shed(self, line: socket.socket) -> None:
        os.setsid()
        be_first_to_go()
        null = os.open(os.devnull, os.O_RDWR)
        signal.set_wakeup_fd(-1)
        namespace = self._user_namespace
        kept = set() if namespace is None else {namespace}
        arrange_descriptors((null, null, null), {line.fileno(), *kept})
        reset_signals()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if namespace is not None:
            enter_user_namespace(namespace, ROOT)
            os.close(namespace)
        forget_our_modules()


def _wait(line: socket.socket) -> dict[str, Any] | None:
    """None when init is gone."""
    with line:
        message = line.recv(_MESSAGE)
    if not message:
        return None
    request: dict[str, Any] = json.loads(message)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    return request


_kept: list[ModuleType] = []
_our_modules: list[str] = []


def note_our_modules() -> None:
    """Once everything is imported: keep what kernels are going to forget.

    Freeing it in each kernel would write to most of its pages, which are shared till then.
    What comes along with e2b's messages, its whole client, no supervisor asks for again: it
    is forgotten here, once for all.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] in _OURS:
            _kept.append(sys.modules[name])
            if name.startswith("e2b.") and not name.startswith("e2b.envd"):
                del sys.modules[name]
            else:
                _our_modules.append(name)


def forget_our_modules() -> None:
    """User code meets the packages that are installed, not those that happen to be loaded."""
    sys.path[:] = [entry for entry in sys.path if entry != "/opt/code-interpreter"]
    for name in _our_modules:
        sys.modules.pop(name, None)
