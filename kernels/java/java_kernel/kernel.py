"""`JavaKernel`: cells of Java, on ipykernel's base class."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox_kernel.child import ChildKernel

from java_kernel.jvm import Jvm, Told

_EXCHANGE_PROPERTIES = r"""
{
    var file = java.nio.file.Path.of("FILE");
    var words = java.nio.file.Files.readString(file).split("\0", -1);
    var before = new java.lang.StringBuilder();
    for (int n = 0; n + 1 < words.length; n += 2) {
        var value = java.lang.System.getProperty(words[n]);
        before.append(words[n]).append('\0').append(value == null ? "" : "=" + value).append('\0');
        if (words[n + 1].isEmpty()) java.lang.System.clearProperty(words[n]);
        else java.lang.System.setProperty(words[n], words[n + 1].substring(1));
    }
    java.nio.file.Files.writeString(file, before);
}
"""
"""The file: name, NUL, ``=`` and value (or nothing: the property goes), NUL, and so on."""
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
        before = await self._exchange(variables)
        told = await self._evaluate(code)
        await self._exchange(before)
        self.output.drain()
        return self._reply(told, silent=silent)

    async def set_variables(self, variables: Mapping[str, str | None]) -> None:
        await self._exchange(variables)

    async def _exchange(self, variables: Mapping[str, str | None]) -> dict[str, str | None]:
        """Set variables; what they were before.

        A JVM cannot change its environment: they are system properties. The JVM that runs cells
        reads them from a file, and puts there what they were: nothing of them is ever a source.
        """
        if not variables:
            return {}
        pairs = (
            f"{name}\0{'' if value is None else f'={value}'}\0" for name, value in variables.items()
        )
        with tempfile.NamedTemporaryFile(prefix="java-kernel-") as file:
            file.write("".join(pairs).encode())
            file.flush()
            await self._evaluate(_EXCHANGE_PROPERTIES.replace("FILE", file.name), hidden=True)
            file.seek(0)
            words = file.read().decode().split("\0")
        return {
            name: value[1:] if value else None
            for name, value in zip(words[::2], words[1::2], strict=False)
        }

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
