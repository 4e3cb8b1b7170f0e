"""`SandboxKernel`: ipykernel's IPython kernel with our outputs, environment and interrupts."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from ipykernel.ipkernel import IPythonKernel

from sandbox_kernel import tables, variables
from sandbox_kernel.base import LeanKernel, Usage
from sandbox_kernel.bounds import shortened
from sandbox_kernel.publisher import Publisher
from sandbox_kernel.shell import SandboxCompiler, SandboxShell


class SandboxKernel(LeanKernel, IPythonKernel):
    shell_class = SandboxShell
    compiler_class = SandboxCompiler  # type: ignore[assignment]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.operations |= {"variables": self._variables, "export_table": tables.export}

    def _variables(self) -> list[dict[str, Any]]:
        shell: Any = self.shell
        return variables.of_namespace(shell.user_ns, shell.user_ns_hidden)

    def start(self) -> None:
        assert self.shell is not None
        self.shell.exit_now = False
        super().start()

    def connect_outputs(self, publisher: Publisher) -> None:
        super().connect_outputs(publisher)
        shell: Any = self.shell
        for hook in (shell.displayhook, shell.display_pub):
            hook.session = self.session
            hook.pub_socket = publisher
        shell.displayhook.topic = self._topic("execute_result")

    # --- interrupts -----------------------------------------------------------------------

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if not self.publisher.interrupt_later():
            signal.default_int_handler(signum, frame)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            if self._interrupted_early:
                raise KeyboardInterrupt
            yield
        finally:
            signal.signal(signal.SIGINT, self.on_early_signal)

    # --- one cell -------------------------------------------------------------------------

    async def do_execute(  # type: ignore[override]
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, Any] | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: dict[str, Any] | None = None,
        cell_id: str | None = None,
    ) -> dict[str, Any]:
        self._usage = Usage()
        process = os.getpid()
        try:
            with self.environment.of_cell(cell_meta), self._interruptible():
                reply: dict[str, Any] = await super().do_execute(
                    code,
                    silent,
                    store_history,
                    user_expressions,
                    allow_stdin,
                    cell_meta=cell_meta,
                    cell_id=cell_id,
                )
            if os.getpid() != process:
                _end_child(reply)
            if "evalue" in reply:
                reply["evalue"] = shortened(reply["evalue"])
            return reply
        except KeyboardInterrupt as interrupt:
            return self._interrupted_outside(interrupt)
        finally:
            self._take_back_streams()
            self._update_widgets()
            self.output.keep_descriptors()
            self.output.drain()

    def _interrupted_outside(self, interrupt: KeyboardInterrupt) -> dict[str, Any]:
        """The interrupt came before or after the cell's own code."""
        assert self.shell is not None
        with contextlib.suppress(Exception):
            self.shell.showtraceback((KeyboardInterrupt, interrupt, None))
        return {
            "status": "error",
            "ename": "KeyboardInterrupt",
            "evalue": "",
            "traceback": ["KeyboardInterrupt"],
            "execution_count": self.shell.execution_count - 1,
            "user_expressions": {},
            "payload": [],
        }

    def _update_widgets(self) -> None:
        shell: Any = self.shell
        with contextlib.suppress(Exception):  # the cell's own classes may be asked for their text
            shell.display_pub.update_widgets()

    def _take_back_streams(self) -> None:
        """A cell may leave its own objects in ``sys.stdout``; the next one starts afresh."""
        for name in ("stdout", "stderr"):
            with contextlib.suppress(Exception):  # it may even be gone
                getattr(sys, name).flush()
        sys.stdout, sys.stderr = self._stdout, self._stderr

    def cost(self) -> dict[str, Any]:
        return self._usage.cost()


def _end_child(reply: dict[str, Any]) -> NoReturn:
    """A fork that came to the end of its cell: the kernel is its parent."""
    sys.stdout.flush()
    if reply["status"] == "ok":
        os._exit(0)
    os.write(2, ("\n".join(reply["traceback"]) + "\n").encode("utf-8", "replace"))
    os._exit(int(reply["evalue"]) if reply["evalue"].isdecimal() else 1)
