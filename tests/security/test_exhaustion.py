"""More sandboxes, contexts and connections than there is room for, and what is left of them.

Ten thousand of each: ``pytest -m slow tests/security/test_exhaustion.py``, some twenty minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import httpx
import pytest

from code_interpreter import Sandbox
from tests.service import NOTHING_AHEAD, Service
from tests.soak.world import (
    CLEAN_DEADLINE,
    MORE_DESCRIPTORS,
    Vitals,
    World,
    new_world,
    until,
)

pytestmark = [
    pytest.mark.security,
    pytest.mark.usefixtures("service"),
]
MOST_CONTEXTS = 100
MOST_WEBSOCKETS = 2048
"""Of one sandbox; on a host with enough descriptors for all."""
AT_ONCE = 20
"""Requests."""
SOON = 60.0


@dataclass(frozen=True)
class Flood:
    creates: int
    contexts: int
    websockets: int


FLOODS = [
    pytest.param(Flood(60, 10, 200), id="some", marks=pytest.mark.timeout(240)),
    pytest.param(
        Flood(10_000, 10_000, 10_000),
        id="many",
        marks=[pytest.mark.slow, pytest.mark.timeout(3600)],
    ),
]


@pytest.mark.parametrize("flood", FLOODS)
async def test_nothing_is_left_of_too_many(flood: Flood) -> None:
    settings = {**NOTHING_AHEAD, "CODE_INTERPRETER_MAX_SANDBOXES": "2"}
    with new_world(CODE_INTERPRETER_POOL_SIZE="0", **settings) as world:
        with Sandbox.create(**world.options) as first:
            first.run_code("1")
        world.until_clean()
        lasting = {**world.options, "timeout": 3600}
        fresh = world.vitals()
        one, other = (Sandbox.create(**lasting) for _ in range(2))
        async with _websockets(world, other, flood.websockets):
            pass
        before = replace(fresh, host_bytes=await _memory_kept(world, fresh))
        await _create_too_many(world, flood.creates)
        await _make_contexts(world, one, flood.contexts)
        async with _websockets(world, other, flood.websockets):
            ran = await asyncio.to_thread(one.run_code, "6 * 7", timeout=SOON)
            assert ran.text == "42"
            assert httpx.get(f"{world.host.url}/health", timeout=SOON).is_success
        assert one.kill()
        assert other.kill()
        world.check(before)
        with Sandbox.create(**world.options) as last:
            assert last.run_code("6 * 7").text == "42"
        world.check(before)


PIPES = """
import fcntl, os
held = []
try:
    while len(held) < 1000:
        held.append(os.pipe())
        fcntl.fcntl(held[-1][0], fcntl.F_SETPIPE_SZ, 1 << 20)
except OSError as error:
    print(error.errno == 1)
"""


def test_large_pipes_keep_no_kernel_from_starting(service: Service) -> None:
    """Linux counts them by user: all contexts of a sandbox have one supply (pipe(7))."""
    with Sandbox.create(timeout=120, **service.options) as box:
        assert box.run_code(PIPES).logs.stdout == ["True\n"]
        for language in ("python", "bash"):
            context = box.create_code_context(language=language)
            ran = box.run_code("echo 42" if language == "bash" else "print(42)", context=context)
            assert ran.logs.stdout == ["42\n"], ran.error
        with Sandbox.create(timeout=120, **service.options) as other:
            assert other.run_code("6 * 7", context=other.create_code_context()).text == "42"


Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


async def _many(world: World, count: int, ask: Ask) -> list[httpx.Response]:
    """The answers to so many requests, some of them at a time."""
    answers: list[httpx.Response] = []
    async with httpx.AsyncClient(base_url=world.host.url, timeout=SOON, trust_env=False) as client:
        while len(answers) < count:
            now = min(AT_ONCE, count - len(answers))
            answers += await asyncio.gather(*(ask(client) for _ in range(now)))
    return answers


async def _memory_kept(world: World, fresh: Vitals) -> int:
    """Bytes of the host when connections have ended: its allocator keeps what they had taken,
    for the next ones. What more there is after those would be a leak."""
    most = fresh.descriptors + MORE_DESCRIPTORS
    await asyncio.to_thread(until, lambda: world.vitals().descriptors <= most, CLEAN_DEADLINE)
    return world.vitals().host_bytes


async def _create_too_many(world: World, count: int) -> None:
    headers, body = {"X-API-KEY": world.host.key}, {"templateID": "base"}
    for answer in await _many(
        world, count, lambda client: client.post("/sandboxes", headers=headers, json=body)
    ):
        assert answer.status_code == 429, answer.text
        assert int(answer.headers["Retry-After"]) > 0


async def _make_contexts(world: World, box: Sandbox, count: int) -> None:
    """Some are made; all others are refused, with a word on why."""
    headers = _gateway_of(box)
    answers = await _many(
        world, count, lambda client: client.post("/contexts", headers=headers, json={})
    )
    statuses = Counter(answer.status_code for answer in answers)
    had = MOST_CONTEXTS - statuses[200]
    assert had >= 0
    if count > MOST_CONTEXTS:
        assert statuses.keys() == {200, 429}
        assert had <= 2, "the default contexts"
    for answer in answers:
        assert answer.status_code == 200 or int(answer.headers["Retry-After"]) > 0


@contextlib.asynccontextmanager
async def _websockets(world: World, box: Sandbox, count: int) -> AsyncIterator[None]:
    """They say nothing; what one sandbox may have of them is there, the others are refused."""
    port = httpx.URL(world.host.url).port or 0
    named = "".join(f"{name}: {value}\r\n" for name, value in _gateway_of(box).items())
    statuses: Counter[str] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.push_async_callback(_close, writer)
            writer.write((UPGRADE + named + "\r\n").encode())
            async with asyncio.timeout(SOON):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            statuses[head.split()[1]] += 1
            assert " 101 " in head or "\r\nretry-after: " in head.lower(), head
        there = min(count, MOST_WEBSOCKETS)
        assert statuses == {"101": there} | ({"429": count - there} if count > there else {})
        yield


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _gateway_of(box: Sandbox) -> dict[str, str]:
    return {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49999"}


UPGRADE = (
    "GET /v1/executions HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: code-interpreter.v1\r\n"
)
