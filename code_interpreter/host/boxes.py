"""Making boxes and doing away with them, without leaving anything behind."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import string
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from code_interpreter.host.errors import NotFound, NotStored
from code_interpreter.host.guest_link import GuestLink, GuestUnreachable
from code_interpreter.host.processes import is_alive
from code_interpreter.host.records import Phase, Record
from code_interpreter.host.registry import Registry
from code_interpreter.host.runtimes.base import (
    GATEWAY_SOCKET,
    Box,
    Limits,
    RuntimeFailure,
    SandboxRuntime,
    SandboxSpec,
)
from code_interpreter.host.tasks import Tasks

INTRODUCTION_DEADLINE = 60.0
"""Seconds that envd and the gateway of a new box have for their first answer."""
SETTLING_DEADLINE = 1.0
"""Seconds that a new sandbox's first kernel keeps others from being made."""
ANNOUNCEMENT_DEADLINE = 0.5
"""Seconds for the gateway to hear of a pause."""
REMOVAL_RETRY = 10.0
"""Seconds after which the removal of what a sandbox left is tried again."""
MAKING_DEADLINE = 60.0
"""Seconds that a stopping host gives to boxes that are being made."""
NO_PID = 4_194_305
"""Above PID_MAX_LIMIT (proc(5)): the pid of no process."""
_ALPHABET = string.ascii_lowercase + string.digits
_log = logging.getLogger(__name__)


class Prepared(Protocol):
    """A template whose files are on this machine."""

    @property
    def directory(self) -> Path:
        """The files. Templates with the same directory differ in nothing but their name."""


class Templates(Protocol):
    """The templates that this host knows."""

    def names(self) -> Collection[str]:
        """Names that a sandbox can be made from."""

    async def prepare(self, name: str, progress: Callable[[str], None]) -> Prepared:
        """Have the template's files on this machine. Raises `RuntimeFailure`."""

    async def remove_unused(self) -> None:
        """Remove what was prepared once and is not used any more. Raises `RuntimeFailure`.

        To be called while no sandbox of an earlier host lives: it may have been made from it.
        """


def new_sandbox_id() -> str:
    """E2B's form: an ``i``, then lower-case letters and digits; no ``-`` (host names)."""
    return "i" + "".join(secrets.choice(_ALPHABET) for _ in range(20))


def new_token() -> str:
    """What opens a sandbox."""
    return secrets.token_hex(32)


def check_template(templates: Templates, name: str) -> str:
    """The template's plain name. Raises `NotFound`."""
    plain = name.lower().removesuffix(":default")
    if plain not in templates.names():
        known = ", ".join(sorted(templates.names()))
        raise NotFound(f"template {name!r} was not found; this host has: {known}")
    return plain


