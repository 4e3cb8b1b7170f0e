"""Sandboxes as callers see them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel
from starlette.responses import Response

from code_interpreter.host.journal import Event
from code_interpreter.host.limits import LimitPolicy
from code_interpreter.host.listing import state_of
from code_interpreter.host.records import Record
from code_interpreter.protocol import control


def answer(body: BaseModel | Sequence[BaseModel], status: int = 200) -> Response:
    """A JSON response; what is not set is left out."""
    if isinstance(body, BaseModel):
        text = body.model_dump_json(by_alias=True, exclude_none=True)
    else:
        items = (item.model_dump_json(by_alias=True, exclude_none=True) for item in body)
        text = f"[{','.join(items)}]"
    return Response(text, status, media_type="application/json")


def done() -> Response:
    return Response(status_code=204)


class Views:
    def __init__(self, limits: LimitPolicy, domain: str) -> None:
        self._limits = limits
        self._domain = domain

    def sandbox(self, record: Record) -> control.Sandbox:
        return control.Sandbox(
            template_id=record.template,
            sandbox_id=record.sandbox_id,
            alias=record.template,
            envd_access_token=record.access_token,
            traffic_access_token=record.traffic_token,
            domain=self._domain,
        )

    def listed(self, record: Record) -> control.ListedSandbox:
        cores, memory, disk = self._limits.effective(record.limits)
        return control.ListedSandbox(
            template_id=record.template,
            sandbox_id=record.sandbox_id,
            alias=record.template,
            started_at=record.started_at,
            end_at=record.end_at,
            cpu_count=cores,
            memory_mb=memory,
            disk_size_mb=disk,
            state=state_of(record),
            metadata=dict(record.metadata),
        )

    def detail(self, record: Record) -> control.SandboxDetail:
        on_timeout = control.OnTimeout.PAUSE if record.auto_pause else control.OnTimeout.KILL
        paused = state_of(record) is control.SandboxState.PAUSED
        return control.SandboxDetail(
            **dict(self.listed(record)),
            envd_access_token=record.access_token,
            domain=self._domain,
            allow_internet_access=record.allow_internet_access,
            network=None if record.network is None else control.Network(**record.network),
            lifecycle=control.Lifecycle(auto_resume=record.auto_resume, on_timeout=on_timeout),
            pause_mode="full" if paused else None,
        )

    def template(self, name: str, made_at: control.Timestamp) -> control.Template:
        cores, memory, disk = self._limits.effective(self._limits.defaults)
        return control.Template(
            template_id=name,
            build_id=BUILD_ID,
            cpu_count=cores,
            memory_mb=memory,
            disk_size_mb=disk,
            public=True,
            aliases=[name],
            names=[name],
            created_at=made_at,
            updated_at=made_at,
        )


BUILD_ID = "00000000-0000-4000-8000-000000000000"
"""Built-in templates have no builds; clients want a UUID."""


def log_entry(event: Event) -> control.LogEntry:
    return control.LogEntry(
        timestamp=event.timestamp, level=event.level, message=event.message, fields=event.fields
    )


def log_line(event: Event) -> control.LogLine:
    """E2B's CLI parses the line as a JSON object with ``level``."""
    line = {"level": event.level, "logger": "host", "message": event.message, **event.fields}
    return control.LogLine(timestamp=event.timestamp, line=json.dumps(line))
