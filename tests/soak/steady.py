"""A sandbox with something of everything in it, to be found as it was after each blow."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from e2b import NotFoundException, SandboxException

from code_interpreter import ExecutionHandle, Sandbox
from code_interpreter.protocol.executions import ExecutionStatus, KernelState
from tests.soak.world import World, until

CELL_SECONDS = 0.5
ANSWER_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Promise:
    """A cell that runs, and what it has to print at its end."""

    execution_id: str
    text: str


class Steady:
    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number
        self.sandbox: Sandbox = Sandbox.create(**world.options)
        self.id = self.sandbox.sandbox_id
        self.sandbox.run_code(f"kept = {number}")
        self._context = self.sandbox.create_code_context()
        self.sandbox.run_code(f"other = {number} * 2", context=self._context)
        self.sandbox.files.write("kept.txt", str(number))
        self._sleeper = self.sandbox.commands.run("sleep 100000", background=True, timeout=0).pid

    def begin_cell(self) -> Promise:
        code = f"import time; time.sleep({CELL_SECONDS}); kept + 1"
        handle: ExecutionHandle = self.sandbox.run_code(code, background=True)
        return Promise(handle.id, str(self._number + 1))

    # --- afterwards -----------------------------------------------------------------------

    def check_promise(self, promise: Promise) -> None:
        """The cell ended as if nothing had happened."""
        events = self._reached().attach_execution(promise.execution_id)
        execution = events.wait(ANSWER_SECONDS)
        assert (execution.status, execution.text) == (ExecutionStatus.OK, promise.text), execution

    def check_state(self) -> None:
        """Variables of both contexts, the file and the process are there."""
        sandbox = self._reached()
        assert sandbox.run_code("kept").text == str(self._number)
        told = sandbox.run_code("other", context=self._context.id)
        assert told.text == str(self._number * 2), told
        self.check_machine()

    def check_machine(self) -> None:
        """All of it that is not in a kernel."""
        sandbox = self._reached()
        assert sandbox.files.read("kept.txt") == str(self._number)
        assert sandbox.commands.run(f"kill -0 {self._sleeper} && echo there").stdout == "there\n"

    def check_fresh_kernels(self) -> None:
        """Every kernel died: they come back empty, and it is said so."""
        sandbox = self._reached()
        for context in (None, self._context.id):
            told = sandbox.run_code("1 + 1", context=context)
            if told.kernel_state is KernelState.LOST:  # it came before the news of the death
                told = sandbox.run_code("1 + 1", context=context)
            assert told.text == "2", told
        gone = sandbox.run_code("kept")
        assert gone.error is not None
        assert gone.error.name == "NameError"
        sandbox.run_code(f"kept = {self._number}")
        sandbox.run_code(f"other = {self._number} * 2", context=self._context.id)
        self.check_machine()

    def check_gone(self) -> None:
        until(self._is_gone, ANSWER_SECONDS)

    def check_ended(self, promise: Promise) -> None:
        """The cell cannot have ended well; the truth is told, and soon."""
        with contextlib.suppress(SandboxException):
            execution = self._reached().attach_execution(promise.execution_id).wait(ANSWER_SECONDS)
            assert execution.status is not None

    def _is_gone(self) -> bool:
        try:
            Sandbox.get_info(self.id, **self._options)
        except NotFoundException:
            return True
        return False

    def _reached(self) -> Sandbox:
        """Connected anew: whoever comes from another program has no more than the id."""
        return Sandbox.connect(self.id, timeout=600, **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        return dict(self._world.host.options)
