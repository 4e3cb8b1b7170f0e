"""PID 1 of a box: reaps, keeps envd and the gateway running, forks warm kernels.

It is single-threaded and holds the template's imports in memory, shared with the fork
server it came from, so a kernel is one fork away.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

from code_interpreter.guest import box, introduction, rights, syscalls
from code_interpreter.guest.config import GuestConfig
from code_interpreter.guest.relief import Relief
from code_interpreter.guest.rlimits import limit_open_files, limit_process_memory
from code_interpreter.guest.supervisor import Supervisor
from code_interpreter.guest.warm_kernels import WarmKernels
from code_interpreter.protocol.boxes import SUPERVISOR_ID, BoxRequest, ViewConfig

SETUP_DEADLINE = 20.0
"""Seconds that the fork server has for the box's mounts, and the host for its first word."""
IDLE_SECONDS = 10.0
"""After which envd, if nobody needs it, ends until somebody does."""
RESTART_PAUSE = 0.2
"""Seconds between the death of a supervisor and its next start, if it had worked."""
LONGEST_RESTART_PAUSE = 10.0
"""One that dies as soon as it starts waits twice as long each time, up to this."""
WORKED_SECONDS = 5.0
_MESSAGE = 1 << 20


@dataclass(frozen=True, slots=True)
class BoxSockets:
    """Listening sockets that were made outside the box, and the line to the fork server."""

    envd: socket.socket
    gateway: socket.socket
    ports: socket.socket
    control: socket.socket
    setup: socket.socket


