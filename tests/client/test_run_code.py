"""`run_code` over the WebSocket, against a peer that can be made to misbehave."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from e2b import (
    InvalidArgumentException,
    NotFoundException,
    SandboxException,
    SandboxNotRunningException,
    TimeoutException,
)

from code_interpreter import (
    Cause,
    Context,
    ExecutionLostException,
    ExecutionStatus,
    ExecutionTimeoutException,
    InputPrompt,
    KernelState,
    OutputMessage,
    Result,
)
from code_interpreter.protocol import executions as wire
from tests.client.peer import HANGS, SMALL, Peer, program, result, stdout


def test_an_execution_has_its_output_value_and_truth(peer: Peer) -> None:
    execution = peer.sandbox().run_code(SMALL)
    assert execution.text == "2"
    assert execution.logs.stdout == ["hello\n"]
    assert execution.error is None
    assert execution.status is ExecutionStatus.OK
    assert execution.kernel_state is KernelState.PRESERVED
    assert execution.context_id == "c1"
    assert execution.receipt is not None
    assert execution.receipt.wall_seconds == 0.25
    assert execution.id == next(iter(peer.cells))


def test_callbacks_hear_everything_in_order(peer: Peer) -> None:
    heard: list[Any] = []
    code = program(
        stdout("a"),
        ["event", "stderr", {"text": "b", "timestamp": "t"}],
        result("c"),
        ["event", "error", {"name": "E", "value": "d", "traceback": "tb"}],
        ["end", {"status": "error"}],
    )
    execution = peer.sandbox().run_code(
        code,
        on_stdout=heard.append,
        on_stderr=heard.append,
        on_result=heard.append,
        on_error=heard.append,
    )
    out, err, value, error = heard
    assert (out.line, out.error) == ("a", False)
    assert (err.line, err.error) == ("b", True)
    assert value.text == "c"
    assert error is execution.error
    assert str(out) == "a"


def test_handshake_and_message_say_who_and_what(peer: Peer) -> None:
    context = Context("c7", "python", "/")
    peer.sandbox().run_code(SMALL, context=context, envs={"A": "b"}, timeout=7)
    assert peer.headers["E2b-Sandbox-Id"] == "ipeer"
    assert peer.headers["E2b-Sandbox-Port"] == "49999"
    assert peer.headers["X-Access-Token"] == "access"
    assert peer.headers["E2b-Traffic-Access-Token"] == "traffic"
    (execute,) = peer.messages
    assert isinstance(execute, wire.Execute)
    assert execute.context_id == "c7"
    assert execute.env_vars == {"A": "b"}
    assert execute.timeout == 7
    assert execute.on_disconnect is wire.OnDisconnect.INTERRUPT
    assert not execute.allow_stdin


def test_one_websocket_serves_many_executions_at_once(peer: Peer) -> None:
    sandbox = peer.sandbox()
    barrier = threading.Barrier(8)
    texts: dict[int, str | None] = {}

    def run(number: int) -> None:
        barrier.wait(5)
        code = program(["sleep", 0.2], result(str(number)), ["end"])
        texts[number] = sandbox.run_code(code).text

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - began < 1.2
    assert texts == {number: str(number) for number in range(8)}
    assert peer.opened == 1


def test_a_time_out_cancels_and_raises_after_about_its_length(peer: Peer) -> None:
    sandbox = peer.sandbox()
    began = time.monotonic()
    with pytest.raises(ExecutionTimeoutException, match="Execution timed out") as caught:
        sandbox.run_code(HANGS, timeout=0.5)
    assert 0.45 < time.monotonic() - began < 0.9
    assert isinstance(caught.value, TimeoutException)
    assert caught.value.execution.logs.stdout == ["before\n"]
    assert caught.value.execution.cause is Cause.CANCEL
    assert caught.value.execution.kernel_state is KernelState.PRESERVED
    assert isinstance(peer.messages[-1], wire.Cancel)
    assert sandbox.run_code(SMALL).text == "2"


def test_a_time_out_that_the_server_kept_raises_too(peer: Peer) -> None:
    code = program(["end", {"status": "interrupted", "cause": "timeout", "kernel_state": "reset"}])
    with pytest.raises(ExecutionTimeoutException) as caught:
        peer.sandbox().run_code(code, timeout=5)
    assert caught.value.execution.kernel_state is KernelState.RESET


def test_no_limit_with_timeout_zero(peer: Peer) -> None:
    peer.sandbox().run_code(SMALL, timeout=0)
    (execute,) = peer.messages
    assert isinstance(execute, wire.Execute)
    assert execute.timeout is None


def test_a_callback_that_raises_cancels_the_cell(peer: Peer) -> None:
    def fail(message: OutputMessage) -> None:
        raise ZeroDivisionError(message.line)

    sandbox = peer.sandbox()
    with pytest.raises(ZeroDivisionError):
        sandbox.run_code(HANGS, on_stdout=fail)
    (cell,) = peer.cells.values()
    assert _soon(cell.cancelled.is_set)
    assert sandbox.run_code(SMALL).text == "2"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"code": 7}, "code must be a str, not int"),
        ({"code": b"1"}, "not bytes"),
        ({"code": None}, "not NoneType"),
        ({"code": "\ud800"}, "position 0"),
        ({"code": "x" * (wire.MAX_CODE_BYTES + 1)}, "write it to a file"),
        ({"code": "1", "language": "r", "context": Context("a", "r", "/")}, "one of the two"),
        ({"code": "1", "language": 7}, "language must be"),
        ({"code": "1", "context": 7}, "context must be"),
        ({"code": "1", "envs": ["A"]}, "envs must be"),
        ({"code": "1", "envs": {"A": 1}}, "envs['A'] must be"),
        ({"code": "1", "envs": {"A=B": ""}}, "'A=B'"),
        ({"code": "1", "timeout": -1}, "timeout must be"),
        ({"code": "1", "timeout": "1"}, "timeout must be"),
        ({"code": "1", "timeout": float("nan")}, "timeout must be"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_sent(
    peer: Peer, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidArgumentException) as caught:
        peer.sandbox().run_code(**arguments)
    assert says in str(caught.value)
    assert peer.messages == []
    assert peer.requests == []


def test_code_that_is_not_text_is_a_type_error_too(peer: Peer) -> None:
    with pytest.raises(TypeError):
        peer.sandbox().run_code(7)  # type: ignore[call-overload]


def test_refusals_are_typed(peer: Peer) -> None:
    sandbox = peer.sandbox()
    with pytest.raises(NotFoundException, match="Context missing not found"):
        sandbox.run_code("[]", context="missing")
    with pytest.raises(SandboxException, match="400 Bad Request: no kernel for 'cobol'"):
        sandbox.run_code("[]", language="cobol")
    assert sandbox.run_code(SMALL).text == "2"
    assert peer.opened == 1


def test_a_string_is_told_from_a_number(peer: Peer) -> None:
    execution = peer.sandbox().run_code(program(result("'1'"), result("1"), result("'"), ["end"]))
    assert [shown.text for shown in execution.results] == ["1", "1", "'"]
    assert [shown.text_repr for shown in execution.results] == ["'1'", "1", "'"]


def test_displays_are_updated_and_cleared(peer: Peer) -> None:
    updates: list[Result] = []
    code = program(
        stdout("gone"),
        ["event", "clear_output", {"wait": True}],
        result("old", display_id="d", is_main_result=False),
        ["event", "display_update", {"display_id": "d", "bundle": {"text": "new"}}],
        result("main"),
        ["end"],
    )
    execution = peer.sandbox().run_code(code, on_update=updates.append)
    assert [shown.text for shown in execution.results] == ["new", "main"]
    assert execution.text == "main"
    assert execution.logs.stdout == []
    assert [update.text for update in updates] == ["new"]


def test_input_is_asked_for(peer: Peer) -> None:
    prompts: list[InputPrompt] = []

    def answer(prompt: InputPrompt) -> str:
        prompts.append(prompt)
        return "secret"

    execution = peer.sandbox().run_code(program(["input", "Word: "], ["end"]), on_input=answer)
    assert execution.logs.stdout == ["secret"]
    assert prompts == ["Word: "]
    assert prompts[0].password


def test_an_answer_that_is_no_line_is_named(peer: Peer) -> None:
    code = program(["input", "Word: "], ["end"])
    with pytest.raises(InvalidArgumentException, match="on_input must return"):
        peer.sandbox().run_code(code, on_input=lambda prompt: None)


def test_a_lost_connection_is_made_again_and_read_on(peer: Peer) -> None:
    code = program(stdout("a"), ["drop"], stdout("b"), ["drop"], result("c"), ["end"])
    execution = peer.sandbox().run_code(code, timeout=10)
    assert execution.logs.stdout == ["a", "b"]
    assert execution.text == "c"
    assert peer.opened == 3
    assert peer.runs == 1


def test_executions_go_on_after_an_idle_connection_was_lost(peer: Peer) -> None:
    sandbox = peer.sandbox()
    sandbox.run_code(SMALL)
    peer.drop_all()
    time.sleep(0.1)
    assert sandbox.run_code(SMALL).text == "2"


def test_all_executions_of_a_lost_connection_read_on(peer: Peer) -> None:
    sandbox = peer.sandbox()
    code = program(stdout("a"), ["sleep", 0.5], stdout("b"), ["end"])
    handles = [sandbox.stream_code(code, timeout=10) for _ in range(5)]
    time.sleep(0.2)
    peer.drop_all()
    assert [handle.wait().logs.stdout for handle in handles] == [["a", "b"]] * 5
    assert peer.runs == 5


def test_a_sandbox_that_is_killed_meanwhile_is_named(peer: Peer) -> None:
    def kill() -> None:
        time.sleep(0.3)
        peer.gone = True
        peer.drop_all()

    killer = threading.Thread(target=kill)
    killer.start()
    began = time.monotonic()
    with pytest.raises(
        SandboxNotRunningException, match="sandbox was killed while the request was in progress"
    ) as caught:
        peer.sandbox().run_code(HANGS)
    killer.join()
    assert isinstance(caught.value, TimeoutException)
    assert time.monotonic() - began < 3


def test_a_sandbox_that_is_gone_is_named(peer: Peer) -> None:
    peer.gone = True
    with pytest.raises(TimeoutException, match=r"The sandbox was not found.*sandbox timeout"):
        peer.sandbox().run_code(SMALL)


def test_an_execution_that_the_sandbox_forgot_is_lost(peer: Peer) -> None:
    peer.forgets = True
    with pytest.raises(ExecutionLostException, match="does not know execution"):
        peer.sandbox().run_code(program(stdout("a"), ["drop"]), timeout=5)


def test_events_that_are_missing_are_an_error(peer: Peer) -> None:
    with pytest.raises(SandboxException, match=r"Events 2 to 2 .* are missing"):
        peer.sandbox().run_code(program(["skip"], stdout("a")), timeout=5)


def test_the_reader_ends_with_the_sandbox_object(peer: Peer) -> None:
    before = threading.active_count()
    sandbox = peer.sandbox()
    sandbox.run_code(SMALL)
    assert threading.active_count() > before
    del sandbox
    gc.collect()
    assert _soon(lambda: threading.active_count() == before)
    assert _soon(lambda: not peer.sockets)


def _soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
