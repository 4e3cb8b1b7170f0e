"""A context: a language, a working directory, a kernel, and the cells that wait for it.

Cells run one after the other. The kernel is started when it is needed, or ahead of time by
`prepare`; when it dies, the next cell meets a fresh one in the same directory with the same
variables of the sandbox.

Output that comes after its cell has ended (from a thread, say) belongs to the cell that is
running then, and if none is, to the next one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import zmq

from code_interpreter.gateway.barrier import Barrier
from code_interpreter.gateway.environment import SandboxEnvironment
from code_interpreter.gateway.execution import Terms
from code_interpreter.gateway.hidden_cells import HiddenCells
from code_interpreter.gateway.kernel import Kernel, KernelStartFailed
from code_interpreter.gateway.kernel_end import KernelEnd
from code_interpreter.gateway.languages import BARRIER, KernelSpec
from code_interpreter.gateway.late import LateOutput
from code_interpreter.gateway.ledger import ContextRecord, KernelRecord
from code_interpreter.gateway.listeners import ClientMessage, Listener, Listeners
from code_interpreter.gateway.message import KernelMessage
from code_interpreter.gateway.place import Place
from code_interpreter.gateway.run import USAGE_KEY, Request, Run
from code_interpreter.gateway.starter import KernelStarter
from code_interpreter.guest.awake import AwakeClock
from code_interpreter.protocol.executions import Cause

_LATE_TYPES = frozenset({"stream", "display_data", "update_display_data", "clear_output"})
_OUTPUT_TYPES = _LATE_TYPES | {"execute_result", "error"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Machinery:
    """What all contexts share."""

    place: Place
    zmq: zmq.Context[zmq.Socket[bytes]]
    starter: KernelStarter | None
    environment: SandboxEnvironment
    changed: Callable[[], None]
    """Called when a kernel came or went."""
    clock: AwakeClock
    """Of the time-outs of cells."""


class Context:
    def __init__(
        self, context_id: str, language: str, cwd: str, spec: KernelSpec, machinery: Machinery
    ) -> None:
        self.id = context_id
        self.language = language
        self.cwd = cwd
        self._spec = spec
        self._machinery = machinery
        self._kernel: Kernel | None = None
        self._starting: asyncio.Task[None] | None = None
        self._queue: deque[Run] = deque()
        self._current: Run | None = None
        self._hidden = HiddenCells(spec, machinery.environment)
        self._barrier = Barrier(spec.barrier, self._receive)
        self._around: asyncio.Task[None] | None = None
        self._late = LateOutput()
        self._removed = False
        self._adopted = False
        self._telling = True
        self.listeners = Listeners()
        self.last_activity = time.time()

    @property
    def queue_length(self) -> int:
        return len(self._queue)

    # --- cells ----------------------------------------------------------------------------

    def submit(self, request: Request, done: Callable[[Run], None]) -> Run:
        """Queue a cell; it begins at once if nothing is before it."""
        terms = Terms(
            execution_id=request.execution_id,
            context_id=self.id,
            language=self.language,
            timeout=request.timeout,
            interruptible=self._spec.interruptible,
            settle=self._spec.settle,
        )
        machinery = self._machinery
        run = Run(
            request,
            terms,
            machinery.place,
            machinery.clock,
            lambda run: self._finished(run, done),
        )
        run.accept(len(self._queue) + (self._current is not None))
        self._queue.append(run)
        self._pump()
        return run

    def _finished(self, run: Run, done: Callable[[Run], None]) -> None:
        done(run)
        if run is self._current:
            self._current = None
            kernel = self._kernel
            if self._hidden.set_variables and run.request.env_vars and kernel and kernel.ready:
                self._around = asyncio.create_task(self._take_back_variables(kernel))
        elif run in self._queue:
            self._queue.remove(run)
            self._tell_places()
        asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Start the next cell if everything is ready for it."""
        if self._current is not None or not self._queue or self._around is not None:
            return
        if self.listeners.run_cells:
            return
        if self._kernel is None or not self._kernel.ready:
            self.prepare()
            return
        if self._hidden.set_variables:
            self._around = asyncio.create_task(self._start_after_variables(self._kernel))
        else:
            self._start_next(self._kernel)

    def _start_next(self, kernel: Kernel) -> None:
        run = self._queue.popleft()
        self._current = run
        late = self._late.take()
        run.start(kernel, {USAGE_KEY: self._wishes(run, kernel)})
        for message in late:
            run.receive(message)
        self._tell_places()

    def _tell_places(self) -> None:
        before = 0 if self._current is None else 1
        for place, run in enumerate(list(self._queue)):
            run.moved(place + before)

    def _wishes(self, run: Run, kernel: Kernel) -> dict[str, object]:
        wishes = self._sandbox_wishes(kernel)
        if run.request.env_vars:
            wishes["env"] = run.request.env_vars
        return wishes

    def _sandbox_wishes(self, kernel: Kernel) -> dict[str, object]:
        environment = self._machinery.environment
        if kernel.environment_version == environment.version:
            return {}
        kernel.environment_version = environment.version
        return {"sandbox_env": environment.variables}

    async def _start_after_variables(self, kernel: Kernel) -> None:
        try:
            if self._queue:
                await self._hidden.before(kernel, self._queue[0].request.env_vars)
        finally:
            self._around = None
        if self._queue and self._current is None and kernel is self._kernel and kernel.ready:
            self._start_next(kernel)
        else:
            self._pump()

    async def _take_back_variables(self, kernel: Kernel) -> None:
        try:
            await self._hidden.after(kernel)
        finally:
            self._around = None
        self._pump()

    # --- the kernel -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the kernel if there is none."""
        if self._removed or self._starting is not None:
            return
        if self._kernel is None or not self._kernel.ready:
            self._starting = asyncio.create_task(self._start_kernel())

    @property
    def is_untouched(self) -> bool:
        """It has a kernel that is ready and that nobody has used or waits for."""
        idle = self._current is None and self._around is None and not self._queue
        kernel = self._kernel
        return idle and not self.listeners and kernel is not None and not kernel.used

    def take_kernel(self) -> Kernel:
        """The kernel of a context that `is_untouched`; it has none afterwards."""
        kernel, self._kernel = self._kernel, None
        assert kernel is not None
        return kernel

    def give_kernel(self, kernel: Kernel) -> None:
        """Have one that was started for another context in the same directory."""
        kernel.belong_to(self)
        self._kernel = kernel
        self._machinery.changed()

    async def _start_kernel(self) -> None:
        machinery = self._machinery
        kernel = Kernel(self._spec, machinery.place, machinery.zmq, machinery.starter, self)
        environment = machinery.environment
        version = environment.version
        try:
            env = machinery.place.environment(environment.variables)
            await kernel.start(self.cwd, env)
            if self._spec.starts_with_variables:
                kernel.environment_version = version
            if self._spec.prelude is not None:
                await self._hidden.run(kernel, self._spec.prelude)
            self._kernel = kernel
            machinery.changed()
        except KernelStartFailed as failure:
            log.error("context %s: %s", self.id, failure)
            self._fail_queue(str(failure))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("context %s: kernel start", self.id)
            self._fail_queue(f"The kernel could not be started: {error}")
        finally:
            self._starting = None
        self._pass_on_waiting()
        self._pump()

    def adopt(self, record: KernelRecord) -> None:
        """Go on with a kernel that outlived its gateway, or with a fresh one if that fails."""
        self._starting = asyncio.create_task(self._adopt_kernel(record))

    async def _adopt_kernel(self, record: KernelRecord) -> None:
        machinery = self._machinery
        starter = machinery.starter if record.warm else None
        kernel = Kernel(self._spec, machinery.place, machinery.zmq, starter, self)
        try:
            await kernel.adopt(record)
            self._kernel, self._adopted = kernel, True
            machinery.changed()
        except KernelStartFailed as failure:
            log.warning("context %s: %s", self.id, failure)
        finally:
            self._starting = None
        self._pass_on_waiting()
        self._pump()

    async def was_adopted(self) -> bool:
        """Does this context still have the kernel that it had under an earlier gateway?"""
        await self.settled()
        return self._adopted

    async def settled(self) -> None:
        """Return when no kernel is being started for it."""
        if self._starting is not None:
            await asyncio.wait([self._starting])

    def record(self, *, default: bool) -> ContextRecord:
        kernel = None if self._kernel is None else self._kernel.record()
        return ContextRecord(self.id, self.language, self.cwd, default, kernel)

    def _fail_queue(self, reason: str) -> None:
        for run in reversed(list(self._queue)):
            run.start_failed(reason)

    def kernel_said(self, kernel: Kernel, channel: str, message: KernelMessage) -> None:
        self.last_activity = time.time()
        if self.listeners.hear(channel, message):
            self._pump()
            return
        run = self._current
        if run is not None and message.parent_id == run.message_id:
            if not self._barrier.hold(kernel, message, self._explanation(run, message)):
                run.receive(message)
        elif self._hidden.hear(kernel, message):
            return
        elif self._barrier.up and message.type == BARRIER:
            self._barrier.release()
        elif self._barrier.up and run is not None and message.type in _OUTPUT_TYPES:
            run.receive(message)
        elif message.type in _LATE_TYPES and kernel is self._kernel:
            if run is not None:
                run.receive(message)
            else:
                self._late.add(message)

    def _explanation(self, run: Run, message: KernelMessage) -> str:
        """Code that has the kernel say why the cell failed, if it did and did not say so."""
        if message.content.get("status") != "error" or run.told_error:
            return ""
        return self._spec.explain.replace("{source}", json.dumps(run.request.code))

    def _receive(self, message: KernelMessage) -> None:
        if self._current is not None:
            self._current.receive(message)

    # --- clients of Jupyter's protocol ----------------------------------------------------

    @property
    def kernel_name(self) -> str:
        return self._spec.name

    @property
    def has_kernel(self) -> bool:
        return self._kernel is not None

    @property
    def execution_state(self) -> str:
        if self._starting is not None:
            return "starting"
        return "busy" if self._current is not None or self.listeners.run_cells else "idle"

    def pass_on(self, listener: Listener, message: ClientMessage) -> None:
        """Send a listener's message to the kernel, as soon as there is one."""
        kernel = self._kernel
        if kernel is None or not kernel.ready:
            self.listeners.wait(listener, message)
            self.prepare()
            return
        self.listeners.asked(listener, message)
        if message.is_cell:
            message = replace(
                message,
                metadata={**message.metadata, USAGE_KEY: self._sandbox_wishes(kernel)},
                content={**message.content, "stop_on_error": False},
            )
        kernel.pass_on(message)

    def _pass_on_waiting(self) -> None:
        """If the kernel could not be started, those who wait hear that it is dead."""
        if self._kernel is None:
            self.listeners.kernel_failed()
            return
        for listener, message in self.listeners.take_waiting():
            self.pass_on(listener, message)

    def interrupt(self, cause: Cause) -> None:
        """Interrupt what runs, whoever sent it."""
        if self._current is not None:
            self._current.stop(cause)
        elif self._kernel is not None:
            self._kernel.interrupt()

    # --- the kernel's end -----------------------------------------------------------------

    def kernel_ended(self, kernel: Kernel, end: KernelEnd) -> None:
        kernel.close()
        if kernel is not self._kernel:
            return
        self._kernel = None
        self._adopted = False
        self._machinery.changed()
        self._late.clear()
        self._barrier.kernel_ended()
        self._hidden.kernel_ended()
        self.listeners.kernel_ended(tell=self._telling)
        if self._current is not None:
            self._current.kernel_ended(end)
        if kernel.used:
            self.prepare()
        self._pump()

    async def request(self, operation: str, deadline: float, **arguments: object) -> object:
        """Have the kernel do something beside its cells.

        Raises NotImplementedError if this language cannot, `KernelStartFailed` if there is
        no kernel, and what `Kernel.request` raises.
        """
        if operation not in self._spec.operations:
            raise NotImplementedError(f"{self.language} contexts have no '{operation}'")
        self.prepare()
        if self._starting is not None:
            await asyncio.shield(self._starting)
        if self._kernel is None:
            raise KernelStartFailed(f"Context {self.id} has no kernel")
        return await self._kernel.request(operation, deadline, **arguments)

    # --- on request -----------------------------------------------------------------------

    async def restart(self, *, tell_listeners: bool = True) -> None:
        """End the kernel and wait for a fresh one. Raises `KernelStartFailed`."""
        self._telling = tell_listeners
        if self._current is not None:
            self._current.stop(Cause.RESTART)
        try:
            await self._end_kernel()
        finally:
            self._telling = not self._removed
        self.prepare()
        if self._starting is not None:
            await asyncio.shield(self._starting)
        if self._kernel is None:
            raise KernelStartFailed(f"Context {self.id} could not be restarted")

    async def remove(self) -> None:
        """End everything; the context cannot be used afterwards."""
        self._removed, self._telling = True, False
        for run in [*reversed(self._queue), *filter(None, [self._current])]:
            run.stop(Cause.REMOVED)
        await self._end_kernel()

    async def _end_kernel(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
            self._starting = None
        kernel = self._kernel
        if kernel is not None:
            kernel.used = False  # whoever ends it starts the next
            await kernel.end()
