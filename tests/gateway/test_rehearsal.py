"""What a gateway does ahead leaves nothing behind but warm memory."""

from __future__ import annotations

from pathlib import Path

import psutil
import zmq
from tornado.httpserver import HTTPServer

from code_interpreter.gateway.main import make_application, make_gateway
from code_interpreter.gateway.rehearsal import rehearse
from code_interpreter.guest.config import GuestConfig

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
        await rehearse(server, sockets, tmp_path)
        before = psutil.Process().num_fds()
        for _ in range(5):
            await rehearse(server, sockets, tmp_path)
        await server.close_all_connections()
        assert psutil.Process().num_fds() <= before + 2
        assert list(tmp_path.glob("**/k-*")) == []
        assert not any(context.has_kernel for context in gateway.contexts())
        await gateway.close()
