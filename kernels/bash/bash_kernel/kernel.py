"""`BashKernel`: cells of bash, on ipykernel's base class."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox_kernel.child import ChildKernel

from bash_kernel.shell import INTERRUPTED, Bash

_TICKS = os.sysconf("SC_CLK_TCK")
_AFTER_INTERRUPT = 0.1
"""Seconds that bash has to tell a status by itself after an interrupt."""


class BashKernel(ChildKernel):
    implementation = "sandbox-bash"
    implementation_version = "1"
    banner = "bash"
    language_info = {  # noqa: RUF012 - a trait of the base class
        "name": "bash",
        "version": "",
        "mimetype": "text/x-sh",
        "codemirror_mode": "shell",
        "file_extension": ".sh",
    }

    def start(self) -> None:
        self._bash = Bash()
        self._ended: asyncio.Future[int] | None = None
        loop = asyncio.get_running_loop()
        loop.add_reader(self._bash.status, self._status_came)
        self._process = os.pidfd_open(self._bash.process.pid)
        loop.add_reader(self._process, self._bash_is_gone)  # programs may keep ``status`` open
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        super().start()

    async def run_cell(
        self, code: str, variables: dict[str, str], *, silent: bool
    ) -> dict[str, Any]:
        self._cpu = self._cpu_seconds()
        self._ended = asyncio.get_running_loop().create_future()
        self._bash.run(code, variables)
        status = await self._ended
        self._ended = None
        self.output.drain()
        return self._reply(status, silent=silent)

    async def set_variables(self, variables: Mapping[str, str | None]) -> None:
        kept = {name: value for name, value in variables.items() if value is not None}
        self._bash.set_variables(kept, [name for name in variables if name not in kept])

    def _reply(self, status: int, *, silent: bool) -> dict[str, Any]:
        reply: dict[str, Any] = {"status": "ok", "execution_count": self.execution_count}
        if status == 0:
            return reply | {"payload": [], "user_expressions": {}}
        name = "KeyboardInterrupt" if status == INTERRUPTED else "ExitStatus"
        text = f"The last command ended with exit status {status}"
        error = {"ename": name, "evalue": str(status), "traceback": [text]}
        if not silent:
            self.send_response(self.iopub_socket, "error", error)
        return reply | {"status": "error"} | error

    # --- bash -----------------------------------------------------------------------------

    def _status_came(self) -> None:
        status = self._bash.read_status()
        if status is None:
            self._bash_is_gone()
        elif self._ended is not None and not self._ended.done():
            self._ended.set_result(status)

    def _bash_is_gone(self) -> None:
        """``exit`` in a cell: the kernel goes with its bash, so that nobody is misled."""
        if self._bash.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._bash.process.wait(1)
        self.output.drain()
        self._bash.close()
        code = self._bash.process.returncode
        if code is not None and code < 0:
            _end_by(-code)
        os._exit(1 if code is None else code)

    def _interrupt(self) -> None:
        """bash got the signal too, and drops the whole line, the report of the status included."""
        if self._ended is not None:
            asyncio.get_running_loop().call_later(_AFTER_INTERRUPT, self._ask_status, self._ended)

    def _ask_status(self, ended: asyncio.Future[int]) -> None:
        if not ended.done():
            self._bash.report()

    # --- cost -----------------------------------------------------------------------------

    def cost(self) -> dict[str, Any]:
        return {"cpu_seconds": max(0.0, self._cpu_seconds() - self._cpu)}

    def _cpu_seconds(self) -> float:
        """Of bash and all that it has waited for."""
        stat = Path(f"/proc/{self._bash.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS


def _end_by(number: int) -> None:
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
