"""Starting programs as users of the sandbox, and hearing of their ends."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from code_interpreter.envd.spawner import Wanted, fork_spawner
from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.users import User

START_DEADLINE = 30.0
"""Seconds that a spawner has to answer."""
IDLE_SECONDS = 30.0
"""A spawner that nobody needs for so long is ended: it holds some memory."""
_RETRY = 0.002
_LONGEST_PAUSE = 0.1
"""Seconds before a command is given to the next spawner when one was killed."""
SEARCH_SECONDS = 0.1
"""For a program whose spawner was killed while it started it."""
_MESSAGE = 64 * 1024
Streams = tuple[int, int, int]


class _Interrupted(Exception):
    """The spawner was killed while it started the program, and did not live to tell its pid."""


class Child:
    """A started program."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._has_exited = False
        self._status: int | None = None
        self._on_exit: Callable[[int | None], None] | None = None

    def on_exit(self, call: Callable[[int | None], None]) -> None:
        """``call`` is given the wait(2) status, now if it has exited already.

        None where nobody knows it, because its spawner was killed before.
        """
        self._on_exit = call
        if self._has_exited:
            call(self._status)

    def exited(self, status: int | None) -> None:
        self._has_exited, self._status = True, status
        if self._on_exit is not None:
            self._on_exit(status)


class Starter:
    """One a server."""

    def __init__(self, launcher: Launcher, user_namespace: int | None) -> None:
        self._launcher = launcher
        self._user_namespace = user_namespace
        self._spawners: dict[User, _Spawner] = {}

    async def start(self, wanted: Wanted, user: User, streams: Streams) -> Child:
        """Its descriptors go on being the caller's.

        Raises OSError with the name of the program, or of the directory. However many
        spawners are killed meanwhile, no program is started twice.
        """
        pause = 0.0
        async with asyncio.timeout(START_DEADLINE):
            while True:
                try:
                    return await self._spawner(user).start(wanted, streams)
                except ConnectionResetError:  # killed before it began with this one
                    await asyncio.sleep(pause)
                    pause = min(_LONGEST_PAUSE, 2 * pause + _RETRY)

    def close(self) -> None:
        """What was started goes on; nobody hears of its end any more."""
        for spawner in self._spawners.values():
            spawner.close()

    def _spawner(self, user: User) -> _Spawner:
        spawner = self._spawners.get(user)
        if spawner is None or spawner.is_lost:
            spawner = self._spawners[user] = _Spawner(user, self._user_namespace)
        return spawner

    def start_with_terminal(self, wanted: Wanted, user: User, terminal: int) -> Child:
        """With ``terminal`` as its controlling terminal, which takes a fork of its own."""
        pid = self._launcher.start(
            wanted.argv,
            user=user,
            env=wanted.env,
            cwd=wanted.cwd,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            terminal=True,
        )
        child = Child(pid)
        _when_gone(pid, lambda: child.exited(os.waitpid(pid, 0)[1]))
        return child


