"""What a host does about the sandboxes of the host before it, however that one ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from code_interpreter.host.boxes import Boxes
from code_interpreter.host.records import Phase, Record
from code_interpreter.host.runtimes.base import RuntimeFailure, SandboxRuntime
from code_interpreter.host.tasks import Tasks

REMOVAL_PATIENCE = 5.0
"""Seconds that a start is held up by what is left of dead sandboxes."""
_UNFINISHED = (Phase.CREATING, Phase.POOLED, Phase.ENDING)
_log = logging.getLogger(__name__)


class Adoption:
    """Keeps the live, ends the half-made, forgets the dead, sweeps up what nobody knows."""

    def __init__(self, runtime: SandboxRuntime, boxes: Boxes, tasks: Tasks, data: Path) -> None:
        self._runtime = runtime
        self._tasks = tasks
        self._boxes = boxes
        self._data = data

    async def sort(self, records: Iterable[Record]) -> list[Record]:
        """The records of live sandboxes, running or paused. Raises `RuntimeFailure`.

        What is left of others is removed beside, and waited for no longer than
        `REMOVAL_PATIENCE`.
        """
        live: list[Record] = []
        doomed: list[Record] = []
        for record in records:
            self._check_runtime(record)
            if record.box is None or record.phase in _UNFINISHED:
                doomed.append(record)
            elif await self._runtime.adopt(record.box):
                live.append(await self._settled(record))
                _log.info("sandbox %s is adopted", record.sandbox_id)
            else:
                doomed.append(record)
                _log.warning("sandbox %s died while no host was running", record.sandbox_id)
        doomed += self._unknown([*live, *doomed])
        removals = [
            self._tasks.spawn(self._boxes.remove(record), f"end of {record.sandbox_id}")
            for record in doomed
        ]
        if removals:
            await asyncio.wait(removals, timeout=REMOVAL_PATIENCE)
        return live

    async def _settled(self, record: Record) -> Record:
        """The record in a phase that lasts; the host before may have died in the middle."""
        if record.phase not in (Phase.PAUSING, Phase.RESUMING):
            return record
        try:
            await self._runtime.resume(record.live_box)
        except RuntimeFailure as error:
            _log.error("sandbox %s stays paused: %s", record.sandbox_id, error)
            return replace(record, phase=Phase.PAUSED)
        return replace(record, phase=Phase.RUNNING)

    def _unknown(self, known: Iterable[Record]) -> list[Record]:
        """Boxes that have directories but no record."""
        names = {
            name
            for record in known
            for name in (
                record.sandbox_id,
                self._runtime.directory_name(record.sandbox_id),
                record.box.run_directory.name if record.box else None,
            )
        }
        found = {
            directory.name
            for place in ("run", "sandboxes")
            for directory in (self._data / place).iterdir()
            if directory.name.startswith("i") and directory.is_dir()
        }
        for name in found - names:
            _log.warning("ending %s, which nobody knows", name)
        return [Record(name, "", Phase.CREATING) for name in found - names]

    def _check_runtime(self, record: Record) -> None:
        made_by = record.box.runtime if record.box else self._runtime.name
        if made_by != self._runtime.name:
            raise RuntimeFailure(
                f"sandbox {record.sandbox_id} was made by the runtime {made_by!r}, and this host "
                f"runs {self._runtime.name!r}: start with --runtime {made_by}, or choose another "
                "data directory with --data-dir"
            )
