"""What happened to sandboxes, those that are gone included."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from code_interpreter.host.api.sandboxes import SandboxId
from code_interpreter.host.store import Store
from code_interpreter.protocol.control import SandboxEvent

Offset = Annotated[int, Query(ge=0, lt=1 << 53)]
Limit = Annotated[int, Query(ge=1, le=100)]
Ascending = Annotated[bool, Query(alias="orderAsc")]
Types = Annotated[list[str] | None, Query(max_length=100)]


def event_routes(store: Store) -> APIRouter:
    router = APIRouter()

    async def page(
        sandbox_id: str | None, types: Types, offset: int, limit: int, ascending: bool
    ) -> Response:
        events = await store.events(
            sandbox_id, types or [], offset=offset, limit=limit, ascending=ascending
        )
        return Response(f"[{','.join(events)}]", media_type="application/json")

    @router.get("/events/sandboxes", response_model=list[SandboxEvent])
    async def of_all(
        types: Types = None,
        offset: Offset = 0,
        limit: Limit = 10,
        ascending: Ascending = False,
    ) -> Response:
        """Events of all sandboxes, newest first unless ``orderAsc``; ``types`` if given."""
        return await page(None, types, offset, limit, ascending)

    @router.get("/events/sandboxes/{sandbox_id}", response_model=list[SandboxEvent])
    async def of_one(
        sandbox_id: SandboxId,
        types: Types = None,
        offset: Offset = 0,
        limit: Limit = 10,
        ascending: Ascending = False,
    ) -> Response:
        """Events of one sandbox; none if there never was one of this id."""
        return await page(sandbox_id, types, offset, limit, ascending)

    return router
