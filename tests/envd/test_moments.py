"""What depends on seconds, through E2B's clients and an envd whose seconds are short."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import AsyncSandbox, CommandExitException, NotFoundException, Sandbox

from code_interpreter.guest.config import GuestConfig

pytestmark = pytest.mark.alone
REMEMBERED = 1.5
EDGE = 0.5
"""Seconds on either side of it."""
DEADLINE = 20.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an envd by itself, on a port: E2B's clients can be told where a sandbox is."""
    top = tmp_path_factory.mktemp("envd")
    (top / "state").mkdir(0o700)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = GuestConfig(
            isolated=False,
            home=str(top),
            state_directory=str(top / "state"),
            listen_fd=listener.fileno(),
            remembered_seconds=REMEMBERED,
        )
        command = [sys.executable, "-m", "code_interpreter.envd", "--config", config.dump()]
        process = subprocess.Popen(command, pass_fds=(listener.fileno(),))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait(DEADLINE)


@pytest.fixture(scope="module")
def box(url: str) -> Sandbox:
    return Sandbox.create(debug=True, sandbox_url=url)


def test_the_default() -> None:
    assert GuestConfig(isolated=False, home="/").remembered_seconds == 30


def test_connecting_at_the_edge_of_what_is_remembered(box: Sandbox, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    handle = box.commands.run(f"touch {ended}; exit 7", background=True)
    handle.disconnect()
    _wait_for(ended)
    at = time.monotonic()
    time.sleep(REMEMBERED - EDGE)
    with pytest.raises(CommandExitException) as caught:
        box.commands.connect(handle.pid).wait()
    assert caught.value.exit_code == 7
    time.sleep(max(0, at + REMEMBERED + EDGE - time.monotonic()))
    with pytest.raises(NotFoundException, match=f"process with pid {handle.pid} not found"):
        box.commands.connect(handle.pid)


async def test_the_same_asynchronously(url: str, tmp_path: Path) -> None:
    box = await AsyncSandbox.create(debug=True, sandbox_url=url)
    ended = tmp_path / "ended"
    handle = await box.commands.run(f"touch {ended}", background=True)
    await handle.disconnect()
    _wait_for(ended)
    assert (await (await box.commands.connect(handle.pid)).wait()).exit_code == 0
    time.sleep(REMEMBERED + EDGE)
    with pytest.raises(NotFoundException):
        await box.commands.connect(handle.pid)


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_keepalives_are_no_matter_to_the_client(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come every second, and commands and watchers go on as if none came."""
    for module in ("commands.command", "filesystem.filesystem"):
        constant = f"e2b.sandbox_async.{module}.KEEPALIVE_PING_INTERVAL_SEC"
        monkeypatch.setattr(constant, 1)
    box = await AsyncSandbox.create(debug=True, sandbox_url=url)
    pieces: list[str] = []
    events: asyncio.Queue[str] = asyncio.Queue()
    handle = await box.commands.run("sleep 2.2; echo x", background=True, on_stdout=pieces.append)
    watch = await box.files.watch_dir(str(tmp_path), lambda event: events.put_nowait(event.name))
    assert (await handle.wait()).stdout == "x\n"
    assert pieces == ["x\n"]
    assert events.empty()
    (tmp_path / "new").touch()
    assert await asyncio.wait_for(events.get(), DEADLINE) == "new"
    await watch.stop()  # type: ignore[no-untyped-call]
