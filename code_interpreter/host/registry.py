"""All sandboxes of this host: in memory for answering, in the store for the next start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

from code_interpreter.host.errors import Conflict, NotStored, sandbox_not_found
from code_interpreter.host.records import VISIBLE, Phase, Record
from code_interpreter.host.store import Store

_log = logging.getLogger(__name__)
CLAIM_DEADLINE = 60.0
"""Seconds to wait for another change of the same sandbox."""


class Entry:
    """A sandbox in memory. Its record is replaced only by who has claimed it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.watcher: asyncio.Task[None] | None = None

    @property
    def is_visible(self) -> bool:
        """Whether somebody was told of the sandbox, and may use it."""
        return self.record.phase in VISIBLE


class Registry:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, Entry] = {}
        self._owed: set[str] = set()
        """Sandboxes whose record could not be stored as it is."""

    def __len__(self) -> int:
        """Sandboxes that somebody was told of."""
        return sum(1 for _ in self.visible())

    def visible(self) -> Iterator[Record]:
        for entry in self._entries.values():
            if entry.is_visible:
                yield entry.record

    def entries(self) -> list[Entry]:
        """All of them, also those that nobody was told of."""
        return list(self._entries.values())

    def find(self, sandbox_id: str) -> Record | None:
        entry = self._entries.get(sandbox_id)
        return entry.record if entry and entry.is_visible else None

    def get(self, sandbox_id: str) -> Record:
        """Raises `NotFound`."""
        record = self.find(sandbox_id)
        if record is None:
            raise sandbox_not_found(sandbox_id)
        return record

    def entry(self, sandbox_id: str) -> Entry:
        return self._entries[sandbox_id]

    async def put(self, record: Record) -> Entry:
        """Store a record, new or changed; it is seen once it is stored.

        Raises `NotStored` for a new one.
        """
        entry = self._entries.get(record.sandbox_id)
        if entry is None:
            await self._store.save(record)
            entry = self._entries[record.sandbox_id] = Entry(record)
            await self._save_owed()
        else:
            await self._save(record)
        entry.record = record
        return entry

    async def move(self, entry: Entry, phase: Phase) -> Record:
        """Change the phase. It is seen at once: nobody may use a sandbox on its way out."""
        entry.record = entry.record.moved(phase)
        await self._save(entry.record)
        return entry.record

    async def remove(self, sandbox_id: str) -> None:
        """Raises `NotStored`; then the record is only forgotten in memory."""
        self._entries.pop(sandbox_id, None)
        await self._store.delete(sandbox_id)
        await self._save_owed()

    async def _save(self, record: Record) -> None:
        """A change of a sandbox is made on a full disk, too; it is stored once there is room."""
        try:
            await self._store.save(record)
        except NotStored as error:
            _log.error("sandbox %s is %s: %s", record.sandbox_id, record.phase, error)
            self._owed.add(record.sandbox_id)
        else:
            self._owed.discard(record.sandbox_id)
            await self._save_owed()

    async def _save_owed(self) -> None:
        with suppress(NotStored):
            for sandbox_id in list(self._owed):
                entry = self._entries.get(sandbox_id)
                if entry is not None:
                    await self._store.save(entry.record)
                self._owed.discard(sandbox_id)

    @asynccontextmanager
    async def claim(self, sandbox_id: str) -> AsyncIterator[Entry]:
        """The only one to change this sandbox, for the length of the block.

        Raises `NotFound`, and `Conflict` if another change of it takes too long.
        """
        self.get(sandbox_id)
        entry = self._entries[sandbox_id]
        try:
            async with asyncio.timeout(CLAIM_DEADLINE):
                await entry.lock.acquire()
        except TimeoutError:
            raise Conflict(
                f"sandbox {sandbox_id} is still transitioning; try again in a moment"
            ) from None
        try:
            if self._entries.get(sandbox_id) is not entry or not entry.is_visible:
                raise sandbox_not_found(sandbox_id)
            yield entry
        finally:
            entry.lock.release()
