"""The gateway's HTTP routes, with the answers that E2B's clients expect."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, StrictStr, ValidationError
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler, stream_request_body

from code_interpreter.gateway import ndjson
from code_interpreter.gateway.context import Context
from code_interpreter.gateway.gateway import Gateway, Refusal
from code_interpreter.gateway.kernel import KernelStartFailed
from code_interpreter.gateway.run import Request, Run
from code_interpreter.protocol.executions import MAX_MESSAGE_BYTES

KEEPALIVE_SECONDS = 5.0
_BATCH = 1 << 16


class ExecuteBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    code: StrictStr
    context_id: StrictStr | None = None
    language: StrictStr | None = None
    env_vars: dict[StrictStr, StrictStr] | None = None


class ContextBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    language: StrictStr | None = None
    cwd: StrictStr | None = None


class InitBody(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    envVars: dict[StrictStr, StrictStr] = {}  # noqa: N815 - the name on the wire


Body = TypeVar("Body", bound=BaseModel)


@stream_request_body
class Handler(RequestHandler):
    """Reads a bounded body; answers errors as plain text."""

    def initialize(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._body = bytearray()
        self._too_large = False

    def data_received(self, chunk: bytes) -> None:
        if self._too_large or len(self._body) + len(chunk) > MAX_MESSAGE_BYTES:
            self._too_large = True
            self._body.clear()
        else:
            self._body += chunk

    def body(self, kind: type[Body]) -> Body:
        """The JSON body. Raises `Refusal`."""
        if self._too_large:
            raise Refusal(413, f"The request body is larger than {MAX_MESSAGE_BYTES} bytes")
        try:
            data = json.loads(bytes(self._body) or b"{}")
        except ValueError as error:
            raise Refusal(400, f"The request body is not JSON: {error}") from error
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            raise Refusal(400, _explain(error)) from error

    def refuse(self, refusal: Refusal) -> None:
        self.set_status(refusal.status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(str(refusal))

    def answer(self, value: object) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))

    def write_error(self, status_code: int, **kwargs: object) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._reason)


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "body"
    return f"Field '{where}' of the request is wrong: {first['msg']}"


class Health(Handler):
    def get(self) -> None:
        self.answer("OK")


class Init(Handler):
    def post(self) -> None:
        try:
            body = self.body(InitBody)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.gateway.set_environment(body.envVars)
        self.set_status(204)


class Contexts(Handler):
    def get(self) -> None:
        self.answer([_described(context) for context in self.gateway.contexts()])

    def post(self) -> None:
        try:
            body = self.body(ContextBody)
            context = self.gateway.create_context(body.language, body.cwd)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.answer(_described(context))


class OneContext(Handler):
    async def delete(self, context_id: str) -> None:
        try:
            await self.gateway.remove_context(context_id)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.answer(None)


class Restart(Handler):
    async def post(self, context_id: str) -> None:
        try:
            await self.gateway.restart_context(context_id)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        except KernelStartFailed as failure:
            self.refuse(Refusal(500, str(failure)))
            return
        self.answer(None)


def _described(context: Context) -> dict[str, str]:
    return {"id": context.id, "language": context.language, "cwd": context.cwd}


class Execute(Handler):
    """The cell belongs to this connection: when it goes away, the cell is interrupted."""

    _run: Run | None = None

    async def post(self) -> None:
        try:
            run = self._start(self.body(ExecuteBody))
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.set_header("X-Execution-Id", run.request.execution_id)
        self.set_header("Content-Type", "application/x-ndjson")
        try:
            await self._send(run)
        except StreamClosedError:
            run.disown(self)

    def _start(self, body: ExecuteBody) -> Run:
        request = Request(uuid.uuid4().hex, body.code, body.env_vars or {})
        run = self.gateway.execute(request, body.context_id, body.language)
        run.own(self)
        self._run = run
        return run

    async def _send(self, run: Run) -> None:
        journal, seq = run.journal, 0
        await self.flush()
        while True:
            lines = bytearray()
            while seq < journal.last_seq and len(lines) < _BATCH:
                seq += 1
                lines += ndjson.line(journal.read(seq).event) or b""
            if lines:
                self.write(bytes(lines))
                await self.flush()
            elif journal.ended and seq == journal.last_seq:
                return
            elif seq == journal.last_seq:
                await self._wait(run)

    async def _wait(self, run: Run) -> None:
        try:
            async with asyncio.timeout(KEEPALIVE_SECONDS):
                await run.journal.changed()
        except TimeoutError:
            self.write(ndjson.KEEPALIVE)
            await self.flush()

    def on_connection_close(self) -> None:
        if self._run is not None:
            self._run.disown(self)
