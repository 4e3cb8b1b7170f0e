"""Cells that the gateway runs for itself, around those of clients.

Kernels that do not see environment variables in a request's metadata get them this way: their
kernelspec has one piece of code for it, always the same, that asks for input. The answer is
JSON: two lists of pairs, names and values, where null takes a variable away. What is in the
first list stays, what is in the second ends when the code runs again, and what was there before
comes back. So neither a name nor a value is ever part of a source, and the lines of the
client's own cell keep their numbers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

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
        self._answer = ""

    @property
    def set_variables(self) -> bool:
        """Variables reach this kernel by hidden cells only."""
        return self._spec.set_variables is not None

    async def run(self, kernel: Kernel, code: str, answer: str = "") -> None:
        """A kernel that does not even do this is no good: it is ended.

        ``answer``: what ``code`` is told when it asks for input.
        """
        self._done = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._message_id = kernel.execute(code, silent=True, allow_stdin=bool(answer))
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
        changed = kernel.environment_version != environment.version
        lasting = environment.changes_since(kernel.environment_version) if changed else {}
        kernel.environment_version = environment.version
        if changed or own:
            await self._set(kernel, lasting, own)

    async def after(self, kernel: Kernel) -> None:
        """Take back the variables of the cell that has ended."""
        await self._set(kernel, {}, {})

    async def _set(
        self, kernel: Kernel, lasting: Mapping[str, str | None], own: Mapping[str, str]
    ) -> None:
        assert self._spec.set_variables is not None
        answer = json.dumps([list(lasting.items()), list(own.items())])
        await self.run(kernel, self._spec.set_variables, answer)

    def hear(self, kernel: Kernel, message: KernelMessage) -> bool:
        """True if the message belongs to the hidden cell that runs."""
        if self._done is None or message.parent_id != self._message_id:
            return False
        if message.type == "execute_reply":
            self._end()
        elif message.type == "input_request":
            kernel.answer_input(self._answer, message)
        return True

    def kernel_ended(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
