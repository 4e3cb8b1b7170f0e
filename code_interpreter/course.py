"""The course of one execution over connections that come and go. No I/O."""

from __future__ import annotations

from code_interpreter.errors import (
    ExecutionLostException,
    InvalidCodeException,
    SandboxException,
    from_status,
)
from code_interpreter.protocol.executions import (
    Attach,
    Cancel,
    ClientMessage,
    EndOfExecution,
    Execute,
    ExecutionEvent,
    GatewayMessage,
    Input,
    OnDisconnect,
    Refused,
)


class Course:
    """Knows what to say on each new connection, and which messages are news."""

    def __init__(self, first: Execute | Attach) -> None:
        self.execution_id = first.execution_id
        self.ended = False
        self._first = first
        self._last_seq = first.after if isinstance(first, Attach) else 0
        self._events = 0
        self._answered = False
        self._cancel: Cancel | None = None
        self._answer: Input | None = None

    @property
    def dies_with_client(self) -> bool:
        """Whether it is of no use to anybody if this client stops listening."""
        first = self._first
        return isinstance(first, Execute) and first.on_disconnect is OnDisconnect.INTERRUPT

    def reopen(self) -> None:
        """The messages from here on came over a new connection."""
        self._answered = False

    def opening(self) -> list[ClientMessage]:
        """What to send on a connection that has not heard of this execution.

        An `Execute` that nobody answered is sent again: the id keeps it from running twice.
        So are a wish to cancel and the last answer to a question, which may have been lost.
        """
        messages: list[ClientMessage] = [self._first]
        if self._events:
            messages = [Attach(execution_id=self.execution_id, after=self._last_seq)]
        messages += [said for said in (self._answer, self._cancel) if said is not None]
        return messages

    def cancel(self) -> Cancel:
        self._cancel = Cancel(execution_id=self.execution_id)
        return self._cancel

    def answer(self, value: str) -> Input:
        """The answer to the event that came last, an `InputRequest`."""
        self._answer = Input(execution_id=self.execution_id, value=value, seq=self._last_seq)
        return self._answer

    def receive(self, message: GatewayMessage) -> ExecutionEvent | None:
        """The event, or None if it is old. Raises what ends the execution for this client."""
        if isinstance(message, Refused):
            self._refuse(message)
            return None
        self._answered = True
        if message.seq <= self._last_seq:
            return None
        if message.seq != self._last_seq + 1:
            raise SandboxException(
                f"Events {self._last_seq + 1} to {message.seq - 1} of execution "
                f"'{self.execution_id}' are missing: the sandbox broke the protocol"
            )
        self._last_seq = message.seq
        self._events += 1
        self._answer = None
        self.ended = isinstance(message, EndOfExecution)
        return message

    def _refuse(self, refused: Refused) -> None:
        if self._answered:
            return  # a cancel or an input that came too late
        self.ended = True
        if self._events:
            raise ExecutionLostException(
                f"The sandbox does not know execution '{self.execution_id}' any more, so it "
                f"cannot be said whether it ended ({refused.message})"
            )
        if refused.status == 413:
            raise InvalidCodeException(refused.message)
        raise from_status(refused.status, refused.message)
