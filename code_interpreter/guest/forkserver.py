"""The fork server of a template: started once, warm, and forked for each box.

Runs as ``python -m code_interpreter.guest.forkserver FD`` inside the template's view; FD
holds a `ViewConfig`. It answers the host over one SOCK_SEQPACKET connection, a JSON object a
message:

=====================================================  ==================================
the host sends                                         the answer
=====================================================  ==================================
``{"op": "create", "id", "box": BoxRequest}``          ``{"id", "pid"}`` or ``{"id", "error"}``
``{"op": "remove", "id", "name"}``                     ``{"id"}`` once the files are gone
=====================================================  ==================================

First of all it says ``{"ready": true}`` or ``{"error"}``. It ends when the connection does;
boxes live on. It must stay single-threaded: what is forked has one thread only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from code_interpreter.guest import box, huge_pages, syscalls
from code_interpreter.guest.init import BoxSockets, Init
from code_interpreter.guest.launch import reset_signals
from code_interpreter.guest.rlimits import SUPERVISORS_FIRST
from code_interpreter.guest.warm_kernels import note_our_modules
from code_interpreter.protocol.boxes import DATA, FULL_RANGE, PID_FILE, BoxRequest, ViewConfig

_MESSAGE = 1 << 20
_BACKLOG = 512
SUPERVISOR_OOM_SCORE = "0"
"""No less: what root writes here is also how low every process of the box may go itself."""


class ForkServer:
    def __init__(self, config: ViewConfig) -> None:
        self._config = config
        self._host = socket.socket(fileno=config.socket_fd)

    def run(self) -> None:
        try:
            self._warm_up()
        except Exception:
            self._say({"error": traceback.format_exc(limit=-4)})
            return
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self._say({"ready": True})
        syscalls.die_with_parent()
        while message := self._host.recv(_MESSAGE):
            self._answer(json.loads(message))
            # What it began must not go on beside the next host's cleaning up. To be armed
            # again: the kernel forgets it when filesystem ids change (prctl(2)).
            syscalls.die_with_parent()

    def _warm_up(self) -> None:
        modules = [importlib.import_module(name) for name in self._config.modules]
        if self._config.kernel_directory is not None:
            sys.path.append(self._config.kernel_directory)
            importlib.import_module("kernel_start").warm_up()
        for module in modules:  # last, so that Python's caches are full of what they need
            if hasattr(module, "warm_up"):
                module.warm_up()
        if threading.active_count() > 1 or len(os.listdir("/proc/self/task")) > 1:
            names = [thread.name for thread in threading.enumerate()]
            raise RuntimeError(f"a fork server must have one thread, but there are {names}")
        note_our_modules()
        gc.collect()
        gc.freeze()
        huge_pages.collapse()
        for module in modules:
            if hasattr(module, "note_what_forks_write"):
                module.note_what_forks_write()

    def _say(self, message: dict[str, Any]) -> None:
        self._host.send(json.dumps(message).encode())

    def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            if request["op"] == "create":
                answer["pid"] = self._create(request)
            else:
                self._remove(request["name"], answer)
                return
        except Exception as error:
            traceback.print_exc()
            answer["error"] = f"{type(error).__name__}: {error}"
        self._say(answer)

    def _create(self, request: dict[str, Any]) -> int:
        box_request = BoxRequest(**request["box"])
        run_directory = f"{DATA}/run/{box_request.name}"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log = os.open(f"{run_directory}/box.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        sockets = _listen(run_directory, theirs)
        try:
            pid = syscalls.fork_into_namespaces(box.NAMESPACES)
            if pid == 0:
                self._become_init(box_request, sockets, ours, log)
            try:
                _leave_pid(pid, Path(run_directory))
                self._furnish(pid, box_request, ours)
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                raise
            return pid
        finally:
            ours.close()
            os.close(log)
            for end in (sockets.envd, sockets.gateway, sockets.ports, sockets.control, theirs):
                end.close()

    def _become_init(
        self, request: BoxRequest, sockets: BoxSockets, ours: socket.socket, log: int
    ) -> None:
        try:
            os.setsid()
            reset_signals()
            ours.close()
            self._host.close()
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            Init(self._config, request, sockets).run()
        except BaseException:  # the child must never return into the fork server
            traceback.print_exc()
        finally:
            os._exit(70)

    def _furnish(self, pid: int, request: BoxRequest, line: socket.socket) -> None:
        """Give the new process its ids and its file system."""
        config = self._config
        with contextlib.suppress(OSError):  # only root may
            Path(f"/proc/{pid}/oom_score_adj").write_text(SUPERVISOR_OOM_SCORE)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, SUPERVISORS_FIRST)
        count = 1 if config.single_id else FULL_RANGE
        box.write_id_maps(pid, request.first_id if config.id_mapped else 0, count)
        user_namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            mounts = box.make_layers(config, request, user_namespace)
        finally:
            os.close(user_namespace)
        try:
            socket.send_fds(line, [b"go"], mounts)
        finally:
            for descriptor in mounts:
                os.close(descriptor)

    def _remove(self, name: str, answer: dict[str, Any]) -> None:
        """In a child: a large box must not hold up the next one."""
        if os.fork():
            return
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            command = ["rm", "-rf", "--", f"{DATA}/sandboxes/{name}"]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                answer["error"] = ended.stderr.strip()[-400:]
            self._say(answer)
        finally:
            os._exit(0)


def _leave_pid(pid: int, run_directory: Path) -> None:
    """For a host that dies before it has noted the box: its successor finds the processes."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    (run_directory / PID_FILE).write_text(f"{pid} {ticks}")


def _listen(directory: str, setup: socket.socket) -> BoxSockets:
    before = Path.cwd()
    os.chdir(directory)  # the names in it are short, whatever the path is
    try:
        stream, packets = socket.SOCK_STREAM, socket.SOCK_SEQPACKET
        return BoxSockets(
            _bound("envd.sock", stream),
            _bound("gateway.sock", stream),
            _bound("ports.sock", stream),
            _bound("init.sock", packets),
            setup,
        )
    finally:
        os.chdir(before)


def _bound(name: str, kind: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(name)
    os.chmod(name, 0o600)
    listener.listen(_BACKLOG)
    return listener


if __name__ == "__main__":
    with open(int(sys.argv[1])) as handle:
        view_config = ViewConfig.load(handle.read())
    ForkServer(view_config).run()
