"""The records of all sandboxes, and what happened to them, on disk.

One connection, one thread, one writer. Everything is also in memory (`registry.py`); this
is read once, when a host starts. A power cut may lose the last writes, and with them
sandboxes that the power cut has ended anyway: hence WAL without a sync at each commit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from code_interpreter.host.errors import NotStored
from code_interpreter.host.records import Record

SCHEMA_VERSION = 1
EVENTS_KEPT = 20_000
"""Of all sandboxes together; the oldest go first."""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS sandboxes (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        sandbox TEXT NOT NULL, type TEXT NOT NULL, event TEXT NOT NULL
    ) STRICT;
"""
_PAGE_OF_EVENTS = """
    SELECT event FROM events
    WHERE (?1 IS NULL OR sandbox = ?1)
        AND (?2 = '[]' OR type IN (SELECT value FROM json_each(?2)))
    ORDER BY number * ?3 LIMIT ?4 OFFSET ?5
"""
_records = TypeAdapter(Record)
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class StoreUnusable(Exception):
    """The file cannot be opened, or a newer version has written it."""


class Store:
    """``async with Store(path) as store``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Store:
        try:
            await self._run(self._open)
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._run(lambda: self._connection.close())
        self._thread.shutdown()

    async def load(self) -> list[Record]:
        """Every record. One that cannot be read is dropped, and said so in the log."""
        rows = await self._run(
            lambda: self._connection.execute("SELECT id, record FROM sandboxes").fetchall()
        )
        records = [_parse(sandbox_id, text) for sandbox_id, text in rows]
        return [record for record in records if record is not None]

    async def save(self, record: Record) -> None:
        """Insert the record, or replace the one of the same sandbox. Raises `NotStored`."""
        text = _records.dump_json(record).decode()
        await self._write(
            "INSERT INTO sandboxes VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = ?",
            (record.sandbox_id, text, text),
        )

    async def delete(self, sandbox_id: str) -> None:
        """Raises `NotStored`."""
        await self._write("DELETE FROM sandboxes WHERE id = ?", (sandbox_id,))

    def add_event(self, sandbox_id: str, kind: str, event: str) -> None:
        """Nobody waits for it; it is written before what is written later."""
        self._thread.submit(self._insert_event, (sandbox_id, kind, event))

    async def events(
        self,
        sandbox_id: str | None,
        types: Sequence[str],
        *,
        offset: int,
        limit: int,
        ascending: bool,
    ) -> list[str]:
        """A page of them, by time: of one sandbox or of all, of some types or, if empty, any."""
        values = (sandbox_id, json.dumps(types), 1 if ascending else -1, limit, offset)
        rows = await self._run(lambda: self._connection.execute(_PAGE_OF_EVENTS, values).fetchall())
        return [event for (event,) in rows]

    def _insert_event(self, values: tuple[str, str, str]) -> None:
        insert = "INSERT INTO events (sandbox, type, event) VALUES (?, ?, ?)"
        try:
            number = self._connection.execute(insert, values).lastrowid or 0
            self._connection.execute(
                "DELETE FROM events WHERE number <= ?", (number - EVENTS_KEPT,)
            )
        except sqlite3.Error as error:
            _log.error("an event of sandbox %s is not stored: %s", values[0], error)

    async def _write(self, statement: str, values: tuple[str, ...]) -> None:
        """Raises `NotStored`."""
        try:
            await self._run(lambda: self._connection.execute(statement, values))
        except sqlite3.Error as error:
            raise NotStored(
                f"this host cannot store anything now ({error}): make room on the disk of "
                f"{self._path.parent}, or end some sandboxes"
            ) from error

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        try:
            self._path.touch(mode=0o600)
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise StoreUnusable(f"{self._path} cannot be used: {error}") from error

    def _prepare(self) -> None:
        execute = self._connection.execute
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self._path} was written by a newer version of this program "
                f"(schema {version}, this one knows {SCHEMA_VERSION}): update, or choose "
                "another data directory"
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)
        execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _parse(sandbox_id: str, text: str) -> Record | None:
    try:
        return _records.validate_json(text)
    except ValidationError as error:
        _log.error("the record of sandbox %s cannot be read: %s", sandbox_id, error)
        return None