class Boxes:
    """Makes boxes and ends them.

    A record in the phase CREATING is stored before a box is made, so that a host that
    dies half-way leads its successor to what there is to clean up.
    """

    def __init__(
        self,
        runtime: SandboxRuntime,
        templates: Templates,
        registry: Registry,
        tasks: Tasks,
        run_root: Path,
        *,
        slowness: float = 1.0,
    ) -> None:
        self._runtime = runtime
        self._templates = templates
        self._registry = registry
        self._tasks = tasks
        self._run_root = run_root
        self._making = Tasks()
        self._slowness = slowness
        self.removals = 0
        """Of ended sandboxes, under way."""
        self._turns = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._waiting = 0
        """For a turn."""
        self.furnished: dict[str, tuple[Record, Path]] = {}
        """Boxes without a kernel, which nobody has been told of, by sandbox id, the oldest first;
        with their template's files."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[list[Record]]:
        """For who makes a box and introduces it: as many at once as there are cores.

        More would not be done sooner, but all of them late. While others wait, the turn of a
        record that is put into the list lasts until its first kernel is there: its user waits
        for no more than that, and is first.
        """
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        made: list[Record] = []
        try:
            yield made
        finally:
            if made and self._waiting:
                self._tasks.spawn(self._end_turn(made[0]), f"turn of {made[0].sandbox_id}")
            else:
                self._turns.release()

    async def _end_turn(self, record: Record) -> None:
        try:
            async with asyncio.timeout(SETTLING_DEADLINE):
                await GuestLink(record.live_box.run_directory).until_settled()
        except (TimeoutError, GuestUnreachable) as error:
            _log.info("sandbox %s is let be: %r", record.sandbox_id, error)
        finally:
            self._turns.release()

    async def make(self, template: str, limits: Limits) -> Record:
        """A record in the phase CREATING, with its box. Raises `RuntimeFailure`."""
        record = Record(new_sandbox_id(), template, Phase.CREATING, limits)
        await self._registry.put(record)
        making = self._making.spawn(self._create(record), f"making of {record.sandbox_id}")
        try:
            made = await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.shield(self._making.spawn(self._discard_once_made(making), "discard"))
            raise
        if isinstance(made, Exception):
            raise made
        return made

    async def furnish(self, template: str, limits: Limits) -> None:
        """Add one to `furnished`, once its gateway answers. Raises `RuntimeFailure`."""
        files = (await self._templates.prepare(template, _log.info)).directory
        made = await self.make(template, limits)
        try:
            async with asyncio.timeout(INTRODUCTION_DEADLINE * self._slowness):
                await GuestLink(made.live_box.run_directory).until_answered(GATEWAY_SOCKET)
        except BaseException as error:
            await self.discard_shielded(made)
            if isinstance(error, (TimeoutError, GuestUnreachable)):
                raise RuntimeFailure(f"its gateway does not answer: {error!r}") from error
            raise
        self.furnished[made.sandbox_id] = made, files

    async def take_furnished(self, template: str, limits: Limits) -> Record | None:
        """One that differs from what is wanted in its template's name at most, or None.

        It may have died. Raises `RuntimeFailure` if there is no such template.
        """
        files = (await self._templates.prepare(template, _log.info)).directory
        for sandbox_id, (record, made_from) in self.furnished.items():
            if (made_from, record.limits) == (files, limits):
                del self.furnished[sandbox_id]
                return record
        return None

    def end_dead_ones(self) -> None:
        """Do away with those of `furnished` that have died by themselves."""
        for record, _ in list(self.furnished.values()):
            if not is_alive(record.live_box.pid, record.live_box.start_ticks):
                _log.warning("a sandbox that was half made has died by itself")
                del self.furnished[record.sandbox_id]
                self._tasks.spawn(self.remove(record), f"end of {record.sandbox_id}")

    async def _create(self, record: Record) -> Record | Exception:
        """Never cut short: only a runtime that has finished can say what there is to end."""
        spec = SandboxSpec(record.sandbox_id, record.template, record.limits)
        try:
            box = await self._runtime.create(spec)
        except Exception as error:
            await self.discard(record)
            return error
        entry = self._registry.entry(record.sandbox_id)
        entry.record = replace(record, box=box)
        return entry.record

    async def _discard_once_made(self, making: asyncio.Task[Record | Exception]) -> None:
        await asyncio.wait({making})
        made = making.result()
        if isinstance(made, Record):
            await self.discard(made)

    async def finish_making(self) -> None:
        """Wait for boxes that are being made, and for the end of those nobody wants any more."""
        await self._making.finish(MAKING_DEADLINE * self._slowness)

    async def introduce(
        self,
        record: Record,
        told: Record | None = None,
        languages: tuple[str, ...] = (),
        *,
        wake: bool = False,
    ) -> None:
        """Hand the box its tokens and variables. Raises `RuntimeFailure`, soon if it dies.

        ``told``: what it was handed before. ``languages``: whose kernels it starts ahead.
        ``wake``: its envd is started already, before anybody needs it.
        """
        box = record.live_box
        link = GuestLink(box.run_directory)
        dead = self._tasks.spawn(self._runtime.wait(box), f"life of {box.sandbox_id}")
        asked = self._tasks.spawn(
            _quietly(link.introduce(record, told, languages, wake=wake)),
            f"init of {box.sandbox_id}",
        )
        try:
            await asyncio.wait(
                {dead, asked},
                timeout=INTRODUCTION_DEADLINE * self._slowness,
                return_when=asyncio.FIRST_COMPLETED,
            )
            problem = "it ended" if dead.done() else asked.result() if asked.done() else "time-out"
        finally:
            dead.cancel()
            asked.cancel()
        if problem is not None:
            raise RuntimeFailure(f"the new sandbox does not answer: {problem}")

    async def announce_pause(self, record: Record) -> None:
        """Let the gateway keep its cells; one that is too busy to hear of it is frozen anyway."""
        try:
            async with asyncio.timeout(ANNOUNCEMENT_DEADLINE):
                await GuestLink(record.live_box.run_directory).prepare_for_pause()
        except (TimeoutError, GuestUnreachable) as error:
            _log.info("sandbox %s is paused unannounced: %s", record.sandbox_id, error)

    async def remove(self, record: Record) -> None:
        """End the record's box and forget the record: again and again, until nothing is left.

        What a host that stops has not removed is on record for the next one.
        """
        self.removals += 1
        try:
            while True:
                if await self._removed(record):
                    return
                await asyncio.sleep(REMOVAL_RETRY)
        finally:
            self.removals -= 1

    async def discard(self, record: Record) -> None:
        """Like `remove`, but returns when it did not succeed at once; it goes on by itself."""
        if not await self._removed(record):
            self._tasks.spawn(self._remove_later(record), f"end of {record.sandbox_id}")

    async def discard_shielded(self, record: Record) -> None:
        """`discard` that goes on when the caller is cancelled."""
        task = self._making.spawn(self.discard(record), f"discard {record.sandbox_id}")
        await asyncio.shield(task)

    async def _remove_later(self, record: Record) -> None:
        await asyncio.sleep(REMOVAL_RETRY)
        await self.remove(record)

    async def _removed(self, record: Record) -> bool:
        try:
            await self._runtime.kill(record.box or self.trace(record.sandbox_id, record.template))
            await self._registry.remove(record.sandbox_id)
        except (RuntimeFailure, OSError, NotStored) as error:
            _log.error("sandbox %s cannot be removed yet: %s", record.sandbox_id, error)
            return False
        return True

    def trace(self, sandbox_id: str, template: str) -> Box:
        """What is known of a box whose making was cut short: its name and directory."""
        directory = self._run_root / sandbox_id
        return Box(sandbox_id, self._runtime.name, NO_PID, 0, directory, template)


async def _quietly(request: Coroutine[Any, Any, None]) -> str | None:
    """None, or what went wrong."""
    try:
        await request
    except GuestUnreachable as error:
        return str(error)
    return None
