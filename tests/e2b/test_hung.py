"""A sandbox whose envd, gateway or init hangs: an error in time, whatever is asked of it."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import e2b
import psutil
import pytest
from e2b import AsyncSandbox, PtySize, Sandbox, SandboxUnreachableException, TimeoutException

import code_interpreter
from tests.envd.supervisors import processes
from tests.service import Service, running_service

PATIENCE = 3.0
DEADLINE = 20.0
INIT, GATEWAY, ENVD = "init", "gateway", "envd"
interpreter: Any = importlib.import_module("e2b_code_interpreter")
pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root, to stop processes of a sandbox"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def host(service: Service) -> Iterator[Service]:
    """Asking for the shared host makes sure that the template is there."""
    with running_service(
        CODE_INTERPRETER_GUEST_PATIENCE=str(PATIENCE), CODE_INTERPRETER_POOL_SIZE="1"
    ) as running:
        yield running


@contextmanager
def stopped(sandbox_id: str, *names: str) -> Iterator[None]:
    """Supervisors of a sandbox stand still, as if they hung."""
    found = dict(zip((INIT, GATEWAY, ENVD), processes(sandbox_id), strict=True))
    for name in names:
        found[name].send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            _go_on(found[name])


def _go_on(process: psutil.Process) -> None:
    if process.is_running():
        process.send_signal(signal.SIGCONT)


async def test_envd(host: Service) -> None:
    """Whatever is under way, and whatever comes later; and it goes on when envd does."""
    box = await AsyncSandbox.create(timeout=300, **host.options)
    try:
        under_way = await box.commands.run("sleep 300; echo done", background=True, timeout=0)
        spared = await box.commands.run("sleep 300", background=True, timeout=0)
        pty = await box.pty.create(PtySize(24, 80), on_data=lambda _: None, timeout=0)
        with stopped(box.sandbox_id, ENVD):
            asked = {
                "wait": under_way.wait(),
                "pty": pty.wait(),
                "run": box.commands.run("true", timeout=0),
                "read": box.files.read("/etc/passwd"),
                "write": box.files.write("file", "x"),
                "list": box.files.list("/"),
                "processes": box.commands.list(),
                "kill": box.commands.kill(under_way.pid),
            }
            seen = await asyncio.wait_for(
                asyncio.gather(*asked.values(), return_exceptions=True), DEADLINE
            )
            kinds = dict(zip(asked, map(type, seen), strict=True))
            assert set(kinds.values()) == {SandboxUnreachableException}, seen
            started = time.monotonic()
            with pytest.raises(SandboxUnreachableException, match="hangs"):
                await box.files.list("/")
            assert time.monotonic() - started < PATIENCE / 2, "it is known by now"
            assert box.sandbox_id in [
                each.sandbox_id for each in await AsyncSandbox.list(**account(host)).next_items()
            ]
        await until_well(box)
        assert spared.pid in [each.pid for each in await box.commands.list()]
    finally:
        assert await box.kill() is True


async def until_well(box: AsyncSandbox) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await box.commands.run("true")
            except TimeoutException:
                await asyncio.sleep(0.2)
            else:
                return


def account(host: Service) -> dict[str, Any]:
    return {"api_key": host.key, "api_url": host.url}


def test_the_gateway(host: Service) -> None:
    """Through E2B's interpreter, and through ours; kernels keep their state meanwhile."""
    theirs = interpreter.Sandbox.create(timeout=300, **host.options)
    try:
        theirs.run_code("kept = 21")
        ours = code_interpreter.Sandbox.connect(theirs.sandbox_id, **host.options)
        with stopped(theirs.sandbox_id, GATEWAY):
            started = time.monotonic()
            with pytest.raises(TimeoutException, match="hangs"):
                theirs.run_code("kept")
            with pytest.raises(TimeoutException):
                ours.run_code("kept")
            assert time.monotonic() - started < DEADLINE
            assert theirs.commands.run("echo fine").stdout == "fine\n"
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                assert ours.run_code("kept").text == "21"
                return
            except TimeoutException:
                assert time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        theirs.kill()


async def test_the_gateway_while_a_cell_is_silent(
    host: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for it hears that it hangs, long before the cell's own time-out."""
    monkeypatch.setattr("code_interpreter.link.SILENT_SECONDS", 0.5)
    monkeypatch.setattr("code_interpreter.link.RECONNECT_SECONDS", 1.0)
    theirs = await interpreter.AsyncSandbox.create(timeout=300, **host.options)
    try:
        ours = await code_interpreter.AsyncSandbox.connect(theirs.sandbox_id, **host.options)
        same = code_interpreter.Sandbox.connect(theirs.sandbox_id, **host.options)
        contexts = [await theirs.create_code_context() for _ in range(3)]
        silent = "import time; time.sleep(120)"
        waiting = [
            asyncio.create_task(theirs.run_code(silent, context=contexts[0], timeout=200)),
            asyncio.create_task(ours.run_code(silent, context=contexts[1].id, timeout=200)),
            asyncio.create_task(
                asyncio.to_thread(same.run_code, silent, context=contexts[2].id, timeout=200)
            ),
        ]
        await asyncio.sleep(1.5)
        assert not any(task.done() for task in waiting), waiting
        with stopped(theirs.sandbox_id, GATEWAY):
            ended = await asyncio.wait_for(
                asyncio.gather(*waiting, return_exceptions=True), DEADLINE
            )
        assert all(isinstance(each, Exception) for each in ended), ended
    finally:
        await theirs.kill()


def test_everything_and_the_end(host: Service) -> None:
    """Also with init: it is killed all the same, and others are made."""
    box = Sandbox.create(timeout=300, **host.options)
    with stopped(box.sandbox_id, INIT, GATEWAY, ENVD):
        started = time.monotonic()
        with pytest.raises(SandboxUnreachableException, match="hangs"):
            box.files.read("/etc/passwd")
        with Sandbox.create(**host.options) as other:
            assert other.commands.run("echo well").stdout == "well\n"
        assert box.get_info().state is e2b.SandboxState.RUNNING
        assert box.kill() is True
        assert box.is_running() is False
        assert time.monotonic() - started < DEADLINE
