"""What a host does about the sandboxes of the host before it, however that one ended."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from code_interpreter.host.boxes import Boxes
from code_interpreter.host.records import Phase, Record
from code_interpreter.host.runtimes.base import RuntimeFailure, SandboxRuntime

_UNFINISHED = (Phase.CREATING, Phase.POOLED, Phase.ENDING)
_log = logging.getLogger(__name__)


class Adoption:
    """Keeps the live, ends the half-made, forgets the dead, sweeps up what nobody knows."""

    def __init__(self, runtime: SandboxRuntime, boxes: Boxes, data: Path) -> None:
        self._runtime = runtime
        self._boxes = boxes
        self._data = data

    async def sort(self, records: Iterable[Record]) -> list[Record]:
        """The records of live sandboxes, running or paused. Raises `RuntimeFailure`."""
        live: list[Record] = []
        for record in records:
            self._check_runtime(record)
            if record.box is None or record.phase in _UNFINISHED:
                await self._boxes.discard(record)
            elif await self._runtime.adopt(record.box):
                live.append(await self._settled(record))
                _log.info("sandbox %s is adopted", record.sandbox_id)
            else:
                await self._boxes.discard(record)
                _log.warning("sandbox %s died while no host was running", record.sandbox_id)
        await self._sweep({record.live_box.run_directory.name for record in live})
        return live

    async def _settled(self, record: Record) -> Record:
        """The record in a phase that lasts; the host before may have died in the middle."""
        if record.phase not in (Phase.PAUSING, Phase.RESUMING):
            return record
        await self._runtime.resume(record.live_box)
        return replace(record, phase=Phase.RUNNING)

    async def _sweep(self, known: set[str]) -> None:
        """End boxes that have directories but no record."""
        for place in ("run", "sandboxes"):
            for directory in (self._data / place).iterdir():
                name = directory.name
                if name not in known and name.startswith("i") and directory.is_dir():
                    _log.warning("ending %s, which nobody knows", name)
                    await self._boxes.discard(Record(name, "", Phase.CREATING))

    def _check_runtime(self, record: Record) -> None:
        made_by = record.box.runtime if record.box else self._runtime.name
        if made_by != self._runtime.name:
            raise RuntimeFailure(
                f"sandbox {record.sandbox_id} was made by the runtime {made_by!r}, and this host "
                f"runs {self._runtime.name!r}: start with --runtime {made_by}, or choose another "
                "data directory with --data-dir"
            )
