"""Bombs that leave the process group of their cell, so that they do not end with it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from code_interpreter import Sandbox
from code_interpreter.host.runtimes.namespaces import box_name
from tests.service import Service

pytestmark = [pytest.mark.security, pytest.mark.alone]
MEMORY_MB = 256
"""So it may have 128 processes."""
USABLE_SECONDS = 5.0
NOISE_SECONDS = 15.0
SECONDS_OF_BOMB = 2.0
BOMBS = {
    "each in a session": """
import os
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
""",
    "parents end": """
import os
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                if os.fork(): os._exit(0)
                os.setsid()
                if os.fork() == 0: os.setsid()
            except OSError: pass
while True: pass
""",
}


@pytest.mark.parametrize(
    "name", ["each in a session", pytest.param("parents end", marks=pytest.mark.slow)]
)
def test_a_bomb_in_sessions_of_its_own_is_ended(service: Service, name: str) -> None:
    limits: Any = {"memory_mb": MEMORY_MB}
    with Sandbox.create(timeout=300, **limits, **service.options) as sandbox:
        sandbox.run_code("0")
        handle = sandbox.run_code(BOMBS[name], background=True, timeout=60)
        time.sleep(SECONDS_OF_BOMB)
        handle.cancel()
        handle.wait(timeout=60)
        sandbox.restart_code_context(sandbox.list_code_contexts()[0])
        began = time.monotonic()
        assert _until_answered(sandbox) == "42"
        assert time.monotonic() - began < USABLE_SECONDS + NOISE_SECONDS
        assert int(sandbox.commands.run("ps -e | wc -l", timeout=20).stdout) < 50
        log = service.data / "run" / box_name(sandbox.sandbox_id) / "box.log"
        assert "processes left behind" in log.read_text()


def _until_answered(sandbox: Sandbox) -> str | None:
    """What was in the way has been said; then cells run again."""
    deadline = time.monotonic() + USABLE_SECONDS + NOISE_SECONDS
    while True:
        cell = sandbox.run_code("6 * 7", timeout=30)
        if cell.text is not None or time.monotonic() > deadline:
            return cell.text


def test_servers_outlive_the_kernel_that_has_started_them(service: Service) -> None:
    start = (
        "import subprocess\n"
        "for _ in range(20): subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    )
    with Sandbox.create(timeout=300, **service.options) as sandbox:
        sandbox.run_code(start)
        sandbox.restart_code_context(sandbox.list_code_contexts()[0])
        assert sandbox.run_code("6 * 7").text == "42"
        time.sleep(1.5)  # twice as long as it takes to look again
        assert sandbox.commands.run("pgrep -c sleep").stdout == "20\n"
