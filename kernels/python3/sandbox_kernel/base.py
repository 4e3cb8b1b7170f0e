"""`LeanKernel`: what our kernels have in common, on ipykernel's base class.

It knows its outputs (`Publisher`, `Output`), takes environment variables as data, drops
interrupts that come outside a cell, and tells what a cell cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, SimpleNamespace
from typing import Any

from ipykernel.jsonutil import json_clean
from ipykernel.kernelbase import Kernel
from IPython.core.error import StdinNotImplementedError
from tornado.ioloop import IOLoop
from traitlets import Any as AnyTrait

from sandbox_kernel.environment import KEY, Environment
from sandbox_kernel.publisher import Publisher
from sandbox_kernel.stream_messages import StreamMessages
from sandbox_kernel.streams import Output, Stream

REQUEST = "code_interpreter_request"
REPLY = "code_interpreter_reply"
_LOOK_UP = 20
"""Milliseconds after which who waits for an answer sees whether its cell still runs."""


class LeanKernel(Kernel):
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
        self._interrupted_early = False
        self._cell: dict[str, Any] | None = None
        """The request of the cell that runs."""
        self._asking = threading.Lock()
        self.operations: dict[str, Callable[..., Any]] = {}
        """What the gateway may ask for on the control channel, also while a cell runs."""
        self.control_handlers[REQUEST] = self._operate

    def start(self) -> None:
        """Begin to answer control requests; `ShellRequests` brings the others."""
        self.io_loop = IOLoop.current()
        self._control_lock = asyncio.Lock()
        self.control_stream.on_recv(self.dispatch_control, copy=False)
        self._publish_status("starting", "shell")

    async def _operate(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        content = parent["content"]
        try:
            value = self.operations[content["operation"]](**content["arguments"])
            reply = {"status": "ok", "value": value}
        except Exception as error:
            reply = {"status": "error", "ename": type(error).__name__, "evalue": str(error)}
        self.session.send(stream, REPLY, reply, parent, ident)

    # --- outputs --------------------------------------------------------------------------

    def connect_outputs(self, publisher: Publisher) -> None:
        """Send everything through ``publisher`` from now on, descriptors 1 and 2 included."""
        self.publisher = self.iopub_socket = publisher
        self._stream_messages = StreamMessages(self.session)
        self.output = Output(self.publish_stream)
        self.output.capture_descriptors()
        sys.stdout = self._stdout = Stream(self.output, "stdout")
        sys.stderr = self._stderr = Stream(self.output, "stderr")

    def publish_stream(self, name: str, text: str) -> None:
        """Send text of stdout or stderr as part of the cell that runs, or ran last."""
        frames = self._stream_messages.frames(name, text, self._output_parent)
        self.publisher.send_multipart(frames)

    def set_parent(self, ident: Any, parent: dict[str, Any], channel: str = "shell") -> None:
        super().set_parent(ident, parent, channel)
        if channel == "shell" and parent["header"]["msg_type"] == "execute_request":
            self._output_parent = self._cell = parent
            self._interrupted_early = False

    async def execute_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        try:
            await super().execute_request(stream, ident, parent)
        finally:
            self._cell = None

    # --- input ----------------------------------------------------------------------------

    def raw_input(self, prompt: str = "") -> Any:
        with _explained():
            return super().raw_input(prompt)

    def getpass(self, prompt: str = "", stream: Any = None, **options: Any) -> Any:
        with _explained():
            return super().getpass(prompt, stream, **options)

    def _input_request(self, prompt: str, ident: Any, parent: Any, password: bool = False) -> str:
        """One question at a time, whichever thread asks; it ends with the cell that runs.

        A thread that went on waiting would take the answer to the next question.
        """
        with self._asking:
            cell = self._cell
            self.output.flush()
            while self.stdin_socket.poll(0):
                self.stdin_socket.recv_multipart()
            question = json_clean({"prompt": prompt, "password": password})
            self.session.send(self.stdin_socket, "input_request", question, cell or parent, ident)
            while cell is not None and cell is self._cell:
                if self.stdin_socket.poll(_LOOK_UP):
                    answer = self.session.recv(self.stdin_socket)[1]
                    return str(answer["content"]["value"])
            raise EOFError("input() was called by a thread, and its cell has ended")

    # --- signals --------------------------------------------------------------------------
    # SIGINT is meant for the cell. Outside one it is dropped, but not with SIG_IGN, which
    # programs that a cell starts would inherit.

    def pre_handler_hook(self) -> None:
        pass

    def post_handler_hook(self) -> None:
        pass

    def on_early_signal(self, signum: int, frame: FrameType | None) -> None:
        """The handler outside cells; one that comes as a cell begins counts."""
        self._interrupted_early = True

    # --- cost -----------------------------------------------------------------------------

    def finish_metadata(
        self, parent: dict[str, Any], metadata: dict[str, Any], reply_content: dict[str, Any]
    ) -> dict[str, Any]:
        metadata = super().finish_metadata(parent, metadata, reply_content)
        metadata[KEY] = self.cost()
        return metadata

    def cost(self) -> dict[str, Any]:
        """``cpu_seconds`` and ``peak_memory_bytes`` of the cell that ran."""
        return {}


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Say what helps when nobody answers questions."""
    try:
        yield
    except StdinNotImplementedError:
        raise StdinNotImplementedError(
            "The cell asks for input, and whoever runs it does not answer: "
            "give run_code an on_input, or put the value into the code"
        ) from None


class Usage:
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
