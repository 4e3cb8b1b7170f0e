"""Executions over the WebSocket."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from websockets.asyncio.client import unix_connect
from websockets.exceptions import InvalidStatus

from code_interpreter.protocol.executions import (
    PATH,
    Accepted,
    Attach,
    Cancel,
    Cause,
    EndOfExecution,
    ExecutionStatus,
    Input,
    InputRequest,
    KernelState,
    NumberOfExecutions,
    OnDisconnect,
    QueueMoved,
    Refused,
    Stdout,
)
from tests.gateway.world import World, running_gateway, short_directory

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_subprotocol_is_required(shared: World) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with unix_connect(shared.socket, f"ws://gateway{PATH}"):
            pass
    assert refused.value.response.status_code == 400


async def test_an_execution_from_first_to_last_event(shared: World) -> None:
    outcome = await shared.run("print('a', 'b')\n'x'")
    assert [event.type for event in outcome.events] == [
        "accepted",
        "number_of_executions",
        "stdout",
        "result",
        "end_of_execution",
    ]
    assert outcome.stdout == "a b\n"
    assert outcome.text == "'x'"
    end = outcome.end
    assert (end.status, end.kernel_state, end.cause) == (
        ExecutionStatus.OK,
        KernelState.PRESERVED,
        None,
    )
    assert end.receipt.wall_seconds > 0
    assert end.receipt.cpu_seconds is not None
    assert (end.receipt.peak_memory_bytes or 0) > 10_000_000
    assert end.receipt.stdout.total_bytes == 4


async def test_cells_of_one_context_wait_in_order(shared: World) -> None:
    async with shared.link() as link:
        ids = [await link.begin(f"import time; time.sleep(0.1); print({n})") for n in range(4)]
        outcomes = [await link.outcome(each) for each in ids]
    assert [o.of(Accepted)[0].queue_position for o in outcomes] == [0, 1, 2, 3]
    moves = [[event.queue_position for event in o.of(QueueMoved)] for o in outcomes]
    assert moves == [[], [], [1], [2, 1]]
    assert [o.stdout for o in outcomes] == ["0\n", "1\n", "2\n", "3\n"]


async def test_a_cancelled_cell_makes_room_in_the_queue(shared: World) -> None:
    async with shared.link() as link:
        ids = [await link.begin("import time; time.sleep(0.3)") for _ in range(3)]
        await link.send(Cancel(execution_id=ids[1]))
        moved = await link.until(ids[2], QueueMoved)
        await link.outcome(ids[0])
    assert moved.queue_position == 1


async def test_contexts_and_queues_have_a_limit_that_is_named() -> None:
    with short_directory() as directory:
        async with (
            running_gateway(directory, max_contexts=3, max_queued=20) as world,
            world.client() as client,
        ):
            async with world.link() as link:
                (await client.post("/contexts", json={})).raise_for_status()
                refused = await client.post("/contexts", json={})
                assert refused.status_code == 429
                assert refused.text == "There are 3 contexts, which is the limit; remove one first"
                execution_id = await link.begin("1", language="bash")
                answer = await link.next_of(execution_id)
                assert isinstance(answer, Refused)
                assert answer.status == 429
                await link.begin("import time; time.sleep(30)")
                for _ in range(20):
                    await link.begin("1", on_disconnect=OnDisconnect.CONTINUE)
                execution_id = await link.begin("1")
                answer = await link.next_of(execution_id)
                assert isinstance(answer, Refused)
                assert answer.status == 429
                assert "20 cells wait in this context" in answer.message


async def test_contexts_run_at_the_same_time(shared: World) -> None:
    async with shared.client() as client, shared.link() as link:
        made = [(await client.post("/contexts", json={})).json()["id"] for _ in range(2)]
        for each in made:
            await link.run("import time", context_id=each)
        loop = asyncio.get_running_loop()
        before = loop.time()
        ids = [await link.begin("time.sleep(4)", context_id=each) for each in made]
        for each in ids:
            await link.outcome(each)
        assert loop.time() - before < 7.5
        for each in made:
            await client.delete(f"/contexts/{each}")


async def test_one_id_runs_once(shared: World) -> None:
    execution_id = uuid.uuid4().hex
    await shared.run("counter = 0")
    async with shared.link() as link:
        first = await link.run("counter += 1; print(counter)", execution_id=execution_id)
        second = await link.run("counter += 1; print(counter)", execution_id=execution_id)
        other = await link.begin("counter += 2", execution_id=execution_id)
        refused = await link.until(other, Refused)
    assert first.events == second.events
    assert refused.status == 409
    assert (await shared.run("counter")).text == "1"


async def test_another_connection_reads_on_from_any_event(shared: World) -> None:
    async with shared.link() as link:
        execution_id = await link.begin(
            "import time\nfor n in range(5):\n    print(n); time.sleep(0.05)",
            on_disconnect=OnDisconnect.CONTINUE,
        )
        await link.until(execution_id, Stdout)
    async with shared.link() as link:
        await link.send(Attach(execution_id=execution_id))
        everything = await link.outcome(execution_id)
        await link.send(Attach(execution_id=execution_id, after=3))
        rest = await link.outcome(execution_id)
    assert everything.stdout == "0\n1\n2\n3\n4\n"
    assert rest.events == everything.events[3:]
    assert everything.end.status is ExecutionStatus.OK


async def test_leaving_interrupts_unless_it_is_to_continue(shared: World) -> None:
    async with shared.link() as link:
        execution_id = await link.begin("import time; time.sleep(30)")
        await link.until(execution_id, NumberOfExecutions)
    async with shared.link() as link:
        await link.send(Attach(execution_id=execution_id))
        end = (await link.outcome(execution_id)).end
    assert (end.status, end.cause, end.kernel_state) == (
        ExecutionStatus.INTERRUPTED,
        Cause.DISCONNECT,
        KernelState.PRESERVED,
    )


async def test_a_connection_that_breaks_may_be_replaced(shared: World) -> None:
    async with shared.link() as link:
        execution_id = await link.begin("import time; time.sleep(1); 'done'")
        await link.until(execution_id, NumberOfExecutions)
        link.connection.transport.abort()
    await asyncio.sleep(0.3)
    async with shared.link() as link:
        await link.send(Attach(execution_id=execution_id, after=2))
        assert (await link.outcome(execution_id)).text == "'done'"


async def test_who_attaches_keeps_the_cell_going_and_ends_it_by_leaving(shared: World) -> None:
    async with shared.link() as second:
        async with shared.link() as first:
            execution_id = await first.begin("import time; time.sleep(30)")
            await first.until(execution_id, NumberOfExecutions)
            await second.send(Attach(execution_id=execution_id))
            await second.until(execution_id, NumberOfExecutions)
        with pytest.raises(TimeoutError):
            await second.until(execution_id, EndOfExecution, 0.5)
    async with shared.link() as link:
        await link.send(Attach(execution_id=execution_id))
        assert (await link.until(execution_id, EndOfExecution)).cause is Cause.DISCONNECT


async def test_cancel_a_running_and_a_queued_cell(shared: World) -> None:
    async with shared.link() as link:
        first = await link.begin("while True: pass")
        second = await link.begin("print('never')")
        await link.until(first, NumberOfExecutions)
        await link.send(Cancel(execution_id=second))
        queued = await link.outcome(second)
        await link.send(Cancel(execution_id=first))
        ended = await link.until(first, EndOfExecution)
    assert (queued.end.status, queued.stdout) == (ExecutionStatus.INTERRUPTED, "")
    assert (ended.status, ended.cause) == (ExecutionStatus.INTERRUPTED, Cause.CANCEL)
    assert ended.kernel_state is KernelState.PRESERVED


async def test_input_is_asked_for_and_answered(shared: World) -> None:
    async with shared.link() as link:
        execution_id = await link.begin(
            "from getpass import getpass\n(input('who? '), getpass('pw? '))",
            allow_stdin=True,
        )
        first = await link.until(execution_id, InputRequest)
        for _ in range(2):
            await link.send(Input(execution_id=execution_id, value="me", seq=first.seq))
        second = await link.until(execution_id, InputRequest)
        await link.send(Input(execution_id=execution_id, value="hush"))
        outcome = await link.outcome(execution_id)
    assert (first.prompt, first.password) == ("who? ", False)
    assert (second.prompt, second.password) == ("pw? ", True)
    assert outcome.text == "('me', 'hush')"


async def test_input_without_anybody_to_ask_fails_at_once(shared: World) -> None:
    outcome = await shared.run("input('who? ')")
    assert outcome.error is not None
    assert outcome.error.name == "StdinNotImplementedError"


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        ("{", 400),
        ('{"type": "dance"}', 400),
        ('{"type": "execute", "execution_id": "a b", "code": ""}', 400),
        ('{"type": "execute", "execution_id": "ab", "code": "", "context_id": "x"}', 404),
        ('{"type": "execute", "execution_id": "ab", "code": "", "language": "klingon"}', 400),
        ('{"type": "attach", "execution_id": "unknown"}', 404),
        ('{"type": "cancel", "execution_id": "unknown"}', 404),
        ('{"type": "input", "execution_id": "unknown", "value": ""}', 404),
    ],
)
async def test_bad_messages_are_refused_and_the_connection_goes_on(
    shared: World, frame: str, status: int
) -> None:
    async with shared.link() as link:
        await link.connection.send(frame)
        answer = await link.receive()
        assert isinstance(answer, Refused)
        assert answer.status == status
        assert (await link.run("1+1")).text == "2"


async def test_too_much_code_is_refused(shared: World) -> None:
    async with shared.link() as link:
        execution_id = await link.begin("#" * (11 << 20))
        answer = await link.receive()
        assert isinstance(answer, Refused)
        assert (answer.status, answer.execution_id) == (413, execution_id)
