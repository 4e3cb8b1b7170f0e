"""Health, and the account that E2B's CLI asks for: there is one, whoever has the key."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from code_interpreter.host.api.views import answer, done
from code_interpreter.protocol.boxes import TEAM_ID
from code_interpreter.protocol.control import Team


def account_routes(api_key: str) -> APIRouter:
    router = APIRouter()

    @router.get("/health", status_code=204)
    async def health() -> Response:
        """The host answers. Needs no key."""
        return done()

    @router.get("/teams", response_model=list[Team])
    async def teams() -> Response:
        """The only team, with the key that the request came with."""
        return answer([Team(team_id=TEAM_ID, name="this host", api_key=api_key)])

    return router
