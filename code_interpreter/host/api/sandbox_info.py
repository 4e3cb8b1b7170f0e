"""What a sandbox uses, and what happened to it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from code_interpreter.host.api.sandboxes import SandboxId
from code_interpreter.host.api.views import Views, answer, log_entry, log_line
from code_interpreter.host.errors import BadRequest
from code_interpreter.host.guest_link import GuestLink, GuestUnreachable
from code_interpreter.host.journal import Event
from code_interpreter.host.lifecycle import Lifecycle
from code_interpreter.host.records import Phase, Record, now
from code_interpreter.protocol import control

METRICS_DEADLINE = 5.0
"""Seconds that envd has for measuring."""
MOST_AT_ONCE = 100
"""Sandboxes in one question for metrics."""
Count = Annotated[int, Query(ge=0, le=1000)]


def info_routes(lifecycle: Lifecycle, views: Views) -> APIRouter:
    router = APIRouter()

    @router.get("/sandboxes/metrics", response_model=control.SandboxesWithMetrics)
    async def metrics_of_many(sandbox_ids: str) -> Response:
        """The present use of several sandboxes; those that are not there are left out."""
        wanted = sandbox_ids.split(",")
        if len(wanted) > MOST_AT_ONCE:
            raise BadRequest(f"sandbox_ids: at most {MOST_AT_ONCE} at once, not {len(wanted)}")
        found = [record for name in wanted if (record := lifecycle.registry.find(name))]
        samples = await asyncio.gather(*map(_measure, found))
        by_id = {
            record.sandbox_id: sample
            for record, sample in zip(found, samples, strict=True)
            if sample is not None
        }
        return answer(control.SandboxesWithMetrics(sandboxes=by_id))

    @router.get("/sandboxes/{sandbox_id}/metrics", response_model=list[control.SandboxMetric])
    async def metrics(
        sandbox_id: SandboxId, start: int | None = None, end: int | None = None
    ) -> Response:
        """The present use, if now is between ``start`` and ``end`` (unix seconds)."""
        record = lifecycle.registry.get(sandbox_id)
        moment = int(now().timestamp())
        if (end is not None and end < moment) or (start is not None and start > moment):
            return answer([])
        sample = await _measure(record)
        return answer([] if sample is None else [sample])

    @router.get("/sandboxes/{sandbox_id}/logs", response_model=control.SandboxLogs)
    async def logs(sandbox_id: SandboxId, start: int = 0, limit: Count = 1000) -> Response:
        """What happened to the sandbox since ``start`` (unix milliseconds), oldest first."""
        events = [event for event in _events(lifecycle, sandbox_id) if _ms(event) >= start][:limit]
        return answer(
            control.SandboxLogs(
                logs=[log_line(event) for event in events],
                log_entries=[log_entry(event) for event in events],
            )
        )

    @router.get("/v2/sandboxes/{sandbox_id}/logs", response_model=control.SandboxLogsV2)
    async def logs_v2(
        sandbox_id: SandboxId,
        cursor: int | None = None,
        limit: Count = 1000,
        direction: str = "forward",
        level: str | None = None,
        search: Annotated[str, Query(max_length=256)] = "",
    ) -> Response:
        """The same by page: from ``cursor`` (unix milliseconds) forward, or backward."""
        if direction not in ("forward", "backward"):
            raise BadRequest(f"direction must be 'forward' or 'backward', not {direction!r}")
        events = [
            event
            for event in _events(lifecycle, sandbox_id)
            if search in event.message and level in (None, event.level)
        ]
        if direction == "backward":
            events = [e for e in reversed(events) if cursor is None or _ms(e) <= cursor]
        else:
            events = [e for e in events if cursor is None or _ms(e) >= cursor]
        return answer(control.SandboxLogsV2(logs=[log_entry(event) for event in events[:limit]]))

    return router


def _events(lifecycle: Lifecycle, sandbox_id: str) -> list[Event]:
    lifecycle.registry.get(sandbox_id)
    return list(lifecycle.journal.of(sandbox_id))


def _ms(event: Event) -> int:
    return int(event.timestamp.timestamp() * 1000)


async def _measure(record: Record) -> control.SandboxMetric | None:
    """One sample, by envd; None where there is none to be had."""
    if record.phase is not Phase.RUNNING:
        return None
    link = GuestLink(record.live_box.run_directory)
    try:
        async with asyncio.timeout(METRICS_DEADLINE):
            seen = await link.metrics(record.access_token)
        moment = datetime.fromtimestamp(float(seen["ts"]), now().tzinfo)
        return control.SandboxMetric(
            timestamp=moment,
            timestamp_unix=int(moment.timestamp()),
            cpu_count=int(seen["cpu_count"]),
            cpu_used_pct=float(seen["cpu_used_pct"]),
            mem_used=int(seen["mem_used"]),
            mem_total=int(seen["mem_total"]),
            mem_cache=int(seen["mem_cache"]),
            disk_used=int(seen["disk_used"]),
            disk_total=int(seen["disk_total"]),
        )
    except (GuestUnreachable, TimeoutError):
        return None
    except (KeyError, TypeError, ValueError, OverflowError, OSError):  # no such measures
        return None
