"""Health, and the account that E2B's CLI asks for: there is one, whoever has the key."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from code_interpreter.host.api.views import answer, done
from code_interpreter.host.lifecycle import Lifecycle
from code_interpreter.protocol.boxes import TEAM_ID
from code_interpreter.protocol.control import Health, Team


def account_routes(lifecycle: Lifecycle, api_key: str) -> APIRouter:
    router = APIRouter()

    @router.get("/health", status_code=204, responses={200: {"model": Health}})
    async def health() -> Response:
        """204: the host answers. 200: it does, but its disk has no room for another sandbox.

        Needs no key.
        """
        shortage = lifecycle.disk_shortage()
        if shortage is None:
            return done()
        return answer(Health(message=f"no room on the disk for another sandbox: {shortage}"))

    @router.get("/teams", response_model=list[Team])
    async def teams() -> Response:
        """The only team, with the key that the request came with."""
        return answer([Team(team_id=TEAM_ID, name="this host", api_key=api_key)])

    return router
