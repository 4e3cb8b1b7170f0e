"""The client on a real host, in real sandboxes, over connections that are really cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from e2b import NotFoundException, SandboxException, TimeoutException
from e2b.sandbox.main import SandboxOpts

from code_interpreter import (
    AsyncSandbox,
    Cause,
    ExecutionStatus,
    ExecutionTimeoutException,
    InvalidArgumentException,
    KernelState,
    Result,
    Sandbox,
    SandboxKilledException,
)
from code_interpreter.gateway.run import RETURN_SECONDS
from code_interpreter.protocol import executions as wire
from tests.service import Service


@pytest.fixture(scope="module")
def shared(service: Service) -> Iterator[Sandbox]:
    sandbox = Sandbox.create(**service.options)
    yield sandbox
    sandbox.kill()


@pytest.fixture
def sandbox(shared: Sandbox) -> Sandbox:
    """An object of the test's own for the shared sandbox."""
    return Sandbox(**_options(shared))


@pytest.fixture
def async_sandbox(shared: Sandbox) -> AsyncSandbox:
    return AsyncSandbox(**_options(shared))


def _options(sandbox: Sandbox) -> SandboxOpts:
    return SandboxOpts(
        sandbox_id=sandbox.sandbox_id,
        sandbox_domain=sandbox.sandbox_domain,
        envd_version=sandbox._envd_version,
        envd_access_token=sandbox._envd_access_token,
        traffic_access_token=sandbox.traffic_access_token,
        connection_config=sandbox.connection_config,
    )


def test_it_goes_over_the_websocket(sandbox: Sandbox) -> None:
    execution = sandbox.run_code("print('out')\n'value'")
    assert execution.text == "value"
    assert execution.results[0].text_repr == "'value'"
    assert execution.logs.stdout == ["out\n"]
    assert execution.status is ExecutionStatus.OK
    assert execution.kernel_state is KernelState.PRESERVED
    assert execution.receipt is not None
    assert execution.receipt.stdout.total_bytes == 4
    assert not sandbox._http_only


def test_over_http_it_is_the_same(sandbox: Sandbox) -> None:
    code = "import sys\nprint('out'); print('err', file=sys.stderr)\n[1, 'a']"
    ours = sandbox.run_code(code)
    sandbox._http_only = True
    theirs = sandbox.run_code(code)
    for execution in (ours, theirs):
        assert execution.logs.stdout == ["out\n"]
        assert execution.logs.stderr == ["err\n"]
    assert ours.text == theirs.text == "[1, 'a']"
    assert ours.results[0].formats() == theirs.results[0].formats()


def test_contexts_run_at_the_same_time_and_one_context_in_order(sandbox: Sandbox) -> None:
    contexts = [sandbox.create_code_context() for _ in range(2)]
    for context in contexts:
        sandbox.run_code("import time; seen, times = [], []", context=context)
    slow = "seen.append(len(seen)); times.append(time.time()); time.sleep(1.5); "
    slow += "times.append(time.time()); seen"
    handles = [
        sandbox.run_code(slow, context=context, background=True)
        for context in contexts
        for _ in range(2)
    ]
    assert [handle.queue_position for handle in handles] == [None, 1, None, 1]
    texts = [handle.wait(20).text for handle in handles]
    assert [handle.queue_position for handle in handles] == [None] * 4
    assert texts == ["[0]", "[0, 1]", "[0]", "[0, 1]"]
    one, other = [
        json.loads(sandbox.run_code("times", context=context).text or "") for context in contexts
    ]
    assert one == sorted(one)
    assert other == sorted(other)
    assert one[0] < other[1]
    assert other[0] < one[1]
    for context in contexts:
        sandbox.remove_code_context(context)
    with pytest.raises(NotFoundException, match=contexts[0].id):
        sandbox.run_code("1", context=contexts[0])


@pytest.mark.parametrize("http", [False, True])
def test_a_time_out_leaves_the_variables(sandbox: Sandbox, http: bool) -> None:
    sandbox.run_code("kept = 1; import time")
    sandbox._http_only = http
    began = time.monotonic()
    with pytest.raises(ExecutionTimeoutException) as caught:
        sandbox.run_code("print('a', flush=True); time.sleep(30)", timeout=1)
    assert 1 <= time.monotonic() - began < 8
    assert "".join(caught.value.execution.logs.stdout) == "a\n"
    if not http:
        assert caught.value.execution.cause is Cause.TIMEOUT
        assert caught.value.execution.kernel_state is KernelState.PRESERVED
    assert sandbox.run_code("kept", timeout=10).text == "1"


def test_input_is_asked_for_and_answered(sandbox: Sandbox) -> None:
    code = "import getpass\ninput('name: ') + getpass.getpass('word: ')"
    asked: list[tuple[str, bool]] = []

    def answer(prompt: str) -> str:
        asked.append((prompt, getattr(prompt, "password", False)))
        return prompt[0]

    assert sandbox.run_code(code, on_input=answer).text == "nw"
    assert asked == [("name: ", False), ("word: ", True)]


def test_displays_are_updated(sandbox: Sandbox) -> None:
    updates: list[Result] = []
    execution = sandbox.run_code(
        "shown = display('old', display_id=True)\nshown.update('new')\nNone",
        on_update=updates.append,
    )
    assert [result.text for result in execution.results] == ["new"]
    assert [result.text for result in updates] == ["new"]


