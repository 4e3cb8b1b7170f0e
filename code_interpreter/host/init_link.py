"""Talking to the init of one box, over its unix socket."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

from code_interpreter.host.sockets import connect

INIT_SOCKET = "init.sock"
"""In the run directory of a box whose runtime has such an init."""
_MESSAGE = 1 << 20


async def ask_init(run_directory: Path, message: dict[str, Any]) -> dict[str, Any]:
    """Its answer: the words of a failure under ``error``.

    Raises OSError, and ValueError for what is no answer; deadlines are the caller's.
    """
    loop = asyncio.get_running_loop()
    peer = await connect(run_directory / INIT_SOCKET, socket.SOCK_SEQPACKET)
    with peer:
        await loop.sock_sendall(peer, json.dumps(message).encode())
        raw = await loop.sock_recv(peer, _MESSAGE)
    return _object(raw) if raw else {"error": "init ended"}


def _object(raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except RecursionError:
        raise ValueError("init's answer is nested too deeply") from None
    if not isinstance(answer, dict):
        raise ValueError("init's answer is no object")
    return answer
