"""What a gateway does ahead leaves nothing behind but warm memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import zmq
from tornado.httpserver import HTTPServer

from code_interpreter.gateway.main import make_application, make_gateway
from code_interpreter.gateway.rehearsal import rehearse
from code_interpreter.guest.config import GuestConfig
from tests.gateway.world import World

KERNELSPECS = Path(__file__).parents[2]


async def test_no_descriptor_no_file_and_no_context_is_left(tmp_path: Path) -> None:
    config = GuestConfig(
        isolated=False,
        home=str(tmp_path),
        state_directory=str(tmp_path),
        jupyter_path=str(KERNELSPECS),
    )
    with zmq.Context() as sockets:
        gateway = make_gateway(config, sockets)
        server = HTTPServer(make_application(gateway))
        threads = psutil.Process().num_threads()
        await rehearse(server, sockets, tmp_path)
        assert psutil.Process().num_threads() > threads, "its sockets' threads run"
        before = psutil.Process().num_fds()
        for _ in range(5):
            await rehearse(server, sockets, tmp_path)
        await server.close_all_connections()
        assert psutil.Process().num_fds() <= before + 2
        assert list(tmp_path.glob("**/k-*")) == []
        assert not any(context.has_kernel for context in gateway.contexts())
        await gateway.close()


async def test_a_gateway_that_waits_to_be_introduced_does_so(world: World) -> None:
    gateway = psutil.Process(world.process.pid)
    threads = gateway.num_threads()
    async with asyncio.timeout(20):
        while gateway.num_threads() == threads:
            await asyncio.sleep(0.05)
    async with world.client() as client:
        specs = (await client.get("/api/kernelspecs")).json()["kernelspecs"]
    assert not [name for name in specs if name.startswith("live-")], "no kernel was started"
