"""The process that starts commands, by itself and without isolation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from code_interpreter.envd import starter as starter_module
from code_interpreter.envd.spawner import Wanted
from code_interpreter.envd.starter import Child, Starter
from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.users import User, current_user

KILLS = 20
USER: User = current_user(Path("/"))


Spawners = Callable[[], list[psutil.Process]]


@pytest.fixture
def spawners() -> Spawners:
    """Those that the test made; the host of other tests is a child of this process too."""
    before = psutil.Process().children()

    def made() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child not in before]

    return made


@pytest.fixture
async def starter(spawners: Spawners) -> AsyncIterator[Starter]:
    made = Starter(Launcher(None), None)
    yield made
    made.close()
    await until(lambda: spawners() == [])


async def start(starter: Starter, script: str, cwd: str = "/") -> Child:
    wanted = Wanted(("sh", "-c", script), {"PATH": os.environ["PATH"]}, cwd)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return await starter.start(wanted, USER, (null, null, null))
    finally:
        os.close(null)


async def end_of(child: Child) -> int | None:
    """Its exit code; None if nobody knows it."""
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    child.on_exit(ended.set_result)
    status = await asyncio.wait_for(ended, 10)
    return None if status is None else os.waitstatus_to_exitcode(status)


async def test_exit_codes(starter: Starter) -> None:
    children = [await start(starter, f"exit {code}") for code in range(20)]
    assert [await end_of(child) for child in children] == list(range(20))
    assert await end_of(await start(starter, "kill -TERM $$")) == -signal.SIGTERM


async def test_many_at_once(starter: Starter) -> None:
    children = await asyncio.gather(*[start(starter, f"exit {n % 100}") for n in range(300)])
    assert len({child.pid for child in children}) == 300
    codes = await asyncio.gather(*map(end_of, children))
    assert codes == [n % 100 for n in range(300)]


async def test_what_cannot_be_started(starter: Starter) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await start(starter, "true", cwd="/nowhere")
    assert caught.value.filename == "/nowhere"
    null = os.open(os.devnull, os.O_RDWR)
    with pytest.raises(FileNotFoundError) as caught:
        await starter.start(Wanted(("no-program",), {}, "/"), USER, (null, null, null))
    assert caught.value.filename == "no-program"
    too_much = Wanted(("true", "x" * 200_000), {"PATH": os.environ["PATH"]}, "/")
    with pytest.raises(OSError, match="Argument list too long"):
        await starter.start(too_much, USER, (null, null, null))
    os.close(null)
    assert await end_of(await start(starter, "exit 3")) == 3


async def test_a_lost_spawner(starter: Starter, spawners: Spawners) -> None:
    child = await start(starter, "sleep 0.3; exit 5")
    (spawner,) = spawners()
    spawner.kill()
    assert await end_of(await start(starter, "exit 4")) == 4
    assert await end_of(child) is None
    await until(lambda: len(spawners()) == 1)


async def test_spawners_that_are_killed_one_after_the_other(
    starter: Starter, spawners: Spawners, tmp_path: Path
) -> None:
    """No command is lost without a word, and none runs twice."""
    going_on = True

    async def run(name: str) -> bool:
        """Whether it ended well."""
        child = await start(starter, f"echo {name} >> {tmp_path}/{name}")
        return await end_of(child) == 0

    async def keep_running(worker: int) -> list[tuple[str, bool]]:
        seen: list[tuple[str, bool]] = []
        while going_on:
            name = f"{worker}-{len(seen)}"
            seen.append((name, await run(name)))
        return seen

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        workers = [group.create_task(keep_running(worker)) for worker in range(4)]
        for _ in range(KILLS):
            await until(lambda: spawners() != [])
            for spawner in spawners():
                with contextlib.suppress(psutil.NoSuchProcess):
                    spawner.kill()
            await asyncio.sleep(0.02)
        going_on = False
    seen = dict(each for worker in workers for each in worker.result())
    ran = {file.name: file.read_text().split() for file in tmp_path.iterdir()}
    assert all(lines in ([], [name]) for name, lines in ran.items()), "none ran twice"
    assert {name for name, well in seen.items() if well} <= ran.keys()
    assert len(seen) > KILLS
    assert await end_of(await start(starter, "exit 7")) == 7


async def test_a_program_whose_spawner_is_killed_meanwhile(
    starter: Starter, spawners: Spawners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its spawner did not live to tell its pid: it is found, or is as dead."""
    monkeypatch.setattr(starter_module._Spawner, "_hear", _hear_no_pid)
    starting = asyncio.create_task(start(starter, "sleep 5"))
    await asyncio.sleep(0.3)
    (spawner,) = spawners()
    spawner.kill()
    child = await starting
    assert psutil.Process(child.pid).cmdline() == ["sh", "-c", "sleep 5"]
    os.kill(child.pid, signal.SIGKILL)
    assert await end_of(child) is None
    starting = asyncio.create_task(start(starter, "true"))
    await asyncio.sleep(0.3)
    (spawner,) = spawners()
    spawner.kill()
    assert await end_of(await starting) is None


def _hear_no_pid(spawner: starter_module._Spawner, message: dict[str, int]) -> None:
    if "taken" in message:
        spawner._taken = message["taken"]


async def test_an_idle_spawner_is_ended(
    starter: Starter, spawners: Spawners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter_module, "IDLE_SECONDS", 0.2)
    child = await start(starter, "sleep 0.6")
    await asyncio.sleep(0.4)
    assert len(spawners()) == 1
    assert await end_of(child) == 0
    await until(lambda: spawners() == [])
    assert await end_of(await start(starter, "exit 6")) == 6


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)
