"""The command as a user meets it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from e2b import Sandbox

from tests.host.conftest import data
from tests.host.running import RunningHost, processes_of

__all__ = ["data"]
ENTRY = [sys.executable, "-m", "code_interpreter.cli.main"]


def call(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENTRY, *arguments],
        capture_output=True,
        text=True,
        timeout=40,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
    )


def check_failure(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 1, nothing on standard output, and one line that says what to do."""
    assert result.returncode == 1
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("code-interpreter: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in last


def test_standard_output_is_exactly_the_four_exports(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    try:
        url = host.url
        assert host.stdout.splitlines() == [
            f"export E2B_API_URL={url}",
            f"export E2B_SANDBOX_URL={url}",
            f"export E2B_VOLUME_API_URL={url}",
            f"export E2B_API_KEY={host.key}",
        ]
        assert "ISOLATES NOTHING" in host.stderr
    finally:
        assert host.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_it_cleanly(data: Path, number: signal.Signals) -> None:
    host = RunningHost(data).wait_until_ready()
    started = time.monotonic()
    assert host.stop(number) == 0
    assert time.monotonic() - started < 5
    assert "Traceback" not in host.stderr
    assert not (data / "host.json").exists()
    assert not (data / "run" / "api.sock").exists()


def test_files_are_for_this_user_only_and_the_key_stays(data: Path) -> None:
    keys = set()
    for _ in range(2):
        host = RunningHost(data).wait_until_ready()
        keys.add(host.key)
        modes = {path.name: path.stat().st_mode & 0o777 for path in data.iterdir()}
        assert modes["api-key"] == modes["host.json"] == modes["store.sqlite"] == 0o600
        assert data.stat().st_mode & 0o077 == 0
        written = json.loads((data / "host.json").read_text())
        assert written == {
            "pid": host.process.pid,
            "url": host.url,
            "api_key": host.key,
            "embedded": False,
        }
        host.stop()
    (key,) = keys
    assert key.startswith("e2b_")
    assert len(key) == 44


def test_settings_come_from_the_environment(data: Path) -> None:
    env = {"CODE_INTERPRETER_API_KEY": "e2b_" + "a" * 40}
    host = RunningHost(data, env=env).wait_until_ready()
    assert host.key == env["CODE_INTERPRETER_API_KEY"]
    host.stop()
    assert not (data / "api-key").exists()


def test_a_port_in_use(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = call("serve", "--runtime", "process", "--data-dir", str(data), "--port", port)
    check_failure(result, port, "--port")


def test_an_address_that_is_not_here(data: Path) -> None:
    arguments = ("serve", "--runtime", "process", "--data-dir", str(data))
    check_failure(call(*arguments, "--host", "192.0.2.1"), "192.0.2.1")


@pytest.mark.parametrize("place", ["/proc/nothing", "/dev/null/x"])
def test_a_data_directory_that_cannot_be_written(place: str) -> None:
    check_failure(call("serve", "--data-dir", place), place, "--data-dir")
    check_failure(call("serve", "--embedded", "--data-dir", place), place, "--data-dir")


def test_a_data_directory_with_too_long_a_path(tmp_path: Path) -> None:
    result = call("serve", "--data-dir", str(tmp_path / ("x" * 100)))
    check_failure(result, "too long", "--data-dir")


def test_a_second_host_on_the_same_data(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    try:
        arguments = ("serve", "--runtime", "process", "--data-dir", str(data), "--port", "0")
        check_failure(call(*arguments), host.url, "--data-dir", "stop")
        assert (data / "host.json").exists()
    finally:
        host.stop()


def test_a_setting_that_is_not_usable(data: Path) -> None:
    arguments = ("serve", "--data-dir", str(data))
    check_failure(call(*arguments, "--port", "70000"), "--port", "CODE_INTERPRETER_PORT")
    check_failure(call(*arguments, CODE_INTERPRETER_MAX_SANDBOXES="many"), "MAX_SANDBOXES", "many")


def test_without_the_extra(tmp_path: Path) -> None:
    """A Python where a package of the extra cannot be imported."""
    (tmp_path / "typer").mkdir()
    (tmp_path / "typer" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='typer')")
    result = call("serve", PYTHONPATH=str(tmp_path))
    check_failure(result, "typer", "pip install 'code-interpreter[host]'")


def test_stop_and_status(data: Path) -> None:
    place = ("--data-dir", str(data))
    check_failure(call("status", *place), "serve")
    assert "no host runs" in call("stop", *place).stdout
    host = RunningHost(data).wait_until_ready()
    try:
        shown = call("status", *place)
        assert shown.returncode == 0
        assert host.url in shown.stdout
        assert "no sandboxes" in shown.stdout
        metadata = {"user": "ann", "note": "[/] is no markup"}
        sandbox = Sandbox.create(metadata=metadata, **host.options)
        shown = call("status", *place)
        assert sandbox.sandbox_id in shown.stdout
        assert "note=[/] is no markup" in " ".join(shown.stdout.split())
        stopped = call("stop", *place)
        assert stopped.returncode == 0
        assert host.process.wait(5) == 0
    finally:
        host.stop()
    check_failure(call("status", *place), "serve")


def test_an_embedded_host_stops_when_idle_and_logs_to_its_file(data: Path) -> None:
    env = {"CODE_INTERPRETER_IDLE_STOP": "1"}
    host = RunningHost(data, "--embedded", env=env).wait_until_ready()
    assert host.process.wait(15) == 0
    log = data / "host.log"
    assert "idle" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert (host.stdout, host.stderr) == ("", "")
    assert not (data / "host.json").exists()
    assert processes_of(data) == []


def test_requests_keep_an_embedded_host_alive(data: Path) -> None:
    host = RunningHost(data, "--embedded", env={"CODE_INTERPRETER_IDLE_STOP": "1.5"})
    host.wait_until_ready()
    with host.http() as http:
        for _ in range(8):
            assert http.get("/v2/sandboxes").status_code == 200
            time.sleep(0.4)
    assert host.process.wait(15) == 0


def test_doctor_says_what_this_machine_gives(data: Path) -> None:
    result = call("doctor", "--data-dir", str(data))
    assert "Traceback" not in result.stderr
    assert result.returncode in (0, 1)
    for words in ("control groups", "What it comes to", "sudo in sandboxes", "namespaces"):
        assert words in result.stdout


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_a_time_that_code_cannot_be_given(seconds: str) -> None:
    check_failure(call("run", f"--timeout={seconds}", "1"), "--timeout takes seconds")


def test_versions_of_help_name_every_command() -> None:
    shown = call("--help").stdout
    for command in ("serve", "run", "status", "stop", "doctor"):
        assert command in shown
