"""All contexts and executions of a sandbox."""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from code_interpreter.gateway import notebook
from code_interpreter.gateway.context import Context, Machinery
from code_interpreter.gateway.kernel import Kernel
from code_interpreter.gateway.languages import DEFAULT, KernelSpec, Languages, UnknownLanguage
from code_interpreter.gateway.ledger import Ledger, Record
from code_interpreter.gateway.relief import Relief
from code_interpreter.gateway.run import Request, Run
from code_interpreter.guest.awake import AwakeTimer
from code_interpreter.guest.variables import BadVariables, check_text
from code_interpreter.protocol.executions import (
    MAX_CODE_BYTES,
    Cause,
    EndOfExecution,
    ExecutionStatus,
    KernelState,
    Receipt,
)

KEPT_RUNS = 200
"""Executions whose events can still be read after their end."""
KEPT_BYTES = 2 << 30
"""What all of these together may take on the disk; the oldest go first."""
LOOK_AGAIN = 1.0
"""Seconds until a kernel that was still starting when it should end is looked at again."""
_READY_DEFAULTS = ("python",)
_LISTED_DEFAULTS = ("python", "javascript")

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that is not acted on; ``status`` is HTTP's."""

    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TooMany(Refusal):
    """A limit is reached. Waiting for it is the caller's choice, not the client's."""

    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1", "Should-Retry": "false"}

    def __init__(self, message: str) -> None:
        super().__init__(429, message)


class LostWithGateway(Exception):
    """The execution was queued or running when an earlier gateway of this box died."""

    def __init__(self, context: Context | None) -> None:
        super().__init__("lost with an earlier gateway")
        self._context = context

    async def end(self, execution_id: str, seq: int) -> EndOfExecution:
        """The last event, as number ``seq``."""
        kept = self._context is not None and await self._context.was_adopted()
        return EndOfExecution(
            execution_id=execution_id,
            seq=seq,
            status=ExecutionStatus.LOST,
            kernel_state=KernelState.PRESERVED if kept else KernelState.LOST,
            cause=Cause.GATEWAY_RESTART,
            receipt=Receipt(wall_seconds=0),
        )


