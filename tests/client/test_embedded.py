"""Finding and starting the host of this machine: real hosts, each with data of its own."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import SandboxException

from code_interpreter import (
    AsyncSandbox,
    EmbeddedHostException,
    Sandbox,
    Template,
    Volume,
    embedded,
)
from code_interpreter.protocol.control import HostFile
from tests.service import shared_templates

VARIABLES = ("E2B_API_KEY", "E2B_API_URL", "E2B_DOMAIN", "E2B_SANDBOX_URL", "E2B_DEBUG")
STOP_SECONDS = 20


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory that no host has, and a program without any settings."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    parent = Path(tempfile.mkdtemp(prefix="ci-"))  # short: unix sockets are made below it
    directory = parent / "data"
    monkeypatch.setenv("CODE_INTERPRETER_DATA_DIR", str(directory))
    monkeypatch.setenv("CODE_INTERPRETER_RUNTIME", "process")
    yield directory
    stop_embedded(directory)
    shutil.rmtree(parent)


def stop_embedded(directory: Path) -> None:
    host = embedded._read(directory)
    if host is None:
        return
    os.kill(host.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while embedded._host_holds_lock(directory):
        assert time.monotonic() < deadline, "the host did not stop"
        time.sleep(0.05)


def test_a_host_is_started_and_found_again(data: Path) -> None:
    host = embedded.find_or_start()
    assert embedded.find(data) == host
    assert embedded.find_or_start() == host
    assert host.embedded
    assert (data / "host.log").stat().st_mode & 0o777 == 0o600
    assert os.getsid(host.pid) == host.pid
    assert Sandbox.list().next_items() == []


@pytest.mark.usefixtures("service")  # which prepares the template that is shared
def test_the_promise_of_the_readme(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODE_INTERPRETER_RUNTIME")
    for name, value in shared_templates().items():
        monkeypatch.setenv(name, value)
    code = "from code_interpreter import Sandbox; print(Sandbox.create().run_code('1+1').text)"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=50
    )
    assert (run.stdout, run.returncode) == ("2\n", 0), run.stderr
    with Sandbox.create() as sandbox:
        assert sandbox.run_code("1 + 1").text == "2"
        assert sandbox.commands.run("echo hi").stdout == "hi\n"
    assert len(Sandbox.list().next_items()) == 1


def test_a_proxy_of_the_environment_is_not_asked_for_it(data: Path) -> None:
    code = (
        "import os; from code_interpreter import Sandbox\n"
        "print(Sandbox.list().next_items(), os.environ['no_proxy'])"
    )
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **proxies, "NO_PROXY": "example.org"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert run.stdout == "[] example.org,127.0.0.1\n"


def test_six_programs_at_once_start_one_host(data: Path) -> None:
    code = "from code_interpreter.embedded import find_or_start; print(find_or_start().pid)"
    programs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    pids = {program.communicate(timeout=50)[0].strip() for program in programs}
    assert all(program.returncode == 0 for program in programs)
    assert pids == {str(embedded.find_or_start().pid)}


def test_the_host_outlives_the_program_that_started_it(data: Path) -> None:
    code = "from code_interpreter.embedded import find_or_start; find_or_start()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert embedded.find(data) is not None


def test_after_a_crash_the_next_host_has_the_same_address(data: Path) -> None:
    host = embedded.find_or_start()
    os.kill(host.pid, signal.SIGKILL)
    while embedded._host_holds_lock(data):
        time.sleep(0.01)
    again = embedded.find_or_start()
    assert again.pid != host.pid
    assert (again.url, again.api_key) == (host.url, host.api_key)


async def test_the_event_loop_goes_on_while_the_host_starts(data: Path) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    ticker = asyncio.create_task(tick())
    with pytest.raises(SandboxException, match="nothing"):
        await AsyncSandbox.create("nothing")
    ticker.cancel()
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert max(gaps) < sum(gaps) / 2


def test_a_host_that_ends_early_is_told_with_its_log(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("CODE_INTERPRETER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(EmbeddedHostException) as caught:
            embedded.find_or_start()
    message = str(caught.value)
    assert "exit code 1" in message
    assert "cannot be listened on" in message
    assert "code-interpreter doctor" in message
    assert str(data / "host.log") in message


def test_missing_packages_are_told_with_the_remedy(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('no typer', name='typer')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EmbeddedHostException) as caught:
        embedded.find_or_start()
    assert "pip install 'code-interpreter[host]'" in str(caught.value).splitlines()[0]


def test_a_data_directory_that_cannot_be_written_is_named(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.parent.joinpath("file").touch()
    monkeypatch.setenv("CODE_INTERPRETER_DATA_DIR", str(data.parent / "file" / "below"))
    with pytest.raises(EmbeddedHostException, match="CODE_INTERPRETER_DATA_DIR"):
        embedded.find_or_start()


def test_other_systems_are_told_what_they_can_do(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EmbeddedHostException, match="a Linux machine"):
        embedded.find_or_start()
    assert not data.exists()


def test_progress_is_shown_and_a_stall_is_an_error(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embedded, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(embedded, "LINE_SECONDS", 0.5)
    monkeypatch.setattr(embedded, "STALL_SECONDS", 0.6)
    data.mkdir()
    with (data / "host.lock").open("w") as lock:  # as a host that gets ready has it
        fcntl.flock(lock, fcntl.LOCK_EX)
        writers = [
            threading.Timer(0.3 * number, (data / "host-progress").write_text, [f"step {number}"])
            for number in (1, 2, 3)
        ]
        for writer in writers:
            writer.start()
        began = time.monotonic()
        with pytest.raises(EmbeddedHostException, match=r"nothing new for 0.6 s \(last: step 3\)"):
            embedded.find_or_start()
        assert time.monotonic() - began > 1.4
    shown = capsys.readouterr().err
    assert shown.endswith("code-interpreter: step 3\n")
    assert len(shown.splitlines()) < 4, "every step has a line of its own"


def test_a_file_of_a_host_that_is_gone_is_not_believed(data: Path) -> None:
    data.mkdir()
    gone = HostFile(pid=2**22, url="http://127.0.0.1:9", api_key="e2b_0", embedded=True)
    (data / "host.json").write_text(gone.model_dump_json())
    assert embedded.find(data) is None
    (data / "host.json").write_text("{")
    assert embedded.find(data) is None


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_leads_elsewhere(data: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert embedded.is_wanted({})
    monkeypatch.setenv(name, "true")
    assert not embedded.is_wanted({})
    for cls in (Sandbox, AsyncSandbox, Volume, Template):
        assert cls._resolve_api_params() == {}
    assert not data.exists()


@pytest.mark.parametrize("name", ["api_key", "api_url", "domain", "sandbox_url", "debug"])
def test_an_option_leads_elsewhere(data: Path, name: str) -> None:
    assert not embedded.is_wanted({name: "x"})
    assert embedded.is_wanted({name: None, "request_timeout": 5})


def test_empty_variables_are_as_none(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("E2B_DEBUG", "false")
    assert embedded.is_wanted({})
