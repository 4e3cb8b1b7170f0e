"""The plain routes that are not about files: ``/health``, ``/init``, ``/envs``, ``/metrics``."""

from __future__ import annotations

import asyncio

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from code_interpreter.envd.answers import Refused
from code_interpreter.envd.memory import Memory
from code_interpreter.envd.metrics import Meter
from code_interpreter.envd.state import InitBody, State


class Status:
    def __init__(self, state: State) -> None:
        self._state = state
        self._meter = Meter(state.config.state_directory)
        self._memory = Memory(state.config.state_directory)

    async def health(self, _: Request) -> Response:
        return Response(status_code=204)

    async def init(self, request: Request) -> Response:
        """Only the host can reach it: the edge does not forward this path."""
        try:
            body = InitBody.model_validate_json(await request.body())
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise Refused(400, f"POST /init: {where}: {fault['msg']}") from None
        self._state.initialise(body)
        await asyncio.to_thread(self._memory.keep, self._state)
        return Response(status_code=204)

    async def envs(self, _: Request) -> Response:
        return JSONResponse(self._state.env_vars)

    async def metrics(self, _: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._meter.read))
