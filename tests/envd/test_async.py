"""What only E2B's asynchronous Python client does, or does differently."""

from __future__ import annotations

import asyncio
import secrets
import time

import pytest
from e2b import (
    AsyncSandbox,
    CommandExitException,
    NotFoundException,
    PtySize,
    SandboxException,
    TimeoutException,
)


async def test_a_command(async_sandbox: AsyncSandbox) -> None:
    pieces: list[str] = []

    async def take(text: str) -> None:
        pieces.append(text)

    done = await async_sandbox.commands.run("echo out; echo err >&2", on_stdout=take)
    assert (done.stdout, done.stderr, pieces) == ("out\n", "err\n", ["out\n"])
    with pytest.raises(CommandExitException) as caught:
        await async_sandbox.commands.run("exit 5")
    assert caught.value.exit_code == 5


async def test_a_stream_of_input(async_sandbox: AsyncSandbox) -> None:
    handle = await async_sandbox.commands.run("cat", background=True, stdin=True)
    async with async_sandbox.commands.stream_input(handle.pid) as stdin:
        for number in range(1000):
            await stdin.send(f"{number}\n")
    await handle.close_stdin()
    done = await handle.wait()
    assert done.stdout == "".join(f"{number}\n" for number in range(1000))


async def test_input_as_it_is_typed(async_sandbox: AsyncSandbox) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()
    handle = await async_sandbox.commands.run(
        "cat", background=True, stdin=True, on_stdout=seen.put_nowait
    )
    async with async_sandbox.commands.stream_input(handle.pid) as stdin:
        for word in ("one", "two", "three"):
            await stdin.send(word)
            assert await asyncio.wait_for(seen.get(), 5) == word
    await handle.kill()


async def test_a_stream_of_input_for_a_terminal(async_sandbox: AsyncSandbox) -> None:
    output = bytearray()
    handle = await async_sandbox.pty.create(PtySize(24, 80), on_data=output.extend)
    async with async_sandbox.pty.stream_input(handle.pid) as keys:
        for key in b"echo typed-$((6*7)); exit\n":
            await keys.send(bytes([key]))
    await handle.wait()
    assert b"typed-42\r\n" in output


async def test_a_stream_of_input_for_nobody(async_sandbox: AsyncSandbox) -> None:
    stdin = async_sandbox.commands.stream_input(999_999)
    with pytest.raises(NotFoundException, match="process with pid 999999 not found"):
        await stdin.close()


async def test_a_stream_of_input_of_the_wrong_kind(async_sandbox: AsyncSandbox) -> None:
    handle = await async_sandbox.commands.run("sleep 100", background=True, stdin=True)
    keys = async_sandbox.pty.stream_input(handle.pid)
    await keys.send(b"x")
    with pytest.raises(SandboxException, match="has no terminal"):
        await keys.close()
    await handle.kill()


async def test_leaving_and_coming_back(async_sandbox: AsyncSandbox) -> None:
    handle = await async_sandbox.commands.run("sleep 1; echo done", background=True)
    await handle.disconnect()
    again = await async_sandbox.commands.connect(handle.pid)
    assert (await again.wait()).stdout == "done\n"


async def test_the_time_out(async_sandbox: AsyncSandbox) -> None:
    with pytest.raises(TimeoutException):
        await async_sandbox.commands.run("sleep 100", timeout=0.5)
    async with asyncio.timeout(5):
        while await async_sandbox.commands.list():
            await asyncio.sleep(0.02)


async def test_many_things_at_once(async_sandbox: AsyncSandbox) -> None:
    content = secrets.token_bytes(100_000)

    async def one(number: int) -> None:
        path = f"many/{number}"
        await async_sandbox.files.write(path, content)
        done = await async_sandbox.commands.run(f"wc -c < {path}; echo {number}")
        assert done.stdout.split() == ["100000", str(number)]
        assert await async_sandbox.files.read(path, format="bytes") == content

    await asyncio.gather(*map(one, range(40)))


async def test_a_stream_down(async_sandbox: AsyncSandbox) -> None:
    content = secrets.token_bytes(5_000_000)
    await async_sandbox.files.write("big", content)
    pieces = [piece async for piece in await async_sandbox.files.read("big", format="stream")]
    assert b"".join(pieces) == content


async def test_whoever_does_not_read_holds_up_nobody(async_sandbox: AsyncSandbox) -> None:
    """One client's full stream is no reason for another's commands to be slow."""
    handle = await async_sandbox.commands.run("yes", background=True, timeout=0)
    started = time.monotonic()
    for _ in range(20):
        await async_sandbox.commands.run("true")
    assert time.monotonic() - started < 10
    await handle.kill()
