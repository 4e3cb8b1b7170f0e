"""What is kept ready on this host."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from code_interpreter.host.api.views import answer
from code_interpreter.host.lifecycle import Lifecycle
from code_interpreter.protocol.control import Pool


def pool_routes(lifecycle: Lifecycle) -> APIRouter:
    router = APIRouter()

    @router.get("/pool", response_model=Pool)
    async def pool() -> Response:
        """Sandboxes that are kept ready, and the memory that they take."""
        furnished = len(lifecycle.boxes.furnished)
        if lifecycle.pool is None:
            return answer(Pool(ready=0, wanted=0, warm=0, memory_bytes=0, furnished=furnished))
        held = lifecycle.pool.state()
        return answer(
            Pool(
                ready=held.ready,
                wanted=held.wanted,
                warm=held.warm,
                memory_bytes=held.memory_bytes,
                furnished=furnished,
            )
        )

    return router
