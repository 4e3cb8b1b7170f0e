"""The first process of a box without isolation: starts envd and the gateway, again and again.

``python -m code_interpreter.host.runtimes.process_init '<JSON of a ProcessBox>'``. Whatever
is started below it stays below it (it is a subreaper), so that the whole box can be found
from its pid and ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

RESTART_PAUSE = 0.2
"""Seconds between the death of a supervisor and its next start."""
HOPELESS = 2.0
"""A supervisor that lives shorter than this, seconds, ..."""
TRIES = 3
"""... so often in a row will not come up at all."""
_PR_SET_CHILD_SUBREAPER = 36
_SUPERVISOR = "code_interpreter.guest.supervisor"


@dataclass(frozen=True, slots=True)
class ProcessBox:
    """What the runtime tells the box's first process."""

    home: str
    state_directory: str
    envd_socket: str
    gateway_socket: str
    ports_socket: str
    jupyter_path: str

    def dump(self) -> str:
        return json.dumps(asdict(self))


class Init:
    def __init__(self, box: ProcessBox) -> None:
        shared = {
            "isolated": False,
            "home": box.home,
            "state_directory": box.state_directory,
            "python": sys.executable,
            "jupyter_path": box.jupyter_path,
        }
        envd = {**shared, "listen_fd": _listen(box.envd_socket)}
        envd["ports_fd"] = _listen(box.ports_socket)
        gateway = {**shared, "listen_fd": _listen(box.gateway_socket)}
        self._configs: dict[str, dict[str, object]] = {"envd": envd, "gateway": gateway}
        self._running: dict[int, tuple[str, float]] = {}
        self._quick_deaths = dict.fromkeys(self._configs, 0)

    def run(self) -> NoReturn:
        for name in self._configs:
            self._start(name)
        while True:
            pid, status = os.wait()
            if pid in self._running:
                self._restart(*self._running.pop(pid), status)

    def _start(self, name: str) -> None:
        config = self._configs[name]
        for key in ("listen_fd", "ports_fd"):
            descriptor = config.get(key)
            if isinstance(descriptor, int):
                os.set_inheritable(descriptor, True)
        command = [sys.executable, "-P", "-m", _SUPERVISOR, name, json.dumps(config)]
        pid = os.posix_spawn(sys.executable, command, os.environ, setsid=True)
        self._running[pid] = (name, time.monotonic())

    def _restart(self, name: str, started: float, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        print(f"init: {name} ended with {code}", file=sys.stderr, flush=True)
        quick = time.monotonic() - started < HOPELESS
        self._quick_deaths[name] = self._quick_deaths[name] + 1 if quick else 0
        if self._quick_deaths[name] >= TRIES:
            sys.exit(f"init: {name} does not come up")
        time.sleep(RESTART_PAUSE)
        self._start(name)


def _listen(path: str) -> int:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    Path(path).chmod(0o600)
    listener.listen(256)
    return listener.detach()


def main() -> None:
    box = ProcessBox(**json.loads(sys.argv[1]))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir(box.home)
    Init(box).run()


if __name__ == "__main__":
    main()
