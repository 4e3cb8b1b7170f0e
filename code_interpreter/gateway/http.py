"""The gateway's HTTP routes, with the answers that E2B's clients expect."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler, stream_request_body

from code_interpreter.gateway import ndjson
from code_interpreter.gateway.context import Context
from code_interpreter.gateway.gateway import Gateway, Refusal
from code_interpreter.gateway.kernel import KernelStartFailed, RequestFailed
from code_interpreter.gateway.run import Request, Run
from code_interpreter.protocol.executions import MAX_MESSAGE_BYTES

KEEPALIVE_SECONDS = 5.0
VARIABLES_DEADLINE = 10.0
EXPORT_DEADLINE = 120.0
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


class TableBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format: Literal["arrow", "csv", "parquet"] = "parquet"
    path: StrictStr | None = None
    """Where to write it; a place of the gateway's choice if not given."""


class InitBody(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    envVars: dict[StrictStr, StrictStr] = {}  # noqa: N815 - the name on the wire
    languages: list[StrictStr] = []
    """Whose default contexts are to have their kernels ahead of the first cell."""


class UnusedBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    seconds: float = Field(ge=0, allow_inf_nan=False)


Body = TypeVar("Body", bound=BaseModel)


@stream_request_body
class Handler(RequestHandler):
    """Reads a bounded body; answers errors as plain text."""

    def initialize(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._body = bytearray()
        self._too_large = False

    def prepare(self) -> None:
        """No web page may use a sandbox through the browser of somebody who looks at it."""
        origin = self.request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.request.headers.get("Host"):
            refusal = Refusal(403, f"Requests from pages of {origin} are not allowed")
            # Said after the body was read: an answer before that may be lost with the connection.
            verb = str(self.request.method).lower()
            setattr(self, verb, lambda *_, **__: self.refuse(refusal))

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
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"The request body is not JSON: {error}") from error
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            raise Refusal(400, _explain(error)) from error

    def refuse(self, refusal: Refusal) -> None:
        self.begin_refusal(refusal)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(str(refusal))

    def begin_refusal(self, refusal: Refusal) -> None:
        self.set_status(refusal.status)
        for name, value in refusal.headers.items():
            self.set_header(name, value)

    async def relay(
        self,
        context_id: str,
        operation: str,
        deadline: float,
        arguments: dict[str, str] | None = None,
    ) -> None:
        """Answer what the context's kernel answers."""
        try:
            context = self.gateway.named(context_id)
            self.answer(await context.request(operation, deadline, **(arguments or {})))
        except Refusal as refusal:
            self.refuse(refusal)
        except NotImplementedError as error:
            self.refuse(Refusal(501, str(error)))
        except RequestFailed as failure:
            self.refuse(Refusal(404 if failure.name == "UnknownTable" else 400, str(failure)))
        except KernelStartFailed as failure:
            self.refuse(Refusal(500, str(failure)))
        except TimeoutError:
            self.refuse(Refusal(504, f"The kernel did not answer within {deadline:.0f} s"))

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
        self.gateway.introduce(body.envVars)
        self.gateway.prepare(body.languages)
        self.set_status(204)


class Unused(Handler):
    """What was started ahead of its use ends if it is not used for so long."""

    def post(self) -> None:
        try:
            self.gateway.end_unused_after(self.body(UnusedBody).seconds)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.set_status(204)


class Settled(Handler):
    """Answered when no kernel is being started, so that the host lets others start."""

    async def get(self) -> None:
        await self.gateway.settled()
        self.set_status(204)


class Freeze(Handler):
    """The host is about to freeze the sandbox, and to cut its connections."""

    def post(self) -> None:
        self.gateway.prepare_for_pause()
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


class Notebook(Handler):
    """What ran in the context, as an ``.ipynb``."""

    def get(self, context_id: str) -> None:
        try:
            self.answer(self.gateway.notebook(context_id))
        except Refusal as refusal:
            self.refuse(refusal)


class Variables(Handler):
    """What the context's cells have defined, also while one runs."""

    async def get(self, context_id: str) -> None:
        await self.relay(context_id, "variables", VARIABLES_DEADLINE)


class Table(Handler):
    """Writes a table that was shown, whole, to a file of the sandbox."""

    async def post(self, context_id: str, table_id: str) -> None:
        try:
            body = self.body(TableBody)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        path = body.path or self.gateway.export_path(f"{table_id}.{body.format}")
        arguments = {"table_id": table_id, "form": body.format, "path": path}
        await self.relay(context_id, "export_table", EXPORT_DEADLINE, arguments)


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
        view = ndjson.View(lambda number: journal.read(number).event)
        await self._write(b"")
        while not (journal.ended and seq == journal.last_seq):
            if seq == journal.last_seq:
                await self._wait(run)
            lines = bytearray()
            while seq < journal.last_seq and len(lines) < _BATCH:
                seq += 1
                for line in view.take(journal.read(seq).event):
                    lines += line
                    if len(lines) >= _BATCH:
                        await self._write(bytes(lines))
                        lines.clear()
            if lines:
                await self._write(bytes(lines))

    async def _write(self, data: bytes) -> None:
        self.write(data)
        await self.flush()
        self._written_at = asyncio.get_running_loop().time()

    async def _wait(self, run: Run) -> None:
        """For the next event, which may be one that is not told yet."""
        try:
            async with asyncio.timeout_at(self._written_at + KEEPALIVE_SECONDS):
                await run.journal.changed()
        except TimeoutError:
            await self._write(ndjson.KEEPALIVE)

    def on_connection_close(self) -> None:
        if self._run is not None:
            self._run.disown(self)
