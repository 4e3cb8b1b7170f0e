"""More connections than there is room for: who goes, and what the others notice."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from code_interpreter.host.edge_address import ENVD_PORT
from code_interpreter.host.edge_crowd import Crowd, Mood, Shares
from code_interpreter.host.edge_http import MAX_HEAD_BYTES
from tests.host.edge_world import BOX, World, world_in
from tests.host.running import RunningHost, running_host

pytestmark = pytest.mark.security
PART = b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-Part: "


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as world:
        yield world


# --- who goes ---------------------------------------------------------------------------


@dataclass(eq=False)
class Guest:
    peer: str
    number: int
    turned_away: bool = False

    def turn_away(self) -> None:
        self.turned_away = True


class Guests(RuleBasedStateMachine):
    """A crowd of at most six, two of them slow, against a list."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd: Crowd[Guest] = Crowd()
        self.crowd.most, self.crowd.most_slow = 6, 2
        self.moods: dict[Guest, Mood] = {}
        self.number = 0

    def staying(self, mood: Mood) -> list[Guest]:
        return [guest for guest, its in self.moods.items() if its is mood]

    def take_note_of_leaving(self) -> None:
        for guest in self.moods:
            if guest.turned_away:
                self.moods[guest] = Mood.LEAVING

    @rule(peer=st.sampled_from("ab"))
    def come(self, peer: str) -> None:
        self.number += 1
        guest = Guest(peer, self.number)
        full = len(self.moods) - len(self.staying(Mood.LEAVING)) >= 6
        useless = self.staying(Mood.SLOW) or self.staying(Mood.IDLE)
        admitted = self.crowd.admit(guest)
        assert admitted == (not full or bool(useless))
        self.moods[guest] = Mood.IDLE if admitted else Mood.LEAVING
        before = len(self.staying(Mood.LEAVING))
        self.take_note_of_leaving()
        assert len(self.staying(Mood.LEAVING)) - before == (full and admitted)

    @rule(data=st.data(), mood=st.sampled_from([Mood.IDLE, Mood.BUSY, Mood.SLOW]))
    def change(self, data: st.DataObject, mood: Mood) -> None:
        if self.moods:
            guest = data.draw(st.sampled_from(list(self.moods)))
            self.crowd.note(guest, mood)
            if self.moods[guest] is not Mood.LEAVING:
                self.moods[guest] = mood
            self.take_note_of_leaving()

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        if self.moods:
            guest = data.draw(st.sampled_from(list(self.moods)))
            self.crowd.discard(guest)
            del self.moods[guest]

    @invariant()
    def is_bounded(self) -> None:
        assert set(self.crowd) == set(self.moods)
        assert len(self.moods) - len(self.staying(Mood.LEAVING)) <= 6
        assert len(self.staying(Mood.SLOW)) <= 2
        assert not [guest for guest in self.staying(Mood.BUSY) if guest.turned_away]


TestGuests = Guests.TestCase
TestGuests.settings = settings(max_examples=100, deadline=None)


def test_who_has_most_loses_the_oldest() -> None:
    crowd: Crowd[Guest] = Crowd()
    crowd.most_slow = 4
    guests = [Guest(peer, number) for number, peer in enumerate("baaaa")]
    for guest in guests:
        assert crowd.admit(guest)
        crowd.note(guest, Mood.SLOW)
    assert [guest.number for guest in guests if guest.turned_away] == [1]


# --- what is noticed --------------------------------------------------------------------


async def test_half_sent_requests_are_turned_away(world: World) -> None:
    world.edge._clients.most_slow = 20
    slow = [await world.connect() for _ in range(300)]
    for _, writer in slow:
        writer.write(PART)
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}") as client:
        assert (await client.get("/x")).status_code == 200
    assert loop.time() - started < 8
    answers = []
    for reader, _ in slow[:280]:
        async with asyncio.timeout(5):
            answers.append(await reader.read())
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
    assert all(b"\r\nretry-after: 1\r\n" in answer for answer in answers)
    for _, writer in slow[280:]:
        writer.write(b"x\r\n\r\n")
    for reader, _ in slow[280:]:
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    for _, writer in slow:
        writer.close()


async def test_idle_connections_make_room(world: World) -> None:
    world.edge._clients.most = 50
    idle = [await world.connect() for _ in range(200)]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}") as client:
        assert (await client.get("/x")).status_code == 200
    assert len(world.edge._clients) <= 50
    async with asyncio.timeout(5):
        assert await idle[0][0].read() == b"", "closed without a word: it had asked nothing"
    for _, writer in idle:
        writer.close()


async def test_with_all_at_work_a_newcomer_is_told_to_come_again(world: World) -> None:
    world.edge._clients.most = 20
    busy = [await world.connect() for _ in range(20)]
    for _, writer in busy:
        writer.write(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while world.forwarded() < 20:
        await asyncio.sleep(0.01)
    reader, newcomer = await world.connect()
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert world.forwarded() == 20
    for writer in (newcomer, *(writer for _, writer in busy)):
        writer.close()


async def test_one_sandbox_does_not_take_every_connection(world: World) -> None:
    world.edge._clients.shares = shares = Shares(3)
    world.table.routes["i2other"] = replace(world.table.routes[BOX], sandbox_id="i2other")
    named = f"E2b-Sandbox-Id: {BOX}\r\nE2b-Sandbox-Port: {ENVD_PORT}\r\n"
    head = f"GET /hang HTTP/1.1\r\nHost: localhost\r\n{named}\r\n"
    busy = [await world.connect() for _ in range(3)]
    for _, writer in busy:
        writer.write(head.encode())
    while world.forwarded() < 3:
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}") as client:
        refused = await client.get("/x", headers=world.box_headers(ENVD_PORT))
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert "3 requests and WebSockets" in refused.json()["message"]
        for headers in ({}, world.box_headers(ENVD_PORT, "i2other")):
            assert (await client.get("/x", headers=headers)).status_code == 200
        busy[0][1].close()
        async with asyncio.timeout(5):
            while (await client.get("/x", headers=world.box_headers(ENVD_PORT))).is_error:
                await asyncio.sleep(0.01)
    for _, writer in busy:
        writer.close()
    async with asyncio.timeout(5):
        while shares._held:
            await asyncio.sleep(0.01)


async def test_who_never_says_anything_is_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from code_interpreter.host import edge_client

    monkeypatch.setattr(edge_client, "SILENT_SECONDS", 0.2)
    reader, writer = await world.connect()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


@contextlib.contextmanager
def _many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_memory_of_a_host_with_thousands_of_half_sent_requests() -> None:
    with running_host() as host, _many_descriptors(), contextlib.ExitStack() as opened:
        address = ("127.0.0.1", httpx.URL(host.url).port or 0)
        before = _memory_of_healthy(host)
        for _ in range(3000):
            connection = opened.enter_context(socket.create_connection(address))
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # turned away already
                connection.send(PART + b"x" * (MAX_HEAD_BYTES - 1000))
        grown = _memory_of_healthy(host) - before
        assert grown < 40 * 2**20, f"{grown >> 20} MiB more"


def _memory_of_healthy(host: RunningHost) -> int:
    """Resident bytes of a host that answers soon."""
    started = time.monotonic()
    with host.http() as client:
        assert client.get("/health").status_code == 204
    assert time.monotonic() - started < 5
    return int(psutil.Process(host.process.pid).memory_info().rss)
