"""`JavaKernel`: cells of Java, on ipykernel's base class."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox_kernel.child import ChildKernel

from java_kernel.jvm import Jvm, Told

_TICKS = os.sysconf("SC_CLK_TCK")


class JavaKernel(ChildKernel):
    implementation = "sandbox-java"
    implementation_version = "1"
    banner = "JShell"
    language_info = {  # noqa: RUF012 - a trait of the base class
        "name": "java",
        "version": "",
        "mimetype": "text/x-java",
        "file_extension": ".java",
    }

    def start(self) -> None:
        self._jvm = Jvm()
        self._told: list[Told] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._jvm.answers, self._hear)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        super().start()

    async def run_cell(
        self, code: str, variables: dict[str, str], *, silent: bool
    ) -> dict[str, Any]:
        self._cpu = self._cpu_seconds()
        await self.set_variables(variables)
        told = await self._evaluate(code)
        await self.set_variables({name: self.sandbox_variables.get(name) for name in variables})
        self.output.drain()
        return self._reply(told, silent=silent)

    async def set_variables(self, variables: Mapping[str, str | None]) -> None:
        """A JVM cannot change its environment: variables are system properties."""
        if not variables:
            return
        lines = [
            f"System.clearProperty({_literal(name)});"
            if value is None
            else f"System.setProperty({_literal(name)}, {_literal(value)});"
            for name, value in variables.items()
            if name
        ]
        await self._evaluate("\n".join(lines), hidden=True)

    async def _evaluate(self, code: str, *, hidden: bool = False) -> list[Told]:
        self._told = []
        self._done = asyncio.get_running_loop().create_future()
        self._jvm.run(code, hidden=hidden)
        await self._done
        return self._told

    def _reply(self, told: list[Told], *, silent: bool) -> dict[str, Any]:
        reply: dict[str, Any] = {"status": "ok", "execution_count": self.execution_count}
        for each in told:
            if each.kind == "error":
                name, value, trace = each.fields
                error = {"ename": name, "evalue": value, "traceback": trace.split("\n")}
                if not silent:
                    self.send_response(self.iopub_socket, "error", error)
                return reply | {"status": "error"} | error
            if each.kind == "value" and not silent:
                self._show(each.fields[0])
        return reply | {"payload": [], "user_expressions": {}}

    def _show(self, value: str) -> None:
        content = {
            "data": {"text/plain": value},
            "metadata": {},
            "execution_count": self.execution_count,
        }
        self.send_response(self.iopub_socket, "execute_result", content)

    # --- the JVM --------------------------------------------------------------------------

    def _hear(self) -> None:
        told = self._jvm.read()
        if told is None:
            self._jvm_is_gone()
            return
        for each in told:
            if each.kind == "done":
                if not self._done.done():
                    self._done.set_result(None)
            elif each.kind != "ready":
                self._told.append(each)

    def _jvm_is_gone(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._jvm.process.wait(1)
        self.output.drain()
        os._exit(abs(self._jvm.process.returncode or 1))

    def _interrupt(self) -> None:
        if not self._done.done():
            self._jvm.stop()

    # --- cost -----------------------------------------------------------------------------

    def cost(self) -> dict[str, Any]:
        return {"cpu_seconds": max(0.0, self._cpu_seconds() - self._cpu)}

    def _cpu_seconds(self) -> float:
        """Of the JVM that compiles and the one that runs, its child."""
        total = 0.0
        for pid in (self._jvm.process.pid, *self._children()):
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text()
                total += sum(map(int, stat.rpartition(")")[2].split()[11:13])) / _TICKS
        return total

    def _children(self) -> list[int]:
        tasks = Path(f"/proc/{self._jvm.process.pid}/task")
        found: list[int] = []
        for task in tasks.iterdir() if tasks.exists() else ():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
        return found


def _literal(text: str) -> str:
    r"""A Java string literal; JSON's escapes are Java's too, but ``\/`` is never written."""
    return json.dumps(text)
