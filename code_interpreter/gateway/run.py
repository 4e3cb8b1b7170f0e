"""One execution on its way: joins the rules of `execution` with a kernel, a clock and readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from code_interpreter.gateway.execution import Execution, Interrupt, Kill, Output, Terms
from code_interpreter.gateway.journal import Journal
from code_interpreter.gateway.kernel import Kernel
from code_interpreter.gateway.kernel_end import KernelEnd, Usage
from code_interpreter.gateway.message import KernelMessage
from code_interpreter.gateway.place import Place
from code_interpreter.gateway.process_usage import process_seconds
from code_interpreter.gateway.spill import Spill
from code_interpreter.guest.awake import AwakeClock, AwakeTimer
from code_interpreter.protocol.executions import Cause, InputRequest, OnDisconnect

USAGE_KEY = "code_interpreter"
RETURN_SECONDS = 10.0
"""How long a cell is kept for a client whose connection broke; see `Run.disown`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants to be run."""

    execution_id: str
    code: str
    env_vars: dict[str, str] = field(default_factory=dict)
    timeout: float | None = None
    allow_stdin: bool = False
    on_disconnect: OnDisconnect = OnDisconnect.INTERRUPT


class Run:
    """``done`` is called once, when the execution has ended."""

    def __init__(
        self,
        request: Request,
        terms: Terms,
        place: Place,
        clock: AwakeClock,
        done: Callable[[Run], None],
    ) -> None:
        self.request = request
        self.context_id = terms.context_id
        self.journal = Journal(place.events_path(request.execution_id))
        self.message_id = ""
        self._execution = Execution(terms)
        self._spills = {
            name: Spill(place.output(f"{request.execution_id}.{name}"))
            for name in ("stdout", "stderr")
        }
        for name, spill in self._spills.items():
            self._execution.events.paths[name] = str(spill.path)
        self._done = done
        self._owners: set[Hashable] = set()
        self._abandoning: asyncio.TimerHandle | None = None
        self._kernel: Kernel | None = None
        self._cpu_before: float | None = None
        self._clock = clock
        self._goes_on = request.on_disconnect is OnDisconnect.CONTINUE
        self._timer: AwakeTimer | None = None
        self._input: KernelMessage | None = None
        self._asked = 0

    @property
    def ended(self) -> bool:
        return self._execution.ended

    @property
    def told_error(self) -> bool:
        return self._execution.events.error_seen

    # --- its life -------------------------------------------------------------------------

    def accept(self, queue_position: int) -> None:
        self._apply(self._execution.accept(queue_position))

    def moved(self, queue_position: int) -> None:
        self._apply(self._execution.moved(queue_position))

    def start(self, kernel: Kernel, metadata: dict[str, object]) -> None:
        """Send it to ``kernel``, which must be ready and idle."""
        self._kernel = kernel
        self._execution.start(self._clock.time())
        request = self.request
        self.message_id = kernel.execute(
            request.code, allow_stdin=request.allow_stdin, metadata=metadata
        )
        asyncio.get_running_loop().call_soon(self._note_cpu)  # while the kernel begins
        self._apply([])

    def receive(self, message: KernelMessage) -> None:
        """A message of this cell, or late output to be delivered with it."""
        if message.type == "stream":
            self._spill(message)
        elif message.type == "execute_reply":
            self._note_usage(message)
            self._settle_spills()
        elif message.type == "input_request":
            self._input = message
        outputs = self._execution.receive(message, self._clock.time())
        self._apply(outputs, verbatim=message.unescaped)
        if self.journal.full:
            self._execution.events.close()

    def stop(self, cause: Cause) -> None:
        self._apply(self._execution.stop(cause, self._clock.time()))

    def kernel_ended(self, end: KernelEnd) -> None:
        if end.usage is not None:
            self._note_cost(end.usage.cpu_seconds, end.usage.peak_memory_bytes)
        self._apply(self._execution.kernel_ended(end, self._clock.time()))

    def start_failed(self, reason: str) -> None:
        self._apply(self._execution.start_failed(reason, self._clock.time()))

    def answer_input(self, value: str, asked: int | None = None) -> bool:
        """False if the cell does not wait for input.

        ``asked`` is the number of the event that asked: an answer to another one is dropped.
        """
        if asked is not None and asked != self._asked:
            return True
        if self._input is None or self._kernel is None or self.ended:
            return False
        self._kernel.answer_input(value, self._input)
        self._input = None
        return True

    # --- clients --------------------------------------------------------------------------

    def own(self, owner: Hashable) -> None:
        """``owner`` wants the result; the cell is interrupted when the last owner leaves."""
        self._owners.add(owner)
        self._stay()

    def disown(self, owner: Hashable, grace: float = 0.0) -> None:
        """``owner`` has left. If it was the last one, another has ``grace`` seconds to come."""
        if owner not in self._owners:
            return
        self._owners.discard(owner)
        if self._owners or self.ended or self._goes_on:
            return
        if grace:
            loop = asyncio.get_running_loop()
            self._abandoning = loop.call_later(grace, self.stop, Cause.DISCONNECT)
        else:
            self.stop(Cause.DISCONNECT)

    def go_on(self) -> None:
        """From now on it does not end with its clients: it is not they who go away."""
        self._goes_on = True
        self._stay()

    def _stay(self) -> None:
        if self._abandoning is not None:
            self._abandoning.cancel()
            self._abandoning = None

    @property
    def told_bytes(self) -> int:
        """What its events come to."""
        return self.journal.size

    @property
    def kept_bytes(self) -> int:
        """What is kept of it on the disk at most, once it has ended."""
        return sum(spill.written for spill in self._spills.values()) + self.journal.size

    def forget(self) -> None:
        """Remove what is kept of it."""
        self.journal.remove()
        for spill in self._spills.values():
            spill.path.unlink(missing_ok=True)

    # --- inside ---------------------------------------------------------------------------

    def _apply(self, outputs: list[Output], *, verbatim: bool = False) -> None:
        """``verbatim``: see `Journal.append`."""
        for output in outputs:
            if isinstance(output, Interrupt):
                self._command(Kernel.interrupt)
            elif isinstance(output, Kill):
                self._command(Kernel.kill)
            else:
                self.journal.append(output, verbatim=verbatim)
                if isinstance(output, InputRequest):
                    self._asked = output.seq
        self._set_timer()
        if outputs and self.ended and self._done is not None:
            self._stay()
            self._close_spills()
            done, self._done = self._done, _nothing
            done(self)

    def _command(self, command: Callable[[Kernel], None]) -> None:
        if self._kernel is not None:
            command(self._kernel)

    def _set_timer(self) -> None:
        deadline = self._execution.deadline()
        if self._timer is not None:
            if deadline == self._timer.when:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._clock.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._apply(self._execution.tick(self._clock.time()))

    def _spill(self, message: KernelMessage) -> None:
        name = "stderr" if message.content.get("name") == "stderr" else "stdout"
        spill = self._spills[name]
        spill.write(str(message.content.get("text", "")))
        if spill.failed:
            self._execution.events.paths[name] = None

    def _settle_spills(self) -> None:
        """Before the end is told: does the file really hold what was left out?"""
        for name, spill in self._spills.items():
            if self._execution.events.omitted_bytes[name]:
                spill.flush()
                if spill.failed:
                    self._execution.events.paths[name] = None

    def _close_spills(self) -> None:
        omitted = self._execution.events.omitted_bytes
        for name, spill in self._spills.items():
            if omitted[name]:
                spill.keep()
            else:
                spill.remove()

    def _note_usage(self, reply: KernelMessage) -> None:
        told = reply.metadata.get(USAGE_KEY)
        if isinstance(told, dict):
            self._execution.note_usage(
                Usage(told.get("cpu_seconds"), told.get("peak_memory_bytes"))
            )
        elif self._kernel is not None and self._kernel.pid is not None:
            self._note_cost(process_seconds(self._kernel.pid), None)

    def _note_cpu(self) -> None:
        """What the kernel has used before this cell."""
        if self._kernel is not None and self._kernel.pid is not None:
            self._cpu_before = process_seconds(self._kernel.pid)

    def _note_cost(self, kernel_seconds: float | None, peak: int | None) -> None:
        """``kernel_seconds`` are those of the kernel's whole life."""
        if kernel_seconds is not None and self._cpu_before is not None:
            cpu = max(0.0, kernel_seconds - self._cpu_before)
            self._execution.note_usage(Usage(cpu, peak))
        elif peak is not None:
            self._execution.note_usage(Usage(peak_memory_bytes=peak))


def _nothing(run: Run) -> None:
    """Stands in for ``done`` after it was called."""
