"""Three ways to run a cell, behind one method: a bare kernel, Jupyter Kernel Gateway, and ours."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from websockets.sync.client import connect

from code_interpreter import Context, Sandbox

ROOT = Path(__file__).parents[2]
DEADLINE = 120
MEANT = "ZeroDivisionError"
"""The one error that a measured cell is to raise; a cell that fails otherwise is quick, too."""
Heard = Callable[[str], None]


def _read(number: str, receive: Callable[[], dict[str, Any]], last: str, heard: Heard) -> None:
    """Messages of the request ``number``, up to the one of type or state ``last``."""
    while True:
        message = receive()
        if message["parent_header"].get("msg_id") != number:
            continue
        kind = message["header"]["msg_type"]
        if kind == "stream":
            heard(message["content"]["text"])
        if last in (kind, message["content"].get("execution_state")):
            return


def _nobody(text: str) -> None:
    """Hears nothing."""


class Contestant(Protocol):
    name: str

    def run(self, code: str, heard: Heard = _nobody) -> None:
        """Run a cell to its end; ``heard`` gets the text of streams as it comes."""

    def another(self) -> contextlib.AbstractContextManager[Contestant]:
        """One more kernel of the same kind, ready."""

    def memory(self) -> int:
        """Bytes of everything that serves these kernels, shared pages by their share."""


class Bare:
    """jupyter_client and a kernel, nothing between them."""

    name = "bare jupyter_client"

    def __init__(self, kernel: str = "python3") -> None:
        specs = KernelSpecManager()
        if kernel != "python3":
            specs.kernel_dirs = [str(ROOT / "kernels")]
        self._manager = KernelManager(kernel_name=kernel, kernel_spec_manager=specs)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._manager.start_kernel(env={**os.environ, "PATH": path})
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=DEADLINE)

    def run(self, code: str, heard: Heard = _nobody) -> None:
        client = self._client
        number = client.execute(code, store_history=False)
        _read(number, lambda: client.get_iopub_msg(timeout=DEADLINE), "idle", heard)
        _read(number, lambda: client.get_shell_msg(timeout=DEADLINE), "execute_reply", heard)

    @contextlib.contextmanager
    def another(self) -> Iterator[Contestant]:
        other = Bare()
        try:
            yield other
        finally:
            other.close()

    def memory(self) -> int:
        kernels = [each.pid for each in psutil.Process().children() if _is_kernel(each)]
        return sum(map(_proportional_memory, kernels))

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


class KernelGateway:
    """A kernel of Jupyter Kernel Gateway over its WebSocket."""

    name = "Jupyter Kernel Gateway"

    def __init__(self, url: str, server: int) -> None:
        self._url, self._server = url, server
        answer = httpx.post(f"{url}/api/kernels", json={"name": "python3"}, timeout=DEADLINE)
        self._id = answer.raise_for_status().json()["id"]
        address = f"ws{url.removeprefix('http')}/api/kernels/{self._id}/channels"
        self._socket = connect(address, max_size=None, compression=None)
        self.run("1")

    def run(self, code: str, heard: Heard = _nobody) -> None:
        number = uuid.uuid4().hex
        header = {"msg_id": number, "username": "", "session": "s", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        message = {
            "header": {**header, "msg_type": "execute_request", "date": "2026-01-01T00:00:00Z"},
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": "shell",
            "buffers": [],
        }
        self._socket.send(json.dumps(message))
        _read(number, lambda: json.loads(self._socket.recv(DEADLINE)), "idle", heard)

    @contextlib.contextmanager
    def another(self) -> Iterator[Contestant]:
        other = KernelGateway(self._url, self._server)
        try:
            yield other
        finally:
            other.close()

    def memory(self) -> int:
        return _memory_below(self._server)

    def close(self) -> None:
        self._socket.close()
        httpx.delete(f"{self._url}/api/kernels/{self._id}", timeout=DEADLINE)


class Ours:
    """``run_code`` in a sandbox of a running host."""

    name = "run_code"

    def __init__(self, sandbox: Sandbox, server: int, context: Context | None = None) -> None:
        self._sandbox, self._server, self._context = sandbox, server, context

    def run(self, code: str, heard: Heard = _nobody) -> None:
        error = self._sandbox.run_code(
            code, context=self._context, on_stdout=lambda message: heard(message.line)
        ).error
        if error is not None and error.name != MEANT:
            raise RuntimeError(f"{code!r} was not run: {error.name}: {error.value}")

    @contextlib.contextmanager
    def another(self) -> Iterator[Contestant]:
        context = self._sandbox.create_code_context()
        other = Ours(self._sandbox, self._server, context)
        other.run("1")
        try:
            yield other
        finally:
            self._sandbox.remove_code_context(context)

    def memory(self) -> int:
        return _memory_below(self._server)


@contextlib.contextmanager
def bare(kernel: str = "python3") -> Iterator[Bare]:
    made = Bare(kernel)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def kernel_gateway() -> Iterator[KernelGateway]:
    """A server of its own for it."""
    port = _free_port()
    command = [sys.executable, "-m", "kernel_gateway", "--KernelGatewayApp.ip=127.0.0.1"]
    options = [f"--KernelGatewayApp.port={port}", "--KernelGatewayApp.port_retries=0"]
    server = subprocess.Popen(
        [*command, *options, "--JupyterWebsocketPersonality.list_kernels=True"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _until_it_answers(f"{url}/api")
        made = KernelGateway(url, server.pid)
        yield made
        made.close()
    finally:
        server.terminate()
        server.wait(DEADLINE)


@contextlib.contextmanager
def ours(server: int) -> Iterator[Ours]:
    """A sandbox of the host whose process is ``server``."""
    with Sandbox.create(timeout=3600) as sandbox:
        yield Ours(sandbox, server)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            httpx.get(url).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _is_kernel(process: psutil.Process) -> bool:
    return "ipykernel_launcher" in process.cmdline()


def _memory_below(pid: int) -> int:
    top = psutil.Process(pid)
    return sum(_proportional_memory(each.pid) for each in [top, *top.children(recursive=True)])


def _proportional_memory(pid: int) -> int:
    """Zero for what has ended meanwhile. See proc_pid_smaps(5), ``Pss``."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