class Init:
    """One object, for the life of the box."""

    def __init__(self, config: ViewConfig, request: BoxRequest, sockets: BoxSockets) -> None:
        self._config = config
        self._request = request
        self._sockets = sockets
        self._failure: str | None = None
        self._supervisors: dict[int, Supervisor] = {}
        self._resting: set[Supervisor] = set()
        self._restarts: list[tuple[float, Supervisor]] = []
        self._started: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._kernels: dict[int, str] = {}
        self._warm_kernels: WarmKernels | None = None
        self._prepares_kernel = False
        self._relief = Relief(request.processes)
        self._user_namespace: int | None = None
        self._selector = selectors.DefaultSelector()

    def run(self) -> NoReturn:
        try:
            self._set_up()
        except Exception:
            self._failure = traceback.format_exc(limit=-3)
        self._prepare_loop()
        while True:
            self._turn()

    # --- set-up -------------------------------------------------------------------------

    def _set_up(self) -> None:
        setup = self._sockets.setup
        setup.settimeout(SETUP_DEADLINE * self._config.slowness)
        message, mounts, _, _ = socket.recv_fds(setup, 16, 16)
        setup.close()
        if message != b"go":  # the fork server has died, or will end this box: nobody else can
            os._exit(1)
        if not self._config.single_id:
            os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        box.enter_root(self._config, list(mounts), self._request)
        if not self._config.single_id:
            os.chown(box.STATE_DIRECTORY, SUPERVISOR_ID, SUPERVISOR_ID)
            syscalls.keep_capabilities_as(SUPERVISOR_ID, SUPERVISOR_ID)
            syscalls.set_filesystem_ids(0, 0)
        # Its owner is the uid that makes it: by this the supervisors hold their rights over it.
        limit_open_files()
        limit_process_memory(self._request.process_memory_bytes)
        self._user_namespace = box.make_user_namespace(
            single_id=self._config.single_id, processes=self._request.processes
        )
        syscalls.set_dumpable(False)

    def _prepare_loop(self) -> None:
        self._kernel_side, self._gateway_side = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        wake_read, wake_write = socket.socketpair()
        for end in (wake_read, wake_write, self._kernel_side, self._sockets.control):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        self._wake = (wake_read, wake_write)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        register = self._selector.register
        register(wake_read, selectors.EVENT_READ, self._woken)
        register(self._sockets.control, selectors.EVENT_READ, self._accept_host)
        register(self._kernel_side, selectors.EVENT_READ, self._kernel_request)

    def _turn(self) -> None:
        due = [moment for moment, _ in self._restarts[:1]]
        if self._relief.due is not None:
            due.append(self._relief.due)
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self._selector.select(timeout):
            key.data(key.fileobj)
        self._reap()
        self._prepare_kernel()
        now = time.monotonic()
        while self._restarts and self._restarts[0][0] <= now:
            self._start(self._restarts.pop(0)[1])
        if self._relief.due is not None and self._relief.due <= now:
            self._note_relief(self._relief.look(self._spared()))

    def _woken(self, end: socket.socket) -> None:
        end.recv(4096)

    # --- the host -----------------------------------------------------------------------

    def _accept_host(self, listener: socket.socket) -> None:
        peer, _ = listener.accept()
        peer.settimeout(SETUP_DEADLINE * self._config.slowness)
        with peer:
            try:
                request = json.loads(peer.recv(_MESSAGE) or b"{}")
                peer.send(json.dumps(self._obey(request)).encode())
            except (OSError, ValueError) as error:
                print(f"init: {error}", file=sys.stderr, flush=True)

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._failure is not None:
            return {"error": self._failure}
        if request.get("op") == "introduce":
            return {"kept": self._keep(request["envd"])}
        if request.get("op") == "start" and not self._supervisors:
            rights.lock_up_init()  # now that the host has put it into its control groups
            for supervisor in self._make_supervisors():
                if supervisor.config.idle_seconds is None:
                    self._start(supervisor)
                else:
                    self._rest(supervisor)
            if self._config.kernel_directory is not None:
                self._warm_kernels = WarmKernels(self._user_namespace)
                self._prepares_kernel = True
        return {"supervisors": {value.name: pid for pid, value in self._supervisors.items()}}

    def _keep(self, body: dict[str, Any]) -> bool:
        """Whether no envd runs, and the next one will know what the host tells it."""
        try:
            introduction.leave_marks(body["sandboxId"], body["templateId"])
            if "envd" not in {supervisor.name for supervisor in self._resting}:
                return False
            introduction.keep(body, box.STATE_DIRECTORY)
        except (OSError, ValueError) as error:  # envd itself is going to say it
            print(f"init: {error}", file=sys.stderr, flush=True)
            return False
        return True

    def _make_supervisors(self) -> list[Supervisor]:
        shared = GuestConfig(
            isolated=True,
            home="/home/user",
            state_directory=box.STATE_DIRECTORY,
            python=self._config.python,
            jupyter_path="/opt/code-interpreter",
            user_namespace_fd=self._user_namespace,
        )
        idle_seconds = IDLE_SECONDS if self._config.modules else None  # a cold start is long
        lasting = replace(shared, idle_seconds=idle_seconds)
        with_kernels = self._config.kernel_directory is not None
        gateway_fd = self._gateway_side.fileno() if with_kernels else None
        return [
            Supervisor("gateway", _with(shared, self._sockets.gateway, kernel=gateway_fd)),
            Supervisor("envd", _with(lasting, self._sockets.envd, ports=self._sockets.ports)),
        ]

    def _start(self, supervisor: Supervisor) -> None:
        self._started[supervisor.name] = time.monotonic()
        try:
            pid = supervisor.fork(2, warm=bool(self._config.modules))
        except OSError as error:  # no memory or no process left: that may pass
            print(f"init: {supervisor.name}: {error}", file=sys.stderr, flush=True)
            self._start_later(supervisor)
            return
        self._supervisors[pid] = supervisor

    def _start_later(self, supervisor: Supervisor) -> None:
        now, name = time.monotonic(), supervisor.name
        worked = now - self._started[name] > WORKED_SECONDS
        last = 0.0 if worked else self._pauses.get(name, 0.0)
        pause = min(max(RESTART_PAUSE, last * 2), LONGEST_RESTART_PAUSE)
        self._pauses[name] = pause
        self._restarts.append((now + pause, supervisor))
        self._restarts.sort(key=lambda restart: restart[0])

    # --- children -----------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, status, usage)

    def _ended(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        supervisor = self._supervisors.pop(pid, None)
        if supervisor is not None and status == 0:
            self._rest(supervisor)
        elif supervisor is not None:
            print(f"init: {supervisor.name} ended, status {status}", file=sys.stderr, flush=True)
            self._start_later(supervisor)
        elif self._warm_kernels is not None and self._warm_kernels.drop(pid):
            pass
        elif self._kernels.pop(pid, None) is not None:
            code = os.waitstatus_to_exitcode(status)
            self._tell_gateway(
                {
                    "exited": pid,
                    "exit_code": code if code >= 0 else None,
                    "signal": -code if code < 0 else None,
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "peak_memory_bytes": usage.ru_maxrss * 1024,
                }
            )
            self._note_relief(self._relief.kernel_ended(pid, self._spared()))

    def _spared(self) -> set[int]:
        waiting = set() if self._warm_kernels is None else self._warm_kernels.waiting
        return {*self._supervisors, *self._kernels, *waiting}

    def _note_relief(self, ended: int) -> None:
        if ended:
            print(f"init: ended {ended} processes left behind", file=sys.stderr, flush=True)

    def _rest(self, supervisor: Supervisor) -> None:
        """Nobody needs it, now or yet; the next connection starts it."""
        self._resting.add(supervisor)
        for listener in supervisor.listeners():
            self._selector.register(
                listener, selectors.EVENT_READ, partial(self._wake_up, supervisor)
            )

    def _wake_up(self, supervisor: Supervisor, _: object) -> None:
        if supervisor not in self._resting:  # both its sockets had a visitor
            return
        self._resting.remove(supervisor)
        for listener in supervisor.listeners():
            self._selector.unregister(listener)
        self._start(supervisor)

    def _tell_gateway(self, message: dict[str, Any]) -> None:
        try:
            self._kernel_side.send(json.dumps(message).encode())
        except OSError as error:
            print(f"init: gateway is not listening: {error}", file=sys.stderr, flush=True)

    # --- kernels ------------------------------------------------------------------------

    def _kernel_request(self, end: socket.socket) -> None:
        try:
            request = json.loads(end.recv(_MESSAGE))
        except (BlockingIOError, ValueError):
            return
        try:
            assert self._warm_kernels is not None  # or the gateway would have no line to here
            pid = self._warm_kernels.start(request)
        except OSError as error:
            self._tell_gateway(
                {"request": request["request"], "error": str(error), "errno": error.errno}
            )
            return
        self._kernels[pid] = request["request"]
        self._tell_gateway({"request": request["request"], "pid": pid})

    def _prepare_kernel(self) -> None:
        """Once the host has its answer: the first kernel is there before anybody asks for it."""
        if self._warm_kernels is None or not self._prepares_kernel:
            return
        self._prepares_kernel = False
        try:
            self._warm_kernels.prepare()
        except OSError as error:
            print(f"init: no kernel is made ahead: {error}", file=sys.stderr, flush=True)


def _with(
    config: GuestConfig,
    listener: socket.socket,
    *,
    ports: socket.socket | None = None,
    kernel: int | None = None,
) -> GuestConfig:
    return replace(
        config,
        listen_fd=listener.fileno(),
        ports_fd=None if ports is None else ports.fileno(),
        kernel_starter_fd=kernel,
    )
