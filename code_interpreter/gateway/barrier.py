"""For kernels whose output may come after the end of its cell: the end waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from code_interpreter.gateway.kernel import Kernel
from code_interpreter.gateway.message import KernelMessage

DEADLINE = 15.0
"""Seconds that a kernel has to pass on what its cell has printed."""


class Barrier:
    """Has the kernel send a message of type `BARRIER` after all its output so far."""

    def __init__(self, code: str | None, receive: Callable[[KernelMessage], None]) -> None:
        """``code`` does that; None if the kernel needs none of this."""
        self._code = code
        self._receive = receive
        self._held: list[KernelMessage] | None = None

    @property
    def up(self) -> bool:
        """The end of a cell is being held back."""
        return self._held is not None

    def hold(self, kernel: Kernel, message: KernelMessage, explanation: str) -> bool:
        """False if the message is not to be held back.

        ``explanation`` is code for the kernel to run before it sends its `BARRIER`.
        """
        ends = message.type == "execute_reply" or message.content.get("execution_state") == "idle"
        if self._code is None or not ends:
            return False
        if self._held is None:
            self._held = []
            asyncio.get_running_loop().call_later(DEADLINE, self._late, self._held)
        self._held.append(message)
        if message.type == "execute_reply":
            kernel.execute(explanation + self._code, silent=True)
        return True

    def _late(self, held: list[KernelMessage]) -> None:
        if held is self._held:
            self.release()

    def release(self) -> None:
        """Let go of what was held back."""
        held, self._held = self._held or [], None
        for message in held:
            self._receive(message)

    def kernel_ended(self) -> None:
        self._held = None
