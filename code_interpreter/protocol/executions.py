"""The WebSocket protocol between a client and a sandbox's kernel gateway, version 1.

One WebSocket serves one client and any number of executions at once. It is opened at
``GET /v1/executions`` on port 49999 of a sandbox with the subprotocol
``code-interpreter.v1``. Every frame is a text frame that holds one JSON object: the
client sends a `ClientMessage`, the gateway a `GatewayMessage`; both are told apart by
their field ``type``. Unknown fields are ignored, so fields may be added within a version;
unknown ``type`` values are answered with a `Refused`.

What a client can rely on:

* The client chooses ``execution_id``. Sending `Execute` twice with one id runs the cell
  once; the second time attaches to it. So an id is also the idempotency key.
* The gateway answers an `Execute` with either one `Refused`, after which nothing ran, or
  with events numbered by ``seq`` from 1 without a gap. The first is `Accepted`, the last
  is `EndOfExecution`; there is exactly one of each.
* `Attach` replays the events after the given ``seq`` and goes on live.
* Times are seconds as float, timestamps ISO 8601 with an offset, sizes bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

SUBPROTOCOL = "code-interpreter.v1"
PATH = "/v1/executions"
GATEWAY_PORT = 49999
"""The sandbox port that stands for the gateway; E2B's clients address it by this number."""

MAX_CODE_BYTES = 10 * 1024 * 1024
"""Cells above this size (UTF-8) are refused with 413 before anything is touched."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest frame either side accepts."""
TABLE_MIME = "application/vnd.code-interpreter.table+json"
"""The format of a result that describes a table which can be fetched whole."""

ExecutionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


# --- client to gateway ------------------------------------------------------------------


class OnDisconnect(StrEnum):
    """What happens to a cell when the last connection that follows it goes away."""

    INTERRUPT = "interrupt"
    CONTINUE = "continue"


class Execute(_Wire):
    """Run a cell. At most one of ``context_id`` and ``language`` may be given."""

    type: Literal["execute"] = "execute"
    execution_id: ExecutionId
    code: str
    context_id: str | None = None
    language: str | None = None
    env_vars: dict[str, str] | None = None
    timeout: float | None = None
    """Seconds the cell may run, counted from its start; then it is interrupted. None: no limit."""
    allow_stdin: bool = False
    on_disconnect: OnDisconnect = OnDisconnect.INTERRUPT


class Attach(_Wire):
    """Read an execution's events after number ``after`` (0: from the first), then live ones."""

    type: Literal["attach"] = "attach"
    execution_id: ExecutionId
    after: int = 0


class Cancel(_Wire):
    """End an execution: taken out of the queue, or interrupted and, if that fails, killed."""

    type: Literal["cancel"] = "cancel"
    execution_id: ExecutionId


class Input(_Wire):
    """The answer to an `InputRequest`; with its ``seq``, it is safe to send it twice."""

    type: Literal["input"] = "input"
    execution_id: ExecutionId
    value: str
    seq: int | None = None


ClientMessage = Annotated[Execute | Attach | Cancel | Input, Field(discriminator="type")]


# --- gateway to client ------------------------------------------------------------------


class Refused(_Wire):
    """The message was not acted on. ``status`` has the meaning it has in HTTP."""

    type: Literal["refused"] = "refused"
    execution_id: str | None = None
    status: int
    message: str


class _Event(_Wire):
    execution_id: str
    seq: int


class Accepted(_Event):
    """The cell is in its context's queue, behind ``queue_position`` others."""

    type: Literal["accepted"] = "accepted"
    context_id: str
    language: str
    queue_position: int = 0


class QueueMoved(_Event):
    """The cell still waits, behind ``queue_position`` others.

    Sent for each of the first ten places, for every tenth up to a hundred, and for every
    hundredth behind these.
    """

    type: Literal["queue_moved"] = "queue_moved"
    queue_position: int


class NumberOfExecutions(_Event):
    """The kernel began to run the cell."""

    type: Literal["number_of_executions"] = "number_of_executions"
    execution_count: int


class Stdout(_Event):
    type: Literal["stdout"] = "stdout"
    text: str
    timestamp: str