def test_events_come_while_the_cell_runs(sandbox: Sandbox) -> None:
    code = "import time\nfor number in range(3):\n    print(number); time.sleep(0.3)"
    times: list[float] = []
    with sandbox.stream_code(code) as events:
        for event in events:
            if isinstance(event, wire.Stdout) and event.text.strip():
                times.append(time.monotonic())
    assert times[-1] - times[0] > 0.4
    assert "".join(events.execution.logs.stdout) == "0\n1\n2\n"


def test_a_kernel_that_dies_is_told(service: Service) -> None:
    with Sandbox.create(**service.options) as sandbox:
        sandbox.run_code("x = 1")
        execution = sandbox.run_code("import os; os._exit(7)")
        assert execution.status is ExecutionStatus.LOST
        assert execution.kernel_state is KernelState.LOST
        assert (execution.cause, execution.exit_code) == (Cause.EXIT, 7)
        assert sandbox.run_code("'x' in globals()").text == "False"


def test_a_sandbox_that_is_killed_meanwhile_is_named(service: Service) -> None:
    sandbox = Sandbox.create(**service.options)
    killer = threading.Timer(0.5, sandbox.kill)
    killer.start()
    began = time.monotonic()
    with pytest.raises(SandboxKilledException, match="sandbox was killed while the request"):
        sandbox.run_code("import time; time.sleep(30)")
    assert time.monotonic() - began < 5
    killer.join()
    for use in (lambda: sandbox.run_code("1"), sandbox.list_code_contexts):
        with pytest.raises(TimeoutException, match="was not found"):
            use()


def test_a_program_that_ends_interrupts_its_cell_but_not_one_in_the_background(
    service: Service, sandbox: Sandbox
) -> None:
    code = f"""
import os
from code_interpreter import Sandbox
sandbox = Sandbox.connect({sandbox.sandbox_id!r}, **{service.options!r})
other = sandbox.create_code_context()
slow = "import time; time.sleep(2); 'done'"
print(sandbox.run_code(slow, context=other, background=True).id, flush=True)
events = sandbox.stream_code("import time; time.sleep(60)")
print(events.id, flush=True)
os._exit(0)
"""
    program = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    background, foreground = program.stdout.split()
    time.sleep(RETURN_SECONDS + 1)  # whoever attached before would keep it going
    execution = sandbox.attach_execution(foreground).wait(timeout=10)
    assert execution.cause is Cause.DISCONNECT
    assert execution.status is ExecutionStatus.INTERRUPTED
    assert sandbox.attach_execution(background).wait(timeout=10).text == "done"


@pytest.mark.parametrize("background", [False, True])
def test_a_key_runs_a_cell_once_whoever_sends_it(
    service: Service, sandbox: Sandbox, background: bool
) -> None:
    key, code = f"charge-{background}", "runs += 1; print('charged'); runs"
    program = f"""
from code_interpreter import Sandbox
sandbox = Sandbox.connect({sandbox.sandbox_id!r}, **{service.options!r})
execution = sandbox.run_code({code!r}, idempotency_key={key!r})
print(execution.id, execution.text)
"""
    sandbox.run_code("runs = 0")
    if background:
        assert sandbox.run_code(code, idempotency_key=key, background=True).wait(20).text == "1"
    else:
        assert sandbox.run_code(code, idempotency_key=key).text == "1"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"{key} 1\n"
    with sandbox.stream_code(code, idempotency_key=key) as events:
        assert "charged\n" in [getattr(event, "text", None) for event in events]
    assert sandbox.run_code("runs").text == "1"
    with pytest.raises(SandboxException, match="is one of other code"):
        sandbox.run_code("runs += 10", idempotency_key=key)


async def test_a_key_runs_a_cell_once_under_asyncio(async_sandbox: AsyncSandbox) -> None:
    await async_sandbox.run_code("runs = 0")
    both = [async_sandbox.run_code("runs += 1; runs", idempotency_key="both") for _ in range(2)]
    assert [each.text for each in await asyncio.gather(*both)] == ["1", "1"]
    with pytest.raises(InvalidArgumentException, match="idempotency_key must be 1 to 64 letters"):
        await async_sandbox.run_code("1", idempotency_key="no spaces")


def test_a_program_that_was_forked_has_a_connection_of_its_own(sandbox: Sandbox) -> None:
    sandbox.run_code("x = 'shared'")
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os._exit(0 if sandbox.run_code("x", timeout=10).text == "shared" else 1)
        os._exit(2)
    assert sandbox.run_code("x", timeout=10).text == "shared"
    assert os.waitpid(pid, 0)[1] == 0


# --- asyncio ----------------------------------------------------------------------------


async def test_asyncio_runs_many_cells_at_once(async_sandbox: AsyncSandbox) -> None:
    contexts = await asyncio.gather(*(async_sandbox.create_code_context() for _ in range(4)))
    executions = await asyncio.gather(
        *(
            async_sandbox.run_code(f"import time; time.sleep(0.3); {number}", context=context)
            for number, context in enumerate(contexts)
        )
    )
    assert [execution.text for execution in executions] == ["0", "1", "2", "3"]
    await asyncio.gather(*map(async_sandbox.remove_code_context, contexts))


async def test_asyncio_cancels_what_nobody_waits_for(async_sandbox: AsyncSandbox) -> None:
    await async_sandbox.run_code("kept = 'yes'; import time")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await async_sandbox.run_code("time.sleep(60)")
    assert (await async_sandbox.run_code("kept", timeout=10)).text == "yes"


async def test_asyncio_names_a_wrong_language(async_sandbox: AsyncSandbox) -> None:
    with pytest.raises(SandboxException, match="cobol"):
        await async_sandbox.run_code("1", language="cobol")
