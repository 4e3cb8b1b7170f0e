"""The host's end of a template's fork server (`guest/forkserver.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from code_interpreter.host.runtimes.base import RuntimeFailure
from code_interpreter.protocol.boxes import ViewConfig

WARM_UP_DEADLINE = 120.0
"""Seconds to import everything; a cold disk is slow."""
ANSWER_DEADLINE = 30.0
_MESSAGE = 1 << 20
_PACKAGE_PARENT = Path(__file__).resolve().parents[3]


class ForkServerClient:
    """Starts the fork server, asks it for boxes, and starts it again when it has died."""

    def __init__(self, config: ViewConfig, log: Path) -> None:
        self._config = config
        self._warm_up_deadline = WARM_UP_DEADLINE * config.slowness
        self._answer_deadline = ANSWER_DEADLINE * config.slowness
        self._log = log
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._given_up = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Returns when it is ready to fork. Raises `RuntimeFailure` with its own words."""
        async with self._starting:
            if not self._is_ready():
                self._check_wanted()
                await self._start()

    def give_up(self) -> None:
        """One that is not ready never will be; one that is goes on until `stop`."""
        self._given_up = True
        if not self._is_ready() and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    def _is_ready(self) -> bool:
        return self._reader is not None and not self._reader.done()

    def _check_wanted(self) -> None:
        if self._given_up:
            raise RuntimeFailure("this host is stopping")

    async def _start(self) -> None:
        await self._end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        config = replace(self._config, socket_fd=theirs.fileno())
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(_PACKAGE_PARENT),
        }
        with self._log.open("ab") as log, theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "code_interpreter.guest.view", config.dump()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._socket = ours
        self._check_wanted()
        try:
            async with asyncio.timeout(self._warm_up_deadline):
                first = await self._receive()
        except TimeoutError:
            await self._end()
            raise RuntimeFailure(
                f"the fork server was not ready after {self._warm_up_deadline:g} seconds: on a "
                "machine that needs longer, set CODE_INTERPRETER_SLOWNESS to 2 or more"
            ) from None
        except OSError as error:
            await self._end()
            raise RuntimeFailure(f"the fork server did not start: {error!r}") from error
        if "ready" not in first:
            await self._end()
            self._check_wanted()
            raise RuntimeFailure(
                "the fork server did not start: "
                + (first.get("error") or f"see the end of {self._log}:\n{_tail(self._log)}")
            )
        self._reader = asyncio.create_task(self._read(), name="fork server answers")

    async def _receive(self) -> dict[str, Any]:
        assert self._socket is not None
        message = await asyncio.get_running_loop().sock_recv(self._socket, _MESSAGE)
        answer: dict[str, Any] = json.loads(message) if message else {}
        return answer

    async def _read(self) -> None:
        try:
            while answer := await self._receive():
                waiting = self._answers.pop(answer["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except OSError:
            pass
        finally:
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(RuntimeFailure("the fork server ended"))
            self._answers.clear()

    async def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer. Raises `RuntimeFailure`."""
        await self.start()
        assert self._socket is not None
        number = next(self._numbers)
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = waiting
        message = json.dumps({**request, "id": number}).encode()
        try:
            async with asyncio.timeout(self._answer_deadline):
                await asyncio.get_running_loop().sock_sendall(self._socket, message)
                answer = await waiting
        except (TimeoutError, OSError) as error:
            raise RuntimeFailure(f"the fork server did not answer: {error!r}") from error
        finally:
            self._answers.pop(number, None)
        if "error" in answer:
            raise RuntimeFailure(f"the sandbox could not be made: {answer['error']}")
        return answer

    async def stop(self) -> None:
        async with self._starting:
            await self._end()

    async def _end(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
        self._process = None


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-8:])
    return ""
