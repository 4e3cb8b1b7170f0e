"""Cells that the gateway runs for itself, around those of clients.

Kernels that cannot take environment variables as data get them this way (`preludes`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from code_interpreter.gateway import preludes
from code_interpreter.gateway.environment import SandboxEnvironment
from code_interpreter.gateway.kernel import Kernel
from code_interpreter.gateway.languages import KernelSpec
from code_interpreter.gateway.message import KernelMessage

DEADLINE = 10.0
"""Seconds that one may take."""


class HiddenCells:
    """Those of one context; one at a time."""

    def __init__(self, spec: KernelSpec, environment: SandboxEnvironment) -> None:
        self._spec = spec
        self._environment = environment
        self._message_id = ""
        self._done: asyncio.Future[None] | None = None

    @property
    def set_variables(self) -> bool:
        """Variables reach this kernel by hidden cells only."""
        return self._spec.environment != "metadata"

    async def run(self, kernel: Kernel, code: str) -> None:
        """A kernel that does not even do this is no good: it is ended."""
        self._done = asyncio.get_running_loop().create_future()
        self._message_id = kernel.execute(code, silent=True)
        try:
            async with asyncio.timeout(DEADLINE):
                await self._done
        except TimeoutError:
            kernel.kill()
        finally:
            self._done = None

    async def before(self, kernel: Kernel, own: Mapping[str, str]) -> None:
        """Set what has changed in the sandbox's variables, and those of the cell to come."""
        environment = self._environment
        variables: dict[str, str | None] = {}
        if kernel.environment_version != environment.version:
            variables |= environment.changes_since(kernel.environment_version)
            kernel.environment_version = environment.version
        variables |= own
        if variables:
            await self.run(kernel, self._setting(variables))

    async def after(self, kernel: Kernel, own: Mapping[str, str]) -> None:
        """Take back the variables of the cell that has ended."""
        sandbox = self._environment.variables
        await self.run(kernel, self._setting({name: sandbox.get(name) for name in own}))

    def _setting(self, variables: Mapping[str, str | None]) -> str:
        return preludes.set_variables(self._spec.environment, variables)

    def hear(self, message: KernelMessage) -> bool:
        """True if the message belongs to the hidden cell that runs."""
        if self._done is None or message.parent_id != self._message_id:
            return False
        if message.type == "execute_reply":
            self._end()
        return True

    def kernel_ended(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
