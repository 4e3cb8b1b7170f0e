"""`SandboxKernel`: ipykernel's IPython kernel with our outputs, environment and interrupts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from tornado.ioloop import IOLoop
from traitlets import Any as AnyTrait

from sandbox_kernel.environment import KEY, Environment
from sandbox_kernel.publisher import Publisher
from sandbox_kernel.shell import SandboxShell
from sandbox_kernel.streams import Output


class SandboxKernel(IPythonKernel):
    shell_class = SandboxShell
    shell_stream = AnyTrait()
    control_stream = AnyTrait()
    _execute_sleep = 0.0

    publisher: Publisher
    output: Output
    # Requests come on the main thread; async cells ask for that thread by this name.
    shell_channel_thread = SimpleNamespace(parent_thread=threading.main_thread())
    _supports_kernel_subshells = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment = Environment()
        self._output_parent: dict[str, Any] = {}

    def start(self) -> None:
        """Begin to answer control requests; `ShellRequests` brings the others."""
        assert self.shell is not None
        self.shell.exit_now = False
        self.io_loop = IOLoop.current()
        self._control_lock = asyncio.Lock()
        self.control_stream.on_recv(self.dispatch_control, copy=False)
        self._publish_status("starting", "shell")

    def publish_stream(self, name: str, text: str) -> None:
        """Send text of stdout or stderr as part of the cell that runs, or ran last."""
        self.session.send(
            self.publisher,
            "stream",
            {"name": name, "text": text},
            parent=self._output_parent,
            ident=b"stream." + name.encode(),
        )

    def set_parent(self, ident: Any, parent: dict[str, Any], channel: str = "shell") -> None:
        super().set_parent(ident, parent, channel)
        if channel == "shell" and parent["header"]["msg_type"] == "execute_request":
            self._output_parent = parent

    # --- signals --------------------------------------------------------------------------
    # SIGINT is meant for the cell. Outside one it is dropped, but not with SIG_IGN, which
    # programs that a cell starts would inherit.

    def pre_handler_hook(self) -> None:
        pass

    def post_handler_hook(self) -> None:
        pass

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if not self.publisher.interrupt_later():
            signal.default_int_handler(signum, frame)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, drop_signal)

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
        self._usage = _Usage()
        try:
            with self.environment.of_cell(cell_meta), self._interruptible():
                return await super().do_execute(
                    code,
                    silent,
                    store_history,
                    user_expressions,
                    allow_stdin,
                    cell_meta=cell_meta,
                    cell_id=cell_id,
                )
        except KeyboardInterrupt as interrupt:
            return self._interrupted_outside(interrupt)
        finally:
            self._take_back_streams()
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

    def _take_back_streams(self) -> None:
        """A cell may leave its own objects in ``sys.stdout``; the next one starts afresh."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        sys.stdout, sys.stderr = self._stdout, self._stderr

    def finish_metadata(
        self, parent: dict[str, Any], metadata: dict[str, Any], reply_content: dict[str, Any]
    ) -> dict[str, Any]:
        metadata = super().finish_metadata(parent, metadata, reply_content)
        metadata[KEY] = self._usage.cost()
        return metadata


class _Usage:
    """CPU time and peak memory from its making to `cost`."""

    def __init__(self) -> None:
        _reset_peak()
        self._cpu = _cpu_seconds()

    def cost(self) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"cpu_seconds": _cpu_seconds() - self._cpu, "peak_memory_bytes": peak}


def _cpu_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _reset_peak() -> None:
    """Let the peak of resident memory start again; see clear_refs in proc(5)."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)


def drop_signal(signum: int, frame: FrameType | None) -> None:
    """A handler that does nothing."""
