"""Pausing where there are no control groups: every process is stopped by a signal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from code_interpreter import Sandbox
from code_interpreter.host.runtimes.base import Box, RuntimeFailure
from code_interpreter.host.runtimes.namespaces import box_name
from code_interpreter.host.stopping import go_on, stop
from tests.host.running import NO_POOL, RunningHost, data_directory
from tests.service import cgroups_named, shared_templates

WITHOUT_GROUPS = ("unshare", "--mount", "sh", "-c", 'umount -R /sys/fs/cgroup; exec "$@"', "sh")


@pytest.fixture
def host(service: object) -> Iterator[RunningHost]:
    """Asking for the shared host makes sure that the template is there."""
    with data_directory() as data:
        running = RunningHost(
            data,
            *("--runtime", "namespaces"),
            env={**NO_POOL, **shared_templates()},
            before=WITHOUT_GROUPS,
        )
        try:
            yield running.wait_until_ready()
        finally:
            running.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to hide the machine's control groups")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare of util-linux")
@pytest.mark.timeout(150)
def test_a_sandbox_stands_still_and_goes_on(host: RunningHost) -> None:
    sandbox = Sandbox.create(timeout=100, **host.options)
    name = box_name(sandbox.sandbox_id)
    assert cgroups_named(name) == []
    sandbox.run_code("kept = 1")
    sandbox.commands.run("while true; do date +%s%N > tick; sleep 0.01; done", background=True)
    init = psutil.Process(int((host.data / "run" / name / "init.pid").read_text().split()[0]))
    sandbox.pause()
    family = [init, *init.children(recursive=True)]
    assert len(family) > 4
    assert init.status() == psutil.STATUS_STOPPED
    # What has ended before its turn is still there: its parent stands still, too.
    still = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    assert {each.status() for each in family} <= still
    sandbox.connect(timeout=100)
    assert sandbox.run_code("kept").text == "1"
    first = sandbox.files.read("tick")
    time.sleep(0.3)
    assert sandbox.files.read("tick") != first
    sandbox.pause()
    assert sandbox.kill()
    gone, left = psutil.wait_procs(family, 10)
    assert left == []
    assert len(gone) == len(family)


def test_what_was_stopped_before_stays_stopped(tmp_path: Path) -> None:
    script = "import subprocess, sys, time; subprocess.Popen(['sleep', '100']); time.sleep(100)"
    parent = psutil.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    try:
        while not parent.children():
            time.sleep(0.01)
        (child,) = parent.children()
        child.send_signal(signal.SIGSTOP)
        wait_for(child, psutil.STATUS_STOPPED)
        ticks = int(Path(f"/proc/{parent.pid}/stat").read_text().rpartition(")")[2].split()[19])
        box = Box("i1", "process", parent.pid, ticks, tmp_path, "base")
        stop(box)
        assert parent.status() == child.status() == psutil.STATUS_STOPPED
        note = tmp_path / "stopped.json"
        said = note.read_text()
        note.write_text("[[")
        with pytest.raises(RuntimeFailure, match="cannot be read"):
            go_on(box)
        note.write_text(said)
        assert json.loads(said) == [[parent.pid, ticks]]
        go_on(box)
        assert not note.exists()
        wait_for(parent, psutil.STATUS_SLEEPING)
        assert child.status() == psutil.STATUS_STOPPED
        go_on(box)  # once more is no harm
    finally:
        for process in (*parent.children(), parent):
            process.kill()
        parent.wait()


def wait_for(process: psutil.Process, status: str) -> None:
    deadline = time.monotonic() + 5
    while process.status() != status:
        assert time.monotonic() < deadline
        time.sleep(0.01)