class Stderr(_Event):
    type: Literal["stderr"] = "stderr"
    text: str
    timestamp: str


class Bundle(_Wire):
    """A MIME bundle, by E2B's field names; what has no name of its own is in ``extra``."""

    text: str | None = None
    html: str | None = None
    markdown: str | None = None
    svg: str | None = None
    png: str | None = None
    jpeg: str | None = None
    pdf: str | None = None
    latex: str | None = None
    json_: Any = Field(default=None, alias="json")
    javascript: str | None = None
    data: Any = None
    chart: Any = None
    extra: dict[str, Any] = Field(default_factory=dict)

    model_config = ConfigDict(
        extra="ignore", frozen=True, validate_by_name=True, validate_by_alias=True
    )


class ResultEvent(_Event):
    """A value or a display. ``is_main_result`` marks the value of the cell's last expression."""

    type: Literal["result"] = "result"
    is_main_result: bool = False
    display_id: str | None = None
    bundle: Bundle


class DisplayUpdate(_Event):
    """Replaces every earlier result of this execution that has the same ``display_id``."""

    type: Literal["display_update"] = "display_update"
    display_id: str
    bundle: Bundle


class ClearOutput(_Event):
    """Removes the output so far: at once, or with ``wait`` when the next output comes."""

    type: Literal["clear_output"] = "clear_output"
    wait: bool = False


class ErrorEvent(_Event):
    """The cell raised, or could not be finished. ``traceback`` has line breaks and no ANSI."""

    type: Literal["error"] = "error"
    name: str
    value: str
    traceback: str
    traceback_ansi: str | None = None


class InputRequest(_Event):
    """The cell waits for a line of input; answer with `Input`."""

    type: Literal["input_request"] = "input_request"
    prompt: str = ""
    password: bool = False


class KernelState(StrEnum):
    """What became of the kernel's variables."""

    PRESERVED = "preserved"
    RESET = "reset"
    """The kernel was ended on purpose (time-out, cancel, restart); a fresh one runs."""
    LOST = "lost"
    """The kernel died by itself; the next cell meets a fresh one."""


class ExecutionStatus(StrEnum):
    OK = "ok"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class Cause(StrEnum):
    """Why an execution did not end by itself, or why the kernel is not the one it was."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    DISCONNECT = "disconnect"
    RESTART = "restart"
    REMOVED = "removed"
    EXIT = "exit"
    SIGNAL = "signal"
    OOM = "oom"
    START_FAILED = "start_failed"
    GATEWAY_RESTART = "gateway_restart"


class OutputReceipt(_Wire):
    """Exact byte counts (UTF-8) of a stream; ``path`` holds all of it when some was left out."""

    total_bytes: int = 0
    omitted_bytes: int = 0
    path: str | None = None


class Receipt(_Wire):
    """What an execution cost. None where this machine cannot measure it."""

    wall_seconds: float
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    stdout: OutputReceipt = Field(default_factory=OutputReceipt)
    stderr: OutputReceipt = Field(default_factory=OutputReceipt)
    omitted_results: int = 0


class EndOfExecution(_Event):
    """The last event, always."""

    type: Literal["end_of_execution"] = "end_of_execution"
    status: ExecutionStatus
    kernel_state: KernelState
    cause: Cause | None = None
    exit_code: int | None = None
    signal: int | None = None
    receipt: Receipt


ExecutionEvent = Annotated[
    Accepted
    | QueueMoved
    | NumberOfExecutions
    | Stdout
    | Stderr
    | ResultEvent
    | DisplayUpdate
    | ClearOutput
    | ErrorEvent
    | InputRequest
    | EndOfExecution,
    Field(discriminator="type"),
]
GatewayMessage = Annotated[ExecutionEvent | Refused, Field(discriminator="type")]

client_message: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)
gateway_message: TypeAdapter[GatewayMessage] = TypeAdapter(GatewayMessage)


def encode(message: BaseModel) -> str:
    """The text frame of a message: ASCII-only JSON, absent fields left out."""
    text = message.model_dump_json(by_alias=True, exclude_none=True)
    if text.isascii():  # far quicker than escaping, for pictures above all
        return text
    return message.model_dump_json(by_alias=True, exclude_none=True, ensure_ascii=True)