class Gateway:
    def __init__(
        self,
        languages: Languages,
        machinery: Machinery,
        ledger: Ledger,
        home: str,
        max_contexts: int,
        max_queued: int,
    ) -> None:
        self._languages = languages
        self._machinery = machinery
        self._ledger = ledger
        self._home = home
        self._contexts: dict[str, Context] = {}
        self._defaults: dict[str, str] = {}
        self._runs: dict[str, Run] = {}
        self._max_contexts = max_contexts
        self._max_queued = max_queued
        self._relief = Relief()
        self._kept: deque[tuple[Run, int]] = deque()
        """Executions that have ended, with what each takes at most."""
        self._kept_bytes = 0
        self._closing = False
        self.introduced = False
        """Whether somebody uses the sandbox, or is about to."""
        self._ahead: set[str] = set()
        """Contexts whose kernels were started before anybody asked for them."""
        self._unused_timer: AwakeTimer | None = None
        self.started = time.time()

    def start(self) -> None:
        """Take over what an earlier gateway left, and have the default contexts."""
        record = self._ledger.read()
        self._take_over(record)
        for language in _LISTED_DEFAULTS:
            if self._find_default(language) is None:
                with suppress(Refusal):
                    self._make_default(language)
        self.save()
        if record.contexts:
            self._introduce()

    def introduce(self, variables: dict[str, str]) -> None:
        """Somebody is going to use the sandbox, with these variables: have a first kernel."""
        if variables != self._machinery.environment.variables:
            self._machinery.environment.replace(variables)
            self.save()
        self._introduce()

    def _introduce(self) -> None:
        if not self.introduced:
            self.introduced = True
            for language in _READY_DEFAULTS:
                context = self._find_default(language)
                if context is not None:
                    context.prepare()

    @property
    def is_unused(self) -> bool:
        """Whether nobody has sent it a cell yet."""
        return not self._runs

    async def settled(self) -> None:
        """Return when no kernel is being started."""
        for context in self.contexts():
            await context.settled()

    def prepare(self, languages: Iterable[str]) -> None:
        """Start the kernels of their default contexts; those that cannot be had are left out."""
        for language in languages:
            try:
                context = self._default_context(self._languages.normalise(language))
            except Refusal as refusal:
                log.warning("no kernel is started ahead for %s: %s", language, refusal)
            else:
                context.prepare()
                self._ahead.add(context.id)

    def end_unused_after(self, seconds: float) -> None:
        """End what `prepare` has started, so long from now, as far as nobody uses it by then."""
        clock = self._machinery.clock
        if self._unused_timer is not None:
            self._unused_timer.cancel()
        self._unused_timer = clock.call_at(clock.time() + seconds, self._end_unused)

    def _end_unused(self) -> None:
        self._unused_timer = None
        ahead = [context for context in self.contexts() if context.id in self._ahead]
        self._ahead = {context.id for context in ahead if context.execution_state == "starting"}
        for context in ahead:
            if context.is_untouched:
                context.take_kernel().close()
        if self._ahead:
            self.end_unused_after(LOOK_AGAIN)
        self.save()

    def _take_over(self, record: Record) -> None:
        kernels = [each.kernel.directory for each in record.contexts if each.kernel is not None]
        self._machinery.place.sweep(set(kernels))
        self._machinery.environment.replace(record.environment)
        for each in record.contexts:
            try:
                spec = self._languages.spec(each.language)
            except UnknownLanguage:
                continue
            context = Context(each.id, each.language, each.cwd, spec, self._machinery)
            self._contexts[each.id] = context
            if each.default:
                self._defaults[each.language] = each.id
            if each.kernel is not None:
                context.adopt(each.kernel)

    def save(self) -> None:
        """Write down what the next gateway of this box would need."""
        if self._closing:
            return
        defaults = set(self._defaults.values())
        records = [each.record(default=each.id in defaults) for each in self.contexts()]
        self._ledger.write(Record(tuple(records), self._machinery.environment.variables))

    def prepare_for_pause(self) -> None:
        """Connections are about to be cut; the cells go on when the sandbox does."""
        for run in self._runs.values():
            run.go_on()

    def kernel_specs(self) -> list[KernelSpec]:
        return self._languages.specs()

    # --- contexts -------------------------------------------------------------------------

    def contexts(self) -> list[Context]:
        return list(self._contexts.values())

    def context(self, context_id: str) -> Context:
        """Raises `Refusal`."""
        context = self._contexts.get(context_id)
        if context is None:
            raise Refusal(404, f"Context {context_id} not found")
        return context

    def named(self, name: str) -> Context:
        """A context by its id, or the default one of a language. Raises `Refusal`."""
        context = self._contexts.get(name)
        if context is not None:
            return context
        language = self._languages.normalise(name)
        if not name or language not in self._languages.names():
            raise Refusal(404, f"Context {name} not found")
        return self._default_context(language)

    def create_context(self, language: str | None, cwd: str | None) -> Context:
        """Raises `Refusal`."""
        directory = self._home if cwd is None else cwd
        name = self._languages.normalise(language)
        context = self._new_context(name, self._checked_directory(directory))
        self.save()
        spare = self._spare(name, context.cwd)
        if spare is None:
            context.prepare()
        else:
            context.give_kernel(spare)
        return context

    def _spare(self, language: str, cwd: str) -> Kernel | None:
        """One that was started ahead and would do for a new context."""
        default = self._find_default(language)
        if default is None or default.id not in self._ahead:
            return None
        if default.cwd != cwd or not default.is_untouched:
            return None
        self._ahead.discard(default.id)
        return default.take_kernel()

    def _new_context(self, language: str, cwd: str) -> Context:
        limit = self._max_contexts
        if len(self._contexts) >= limit:
            raise TooMany(f"There are {limit} contexts, which is the limit; remove one first")
        try:
            spec = self._languages.spec(language)
        except UnknownLanguage as error:
            raise Refusal(400, str(error.args[0])) from error
        context = Context(str(uuid.uuid4()), language, cwd, spec, self._machinery)
        self._contexts[context.id] = context
        return context

    def _checked_directory(self, cwd: str) -> str:
        path = Path(self._home, cwd)
        if "\0" in cwd or not path.is_dir():
            raise Refusal(400, f"Working directory {cwd!r} is not a directory of the sandbox")
        return str(path)

    def _default_context(self, language: str) -> Context:
        context = self._find_default(language)
        if context is None:
            context = self._make_default(language)
            self.save()
        return context

    def _find_default(self, language: str) -> Context | None:
        return self._contexts.get(self._defaults.get(language, ""))

    def _make_default(self, language: str) -> Context:
        context = self._new_context(language, self._home)
        self._defaults[language] = context.id
        return context

    def export_path(self, name: str) -> str:
        """A place in the sandbox for a file that a client is going to fetch."""
        return str(self._machinery.place.output(name))

    async def restart_context(self, context_id: str) -> None:
        await self.context(context_id).restart()

    async def remove_context(self, context_id: str) -> None:
        context = self.context(context_id)
        del self._contexts[context_id]
        await context.remove()
        self.save()

    # --- executions -----------------------------------------------------------------------

    def execute(self, request: Request, context_id: str | None, language: str | None) -> Run:
        """Queue a cell, or find the one that has this id already.

        Raises `Refusal` or `LostWithGateway`.
        """
        known = self._runs.get(request.execution_id)
        if known is not None:
            if known.request.code != request.code:
                raise Refusal(409, f"Execution {request.execution_id} is one of other code")
            return known
        self._check(request, context_id, language)
        if context_id:
            context = self.context(context_id)
        else:
            context = self._default_context(self._languages.normalise(language or DEFAULT))
        limit = self._max_queued
        if context.queue_length >= limit:
            raise TooMany(f"{limit} cells wait in this context, which is the limit; cancel some")
        self._ledger.accepted(request.execution_id, context.id)
        run = context.submit(request, self._ended)
        self._runs[request.execution_id] = run
        return run

    def _check(self, request: Request, context_id: str | None, language: str | None) -> None:
        self._check_unknown(request.execution_id)
        if context_id and language:
            raise Refusal(400, "Only one of context_id or language can be provided")
        size = len(request.code) if request.code.isascii() else len(request.code.encode())
        if size > MAX_CODE_BYTES:
            raise Refusal(413, f"The code has {size} bytes; the limit is {MAX_CODE_BYTES}")
        try:
            check_text(request.env_vars)
        except BadVariables as error:
            raise Refusal(400, f"env_vars: {error}") from None

    def run(self, execution_id: str) -> Run:
        """Raises `Refusal` or `LostWithGateway`."""
        run = self._runs.get(execution_id)
        if run is not None:
            return run
        self._check_unknown(execution_id)
        raise Refusal(404, f"Execution {execution_id} not found")

    def notebook(self, context_id: str) -> dict[str, Any]:
        """What ran in a context, as far as its events are kept. Raises `Refusal`."""
        context = self.named(context_id)
        runs = [run for run in self._runs.values() if run.context_id == context.id]
        return notebook.of_cells(
            context.language,
            [(run.request.execution_id, run.request.code, run.journal.events()) for run in runs],
        )

    def _check_unknown(self, execution_id: str) -> None:
        if not self._ledger.knows(execution_id):
            return
        context_id = self._ledger.lost_in(execution_id)
        if context_id is None:
            raise Refusal(410, f"Execution {execution_id} has ended; its events are no longer kept")
        raise LostWithGateway(self._contexts.get(context_id))

    def _ended(self, run: Run) -> None:
        self._ledger.ended(run.request.execution_id)
        self._relief.after(run.told_bytes)
        self._kept.append((run, run.kept_bytes))
        self._kept_bytes += run.kept_bytes
        while self._kept and (len(self._kept) > KEPT_RUNS or self._kept_bytes > KEPT_BYTES):
            self._forget(*self._kept.popleft())

    def _forget(self, run: Run, size: int) -> None:
        self._kept_bytes -= size
        del self._runs[run.request.execution_id]
        run.forget()

    async def close(self) -> None:
        """End all kernels. The contexts are remembered."""
        self._closing = True
        for context in self.contexts():
            await context.remove()
