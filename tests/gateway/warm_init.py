"""Stands where a box's init stands: warms up once, forks a kernel for each request.

``python warm_init.py FD KERNEL_DIRECTORY``; FD is a SOCK_SEQPACKET socket to the gateway.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    line = socket.socket(fileno=int(sys.argv[1]))
    sys.path.append(sys.argv[2])
    import kernel_start  # type: ignore[import-not-found]

    kernel_start.warm_up()
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads after warm-up"
    gc.collect()
    gc.freeze()
    read, write = socket.socketpair()
    write.setblocking(False)
    signal.set_wakeup_fd(write.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(line, selectors.EVENT_READ)
    selector.register(read, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is read:
                read.recv(4096)
                reap(line)
            elif not (data := line.recv(1 << 20)):
                return
            else:
                line.send(json.dumps(fork(json.loads(data), kernel_start)).encode())


def fork(request: dict[str, Any], kernel_start: Any) -> dict[str, Any]:
    pid = os.fork()
    if pid:
        return {"request": request["request"], "pid": pid}
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        kernel_start.kernel_main(request["connection"], request["cwd"], request["env"])
    finally:
        os._exit(1)


def reap(line: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        told = {"exit_code": code} if code >= 0 else {"signal": -code}
        line.send(json.dumps({"exited": pid, "exit_code": None, "signal": None} | told).encode())


if __name__ == "__main__":
    main()
