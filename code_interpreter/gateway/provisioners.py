"""Two ways to start a kernel's process, as jupyter_client's KernelProvisioners.

`ColdProvisioner` executes the kernelspec's command. `WarmProvisioner` asks the box's init
for a fork of its warm process. Both keep the connection's content (with its key) where only
the kernel and the gateway can read it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from code_interpreter.gateway.kernel_end import KernelEnd, Usage
from code_interpreter.gateway.process_usage import process_usage
from code_interpreter.gateway.starter import KernelStarter
from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.users import User

_PARENT_TELLS = 0.2
LOOK_SECONDS = 1.0
"""How often it is looked at what an adopted kernel uses."""

Ended = Callable[[KernelEnd], None]


class Provisioner(KernelProvisionerBase):
    """What both have in common: a pid, its end, and signals to its process group."""

    pid: int | None = None
    end: KernelEnd | None = None

    def watch(self, ended: Ended) -> None:
        """Have ``ended`` called once, when the process is gone."""
        self._ended = asyncio.get_running_loop().create_future()
        self._ended.add_done_callback(lambda future: ended(future.result()))

    def _has_ended(self, end: KernelEnd) -> None:
        if not self._ended.done():
            # What it started in its group ends with it, as with a terminal: a bomb would go on.
            self.signal(signal.SIGKILL)
            self.end = end
            self._ended.set_result(end)

    @property
    def has_process(self) -> bool:
        return self.pid is not None and self.end is None

    async def poll(self) -> int | None:
        if self.has_process:
            return None
        return _code(self.end)

    async def wait(self) -> int | None:
        if self.pid is not None:
            await asyncio.shield(self._ended)
        return _code(self.end)

    async def send_signal(self, signum: int) -> None:
        self.signal(signum)

    def signal(self, number: int) -> None:
        """To the kernel and what it started, as Ctrl-C in a terminal."""
        if not self.has_process or self.pid is None:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # gone, or another account's alone
            return

    async def kill(self, restart: bool = False) -> None:
        self.signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        self.signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        """Nothing: `Kernel` removes the directory it made."""


class ColdProvisioner(Provisioner):
    """``launch_kernel`` needs ``cwd``, ``env``, ``user``, ``launcher``, ``log`` (a descriptor)."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        launcher: Launcher = kwargs["launcher"]
        user: User = kwargs["user"]
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.pid = launcher.start(
                cmd,
                user=user,
                env=kwargs["env"],
                cwd=kwargs["cwd"],
                stdin=null,
                stdout=kwargs["stdout"],
                stderr=kwargs["stderr"],
            )
        finally:
            os.close(null)
        self._descriptor = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)
        return self.connection_info

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        assert self.pid is not None
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            self._has_ended(KernelEnd())
            return
        self._has_ended(KernelEnd.of_status(status, usage))


class WarmProvisioner(Provisioner):
    """``launch_kernel`` takes ``cwd``, ``env``, ``starter`` and ``connection``."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        starter: KernelStarter = kwargs["starter"]
        self.pid = await starter.start(
            kwargs["connection"], kwargs["cwd"], kwargs["env"], self._has_ended
        )
        return self.connection_info


class AdoptedProvisioner(Provisioner):
    """For what an earlier gateway started; ``launch_kernel`` takes ``pid`` and ``starter``.

    If nobody tells what it had used when it ended, that is what was seen a moment before.
    """

    _seen: Usage | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        self.pid = kwargs["pid"]
        starter: KernelStarter | None = kwargs["starter"]
        if starter is not None:
            starter.watch(kwargs["pid"], self._has_ended)
        self._descriptor = os.pidfd_open(kwargs["pid"])
        asyncio.get_running_loop().add_reader(self._descriptor, self._gone)
        self._look()
        return self.connection_info

    def _look(self) -> None:
        assert self.pid is not None
        now = process_usage(self.pid)
        if now is not None:
            if now.peak_memory_bytes is None and self._seen is not None:
                now = replace(now, peak_memory_bytes=self._seen.peak_memory_bytes)
            self._seen = now
        self._next_look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _gone(self) -> None:
        """Only its parent learns how it ended; init, if that is one, tells a moment later."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._look()  # until its parent has heard of its end, something is there
        self._next_look.cancel()
        loop.call_later(_PARENT_TELLS, self._has_ended, KernelEnd(usage=self._seen))


def _code(end: KernelEnd | None) -> int | None:
    if end is None:
        return None
    return -end.signal if end.signal is not None else end.exit_code


def write_connection_file(path: Path, connection: dict[str, Any], owner: User | None) -> None:
    """Mode 0600 from its first moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if owner is not None and os.fstat(descriptor).st_uid != owner.uid:
            os.fchown(descriptor, owner.uid, owner.gid)
        json.dump(connection, file)
