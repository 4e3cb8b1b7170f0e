"""Cells of bash."""

from __future__ import annotations

import asyncio

import pytest

from code_interpreter.protocol.executions import Cause, ExecutionStatus, KernelState
from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("code", "stdout", "stderr"),
    [
        ("echo hi", "hi\n", ""),
        ("echo out; echo err >&2; echo out", "out\nout\n", "err\n"),
        ("for n in 1 2 3\ndo\n  echo $n\ndone", "1\n2\n3\n", ""),
        ("cat <<'END'\na $x\nb\nEND", "a $x\nb\n", ""),
        ('f() { echo "f $1"; }', "", ""),
        ("f 1", "f 1\n", ""),
        ("x=kept; cd /", "", ""),
        ("echo $x $PWD", "kept /\n", ""),
        ("alias a='echo aliased'", "", ""),
        ("a", "aliased\n", ""),
        ('read line; echo "got [$line]"', "got []\n", ""),
        ("printf 'no newline'", "no newline", ""),
        ("echo 'ü \"quoted\" $HOME `x`'", 'ü "quoted" $HOME `x`\n', ""),
        ("echo a!b", "a!b\n", ""),
        ("   echo indented", "indented\n", ""),
        ("# nothing", "", ""),
        ("", "", ""),
        ("printf 'a\\0b' | wc -c", "3\n", ""),
    ],
)
async def test_cells(shared: World, code: str, stdout: str, stderr: str) -> None:
    outcome = await shared.run(code, language="bash")
    assert (outcome.stdout, outcome.stderr, outcome.error) == (stdout, stderr, None)
    assert outcome.results == []


@pytest.mark.parametrize(
    ("code", "status", "stderr"),
    [
        ("false", "1", ""),
        ("(exit 3)", "3", ""),
        ("nonesuch", "127", "bash: nonesuch: command not found\n"),
        ("if then", "2", "syntax error"),
        ("echo 'open", "2", "unexpected EOF"),
    ],
)
async def test_an_exit_status_is_an_error(
    shared: World, code: str, status: str, stderr: str
) -> None:
    outcome = await shared.run(code, language="bash")
    assert outcome.error is not None
    assert (outcome.error.name, outcome.error.value) == ("ExitStatus", status)
    assert stderr in outcome.stderr
    assert outcome.end.kernel_state is KernelState.PRESERVED
    assert (await shared.run("echo on", language="sh")).stdout == "on\n"


async def test_the_status_of_the_last_cell_can_be_asked_for(shared: World) -> None:
    await shared.run("(exit 4)", language="bash")
    assert (await shared.run("echo $?", language="bash")).stdout == "4\n"


@pytest.mark.parametrize(
    "code", ["while :; do :; done", "sleep 60", "sleep 60 | cat", "cat /dev/zero"]
)
async def test_interrupts_keep_the_state(shared: World, code: str) -> None:
    await shared.run("before=1", language="bash")
    end = (await shared.run(code + " >/dev/null", language="bash", timeout=0.3)).end
    assert (end.status, end.kernel_state, end.cause) == (
        ExecutionStatus.INTERRUPTED,
        KernelState.PRESERVED,
        Cause.TIMEOUT,
    )
    assert end.receipt.wall_seconds < 2
    assert (await shared.run("echo $before", language="bash")).stdout == "1\n"


async def test_exit_ends_the_kernel_and_says_so(shared: World) -> None:
    outcome = await shared.run("echo bye; exit 5", language="bash")
    assert outcome.stdout == "bye\n"
    assert (outcome.end.status, outcome.end.exit_code) == (ExecutionStatus.LOST, 5)
    assert (await shared.run("echo $x-", language="bash")).stdout == "-\n"


async def test_the_end_of_bash_is_seen_whatever_it_leaves_behind(shared: World) -> None:
    outcome = await shared.run("sleep 60 & exit 5", language="bash", deadline=20)
    assert (outcome.end.status, outcome.end.exit_code) == (ExecutionStatus.LOST, 5)
    end = (await shared.run("sleep 60 & kill -9 $$", language="bash", deadline=20)).end
    assert (end.status, end.cause, end.signal) == (ExecutionStatus.LOST, Cause.SIGNAL, 9)


async def test_tracing_shows_the_cell_alone(shared: World) -> None:
    assert (await shared.run("set -x; echo a", language="bash")).stderr == "++ echo a\n"
    assert (await shared.run("f() { true; }; f", language="bash")).stderr == "++ f\n++ true\n"
    await shared.run("set +x", language="bash")
    assert (await shared.run("echo a", language="bash")).stderr == ""


async def test_variables(shared: World) -> None:
    read = 'printf "[%s]" "$OF_CELL" "$OF_SANDBOX"; env | grep -c OF_'
    hostile = 'it\'s\n"$(exit 9)"`exit 9`\\'
    async with shared.client() as client:
        await client.post("/init", json={"envVars": {"OF_SANDBOX": hostile}})
        outcome = await shared.run(read, language="bash", env_vars={"OF_CELL": hostile})
        assert outcome.stdout == f"[{hostile}][{hostile}]2\n"
        assert (await shared.run(read, language="bash")).stdout == f"[][{hostile}]1\n"
        own = await shared.run(read, language="bash", env_vars={"OF_SANDBOX": "own"})
        assert own.stdout == "[][own]1\n"
        assert (await shared.run(read, language="bash")).stdout == f"[][{hostile}]1\n"
        await shared.run("sleep 60", language="bash", env_vars={"OF_CELL": "x"}, timeout=0.2)
        assert (await shared.run(read, language="bash")).stdout == f"[][{hostile}]1\n"
        await client.post("/init", json={"envVars": {}})
        assert (await shared.run("echo ${OF_SANDBOX-gone}", language="bash")).stdout == "gone\n"


async def test_a_program_in_the_background_prints_into_the_next_cell(shared: World) -> None:
    await shared.run("{ sleep 0.3; echo late; } & disown", language="bash")
    await asyncio.sleep(0.6)
    assert (await shared.run("echo next", language="bash")).stdout == "late\nnext\n"
