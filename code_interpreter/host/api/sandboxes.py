"""Making, finding and changing sandboxes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import AfterValidator
from starlette.responses import Response

from code_interpreter.host.api.views import Views, answer, done
from code_interpreter.host.errors import BadRequest, Conflict
from code_interpreter.host.idempotency import check_key
from code_interpreter.host.lifecycle import Lifecycle
from code_interpreter.host.listing import parse_listing
from code_interpreter.host.records import Phase, Record
from code_interpreter.host.wishes import (
    DEFAULT_TIMEOUT,
    LEGACY_DEFAULT_TIMEOUT,
    Wish,
    read_wish,
    with_limit_headers,
)
from code_interpreter.protocol import control


def _plain_id(value: str) -> str:
    """Old clients append ``-<client id>``."""
    return unquote(value).partition("-")[0]


SandboxId = Annotated[str, Path(), AfterValidator(_plain_id)]


def sandbox_routes(lifecycle: Lifecycle, views: Views) -> APIRouter:
    router = APIRouter()

    async def create(request: Request, body: control.NewSandbox, lifetime: int) -> Response:
        key = check_key(request.headers.get("idempotency-key"))
        wished = with_limit_headers(body, request.headers)
        wish = read_wish(wished, default_timeout=lifetime, key=key)
        if key is not None:  # whoever comes again with the key still wants it
            return answer(views.sandbox(await lifecycle.create(wish)), 201)
        record = await _create_while_wanted(request, lifecycle, wish)
        return answer(views.sandbox(record), 201) if record else Response(status_code=499)

    @router.post("/v2/sandboxes", status_code=201, response_model=control.Sandbox)
    async def create_v2(
        request: Request,
        body: control.NewSandbox,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Make a sandbox; it lives 300 s if nothing else is said."""
        return await create(request, body, DEFAULT_TIMEOUT)

    @router.post("/sandboxes", status_code=201, response_model=control.Sandbox)
    async def create_v1(request: Request, body: control.NewSandbox) -> Response:
        """Make a sandbox; it lives 15 s if nothing else is said."""
        return await create(request, body, LEGACY_DEFAULT_TIMEOUT)

    @router.get("/sandboxes/{sandbox_id}", response_model=control.SandboxDetail)
    async def get(sandbox_id: SandboxId) -> Response:
        return answer(views.detail(lifecycle.registry.get(sandbox_id)))

    @router.delete("/sandboxes/{sandbox_id}", status_code=204)
    async def kill(sandbox_id: SandboxId) -> Response:
        await lifecycle.kill(sandbox_id)
        return done()

    @router.get("/v2/sandboxes", response_model=list[control.ListedSandbox])
    async def list_v2(
        metadata: str | None = None,
        state: str | None = None,
        order: str | None = None,
        started_after: Annotated[str | None, Query(alias="startedAfter")] = None,
        template: str | None = None,
        limit: str | None = None,
        next_token: Annotated[str | None, Query(alias="nextToken")] = None,
    ) -> Response:
        """A page of sandboxes; ``X-Next-Token`` leads to the next one."""
        listing = parse_listing(
            metadata=metadata,
            state=state,
            order=order,
            started_after=started_after,
            template=template,
            limit=limit,
            next_token=next_token,
        )
        page, token = listing.select(lifecycle.registry.visible())
        response = answer([views.listed(record) for record in page])
        if token is not None:
            response.headers["X-Next-Token"] = token
        running = sum(record.phase is Phase.RUNNING for record in lifecycle.registry.visible())
        response.headers["X-Total-Running"] = str(running)
        return response

    @router.get("/sandboxes", response_model=list[control.ListedSandbox])
    async def list_v1(metadata: str | None = None) -> Response:
        """Running sandboxes, all of them."""
        listing = parse_listing(metadata=metadata, state="running")
        page, _ = replace(listing, limit=len(lifecycle.registry) + 1).select(
            lifecycle.registry.visible()
        )
        return answer([views.listed(record) for record in page])

    @router.post("/sandboxes/{sandbox_id}/timeout", status_code=204)
    async def set_timeout(sandbox_id: SandboxId, body: control.SetTimeout) -> Response:
        """The sandbox ends so many seconds from now; 0 ends it at once."""
        await lifecycle.set_timeout(sandbox_id, body.timeout)
        return done()

    @router.post("/sandboxes/{sandbox_id}/refreshes", status_code=204)
    async def refresh(sandbox_id: SandboxId, body: control.Refresh | None = None) -> Response:
        """The sandbox lives at least so many seconds more."""
        await lifecycle.extend(sandbox_id, (body or control.Refresh()).duration)
        return done()

    async def connect(sandbox_id: str, body: control.ConnectSandbox) -> Response:
        timeout = DEFAULT_TIMEOUT if body.timeout is None else body.timeout
        record, resumed = await lifecycle.connect(sandbox_id, timeout, memory=body.memory)
        return answer(views.sandbox(record), 201 if resumed else 200)

    resumed_too: dict[int | str, dict[str, Any]] = {
        201: {"model": control.Sandbox, "description": "It was paused, and runs again"}
    }

    @router.post(
        "/v2/sandboxes/{sandbox_id}/connect",
        response_model=control.Sandbox,
        responses=resumed_too,
    )
    async def connect_v2(
        sandbox_id: SandboxId, body: control.ConnectSandbox | None = None
    ) -> Response:
        """Resume if paused; the sandbox lives at least the given time."""
        return await connect(sandbox_id, body or control.ConnectSandbox())

    @router.post(
        "/sandboxes/{sandbox_id}/connect", response_model=control.Sandbox, responses=resumed_too
    )
    async def connect_v1(sandbox_id: SandboxId, body: control.ConnectSandbox) -> Response:
        """Resume if paused; the sandbox lives at least the given time."""
        if body.timeout is None:
            raise BadRequest("timeout: Field required")
        return await connect(sandbox_id, body)

    @router.post("/sandboxes/{sandbox_id}/resume", status_code=201, response_model=control.Sandbox)
    async def resume(sandbox_id: SandboxId, body: control.ResumeSandbox | None = None) -> Response:
        """Resume a paused sandbox."""
        wanted = body or control.ResumeSandbox()
        if lifecycle.registry.get(sandbox_id).phase is Phase.RUNNING:
            raise Conflict(f"sandbox {sandbox_id} is running")
        record, _ = await lifecycle.connect(sandbox_id, wanted.timeout, memory=wanted.memory)
        return answer(views.sandbox(record), 201)

    @router.post("/sandboxes/{sandbox_id}/pause", status_code=204)
    async def pause(sandbox_id: SandboxId, body: control.PauseSandbox | None = None) -> Response:
        """Stop the sandbox in memory, until it is connected to."""
        if body is not None and not body.memory:
            raise BadRequest("a pause without memory is not supported by this host")
        await lifecycle.pause(sandbox_id)
        return done()

    return router


async def _create_while_wanted(request: Request, lifecycle: Lifecycle, wish: Wish) -> Record | None:
    """The sandbox; None if the client went away, and then there is no sandbox."""
    making = asyncio.ensure_future(lifecycle.create(wish))
    gone = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({making, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not making.done():
            making.cancel()
        client_left = gone.done()
        gone.cancel()
        await asyncio.wait({making, gone})
    if making.cancelled():
        return None
    record = making.result()
    if client_left:
        await lifecycle.kill(record.sandbox_id)
        return None
    return record


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
