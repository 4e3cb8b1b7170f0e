"""What Jupyter's REST interface shows of a kernel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from code_interpreter.gateway.context import Context


def kernel_model(key: str, context: Context) -> dict[str, Any]:
    """A context as a kernel, by the id that the client knows it by."""
    return {
        "id": key,
        "name": context.kernel_name,
        "last_activity": stamp(context.last_activity),
        "execution_state": context.execution_state,
        "connections": len(context.listeners),
    }


def stamp(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
