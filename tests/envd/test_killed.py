"""A sandbox that is killed: whatever is under way is cut and answered at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable

import httpx
import pytest
from e2b import AsyncSandbox, PtySize, SandboxNotRunningException, TimeoutException

from tests.service import Service

SECONDS = 5.0


@pytest.mark.timeout(120)
async def test_everything_is_answered_at_once(service: Service) -> None:
    sandbox = await AsyncSandbox.create(timeout=300, **service.options)
    await sandbox.commands.run("fallocate -l 400M big; mkdir watched")
    ended: list[float] = []

    async def until_it_fails(name: str, action: Awaitable[object]) -> None:
        with pytest.raises((TimeoutException, httpx.RemoteProtocolError)) as caught:
            await action
        ended.append(time.monotonic())
        # In the middle of a file, the client tells what it saw of the connection.
        assert isinstance(caught.value, TimeoutException) is (name != "read"), name

    command = await sandbox.commands.run("sleep 300", background=True)
    flood = await sandbox.commands.run("yes", background=True, timeout=0)
    reader = await sandbox.commands.run("cat", background=True, stdin=True)
    stdin = sandbox.commands.stream_input(reader.pid)
    await stdin.send("begun")
    pty = await sandbox.pty.create(PtySize(24, 80), on_data=lambda _: None)
    exits: asyncio.Queue[Exception | None] = asyncio.Queue()
    await sandbox.files.watch_dir("watched", lambda _: None, on_exit=exits.put_nowait, timeout=0)
    flood._stdout_chunks = []
    tasks = [
        asyncio.create_task(until_it_fails(name, action))
        for name, action in {
            "run": sandbox.commands.run("sleep 300"),
            "wait": command.wait(),
            "flood": flood.wait(),
            "pty": pty.wait(),
            "read": _read_slowly(sandbox),
            "write": sandbox.files.write("endless", _endless()),
        }.items()
    ]
    await asyncio.sleep(1)
    assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    started = time.monotonic()
    assert await sandbox.kill() is True
    await asyncio.wait_for(asyncio.gather(*tasks), SECONDS)
    assert isinstance(await asyncio.wait_for(exits.get(), SECONDS), TimeoutException)
    assert max(ended) - started < SECONDS
    for call in (stdin.close(), reader.wait(), sandbox.commands.list(), pty.kill()):
        with pytest.raises(SandboxNotRunningException):
            await asyncio.wait_for(call, SECONDS)
    assert await sandbox.is_running() is False


async def _read_slowly(sandbox: AsyncSandbox) -> None:
    async for _ in await sandbox.files.read("big", format="stream"):
        await asyncio.sleep(0.05)


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 10_000
        await asyncio.sleep(0.01)
