"""An envd that was ended, and the one that init starts in its place."""

from __future__ import annotations

import os
import signal
import time

import httpx
import psutil
import pytest
from e2b import Sandbox

from tests.envd.supervisors import processes
from tests.service import Service


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to end a process inside a sandbox")
def test_the_token_is_kept(service: Service) -> None:
    sandbox = Sandbox.create(timeout=60, envs={"KEPT": "yes"}, **service.options)
    try:
        sandbox.files.write("file", "content")
        old = processes(sandbox.sandbox_id)[1:]
        for process in old:
            process.send_signal(signal.SIGKILL)
        _wait_for_others(sandbox, old)
        headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
        answer = httpx.get(f"{service.url}/files?path=file", headers=headers, trust_env=False)
        assert answer.status_code == 401
        assert sandbox.files.read("file") == "content"
        assert sandbox.commands.run("echo $KEPT $E2B_SANDBOX_ID").stdout.split() == [
            "yes",
            sandbox.sandbox_id,
        ]
    finally:
        sandbox.kill()


def _wait_for_others(sandbox: Sandbox, old: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 10
    while len([each for each in processes(sandbox.sandbox_id)[1:] if each not in old]) < len(old):
        assert time.monotonic() < deadline
        time.sleep(0.05)