class _Spawner:
    """This side of a `code_interpreter.envd.spawner`."""

    def __init__(self, user: User, user_namespace: int | None) -> None:
        self.is_lost = False
        self._ids = itertools.count()
        self._asked: dict[int, asyncio.Future[Child]] = {}
        self._taken: int | None = None
        """What it has begun to start, and not told of yet."""
        self._children: dict[int, Child] = {}
        self._pid, self._line = fork_spawner(user, user_namespace)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._line.fileno(), self._read)
        self._retirement: asyncio.TimerHandle | None = None

    async def start(self, wanted: Wanted, streams: Streams) -> Child:
        if self._retirement is not None:
            self._retirement.cancel()
        number, since = next(self._ids), time.clock_gettime(time.CLOCK_BOOTTIME)
        answer: asyncio.Future[Child] = self._loop.create_future()
        answer.add_done_callback(_look)
        self._asked[number] = answer
        file = wanted.to_file()
        try:
            async with asyncio.timeout(START_DEADLINE):
                await self._send(str(number).encode(), [file, *streams])
                return await answer
        except _Interrupted:
            return await self._find(wanted, since)
        finally:
            os.close(file)
            self._asked.pop(number, None)
            self._retire_if_idle()

    async def _find(self, wanted: Wanted, since: float) -> Child:
        """What a killed spawner has started.

        Where that is gone it has ended, with the spawner maybe, whose pid stands for the one
        that nobody knows.
        """
        deadline, pid = self._loop.time() + SEARCH_SECONDS, None
        while pid is None and self._loop.time() < deadline:
            await asyncio.sleep(_RETRY)
            pid = _orphan(wanted, since, self._children)
        child = Child(self._pid if pid is None else pid)
        _when_gone(child.pid, partial(child.exited, None))
        return child

    async def _send(self, message: bytes, descriptors: list[int]) -> None:
        while not self.is_lost:
            try:
                socket.send_fds(self._line, [message], descriptors)
            except BlockingIOError:
                await asyncio.sleep(_RETRY)
            except ConnectionError as error:
                self._read()  # what it said to the last, and its end
                raise _lost() from error
            else:
                return
        raise _lost()

    def _read(self) -> None:
        while not self.is_lost:
            try:
                message = self._line.recv(_MESSAGE)
            except BlockingIOError:
                return
            except ConnectionError:  # once, before what it still said
                continue
            if not message:
                self.close()
                return
            self._hear(json.loads(message))

    def _hear(self, message: dict[str, Any]) -> None:
        if "taken" in message:
            self._taken = message["taken"]
            return
        if "ended" in message:
            self._children.pop(message["ended"]).exited(message["status"])
            self._retire_if_idle()
            return
        self._taken = None
        answer = self._asked.get(message["id"])
        if "pid" in message:
            child = self._children[message["pid"]] = Child(message["pid"])
            if answer is None or answer.done():  # nobody waits for it any more
                os.kill(child.pid, signal.SIGKILL)
            else:
                answer.set_result(child)
        elif answer is not None and not answer.done():
            code = message["errno"]
            answer.set_exception(OSError(code, os.strerror(code), message["file"]))

    def _retire_if_idle(self) -> None:
        if not self._children and not self._asked:
            if self._retirement is not None:
                self._retirement.cancel()
            self._retirement = self._loop.call_later(IDLE_SECONDS, self.close)

    def close(self) -> None:
        """It is idle, or was killed, as everything of its user can be by that user."""
        if self.is_lost:
            return
        self.is_lost = True
        if self._retirement is not None:
            self._retirement.cancel()
        self._loop.remove_reader(self._line.fileno())
        self._line.close()
        _when_gone(self._pid, lambda: os.waitpid(self._pid, 0))
        for number, answer in self._asked.items():
            if not answer.done():
                answer.set_exception(_Interrupted() if number == self._taken else _lost())
        for child in self._children.values():
            _when_gone(child.pid, partial(child.exited, None))  # nobody will learn how it ends


def _look(answer: asyncio.Future[Child]) -> None:
    """Else asyncio complains of an error that came to somebody else's ears first."""
    if not answer.cancelled():
        answer.exception()


def _orphan(wanted: Wanted, since: float, known: Collection[int]) -> int | None:
    """The leader of a session that runs this program since then; ``since`` is of CLOCK_BOOTTIME."""
    line = b"".join(os.fsencode(word) + b"\0" for word in wanted.argv)
    earliest = int(since * os.sysconf("SC_CLK_TCK"))
    for pid in {int(name) for name in os.listdir("/proc") if name.isdigit()}.difference(known):
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() != line:
                continue
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) == pid and int(fields[19]) >= earliest:
            return pid
    return None


def _lost() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the process that starts commands was killed")


def _when_gone(pid: int, call: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        loop.call_soon(call)
        return

    def gone() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        call()

    loop.add_reader(descriptor, gone)
