"""The host of this machine dies under programs that use its sandboxes, and they go on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from code_interpreter import (
    AsyncSandbox,
    EmbeddedHostException,
    ExecutionStatus,
    Sandbox,
    embedded,
)
from tests.client.test_embedded import VARIABLES, stop_embedded

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory that no host has, for hosts that are quick to start.

    What becomes of sandboxes with all isolation when a host dies, tests/soak asks.
    """
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODE_INTERPRETER_POOL_SIZE", "0")
    monkeypatch.setenv("CODE_INTERPRETER_RUNTIME", "process")
    parent = Path(tempfile.mkdtemp(prefix="ci-"))  # short: unix sockets are made below it
    directory = parent / "data"
    monkeypatch.setenv("CODE_INTERPRETER_DATA_DIR", str(directory))
    yield directory
    stop_embedded(directory)
    shutil.rmtree(parent)


def crash() -> None:
    pid = embedded.find_or_start().pid
    while not embedded._is_alive(pid):  # the next one answers, and has yet to write its file
        pid = embedded.find_or_start().pid
    os.kill(pid, signal.SIGKILL)
    while embedded._is_alive(pid) or embedded._host_holds_lock(embedded.data_directory()):
        time.sleep(0.01)


def test_a_program_goes_on_where_it_was(data: Path) -> None:
    with Sandbox.create() as sandbox:
        sandbox.run_code("kept = 41")
        crash()
        assert sandbox.run_code("kept += 1; kept").text == "42"
        crash()
        assert sandbox.commands.run("echo alive").stdout == "alive\n"
        crash()
        assert len(sandbox.list_code_contexts()) >= 1
        assert sandbox.run_code("kept").text == "42", "nothing ran twice"


def test_a_cell_that_runs_meanwhile_is_read_on(data: Path) -> None:
    with Sandbox.create() as sandbox:
        sandbox.run_code("runs = 0")
        code = "import time; runs += 1\nfor n in range(10): print(n); time.sleep(0.1)\nruns"
        handle = sandbox.run_code(code, background=True)
        crash()
        execution = handle.wait(60)
        assert (execution.status, execution.text) == (ExecutionStatus.OK, "1")
        assert "".join(execution.logs.stdout).split() == [str(n) for n in range(10)]


async def test_asynchronously(data: Path) -> None:
    async with await AsyncSandbox.create() as sandbox:
        await sandbox.run_code("runs = 0")
        code = "import time; runs += 1\nfor n in range(10): print(n); time.sleep(0.1)\nruns"
        handle = await sandbox.run_code(code, background=True)
        crash()
        execution = await handle.wait(60)
        assert (execution.status, execution.text) == (ExecutionStatus.OK, "1")
        crash()
        assert (await sandbox.run_code("runs")).text == "1"
        assert len(await sandbox.list_code_contexts()) >= 1
        crash()
        assert (await sandbox.commands.run("echo alive")).stdout == "alive\n"
        crash()


def test_calls_of_the_control_plane_go_on(data: Path) -> None:
    with Sandbox.create() as sandbox:
        crash()
        assert sandbox.get_info().sandbox_id == sandbox.sandbox_id
        crash()
        sandbox.set_timeout(60)
        crash()  # and the end of the block ends the sandbox
    assert Sandbox.list().next_items() == []


def test_a_host_that_was_stopped_is_not_started_for_its_sandboxes(data: Path) -> None:
    sandbox = Sandbox.create()
    sandbox.run_code("1")
    stop_embedded(data)
    with pytest.raises(Exception, match=r"refused|connect|Connect"):
        sandbox.run_code("1")
    assert not (data / "host.json").exists()


def test_another_port_is_told(data: Path) -> None:
    sandbox = Sandbox.create()
    sandbox.run_code("kept = 1")
    port = int(embedded.find_or_start().url.rpartition(":")[2])
    crash()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(EmbeddedHostException, match="its port was taken"):
            embedded.keep_alive(f"http://127.0.0.1:{port}")
    assert Sandbox.connect(sandbox.sandbox_id).run_code("kept").text == "1"
    assert Sandbox.kill(sandbox.sandbox_id)
