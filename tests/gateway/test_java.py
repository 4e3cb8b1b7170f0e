"""Cells of Java."""

from __future__ import annotations

import pytest

from code_interpreter.protocol.executions import Cause, ExecutionStatus, KernelState
from tests.gateway.installed import needs
from tests.gateway.world import World

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs("java"),
]


@pytest.mark.parametrize(
    ("code", "text", "stdout"),
    [
        ("1 + 1", "2", ""),
        ("int x = 20;\nint twice(int n) { return 2 * n; }", None, ""),
        ("twice(x)", "40", ""),
        ('System.out.println("hi"); x', "20", "hi\n"),
        ("List.of(1, 2).stream().map(n -> n * n).collect(Collectors.toList())", "[1, 4]", ""),
        ("record P(int a) {}\nnew P(3)", "P[a=3]", ""),
        ("for (int i = 0; i < 3; i++) {\n  System.out.print(i);\n}", None, "012"),
        ("// nothing", None, ""),
        ('"ü"', '"ü"', ""),
    ],
)
async def test_cells(shared: World, code: str, text: str | None, stdout: str) -> None:
    outcome = await shared.run(code, language="java")
    assert (outcome.error, outcome.text, outcome.stdout) == (None, text, stdout)


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        ("int y = 1;\nint z = nonesuch;", "CompilationException", "cannot find symbol"),
        ("int[] a = new int[1]; a[2]", "java.lang.ArrayIndexOutOfBoundsException", "Index 2"),
        ('throw new IllegalStateException("why")', "java.lang.IllegalStateException", "why"),
        ("int f( {", "CompilationException", ""),
    ],
)
async def test_errors(shared: World, code: str, name: str, value: str) -> None:
    outcome = await shared.run(code, language="java")
    assert outcome.error is not None
    assert outcome.error.name == name
    assert value in outcome.error.value
    assert (await shared.run("1", language="java")).text == "1"


async def test_an_interrupt_keeps_the_state(shared: World) -> None:
    await shared.run("int kept = 5;", language="java")
    end = (await shared.run("while (true) {}", language="java", timeout=1)).end
    assert (end.status, end.kernel_state, end.cause) == (
        ExecutionStatus.INTERRUPTED,
        KernelState.PRESERVED,
        Cause.TIMEOUT,
    )
    assert (await shared.run("kept", language="java")).text == "5"


async def test_variables_are_properties(shared: World) -> None:
    value = 'it\'s "quoted"\n\\u0022; x'
    read = 'System.getProperty("OF_CELL")'
    check = f"{read}.length() + {read}.substring(0, 4)"
    outcome = await shared.run(check, language="java", env_vars={"OF_CELL": value})
    assert outcome.text == f'"{len(value)}it\'s"'
    assert (await shared.run(read, language="java")).text == "null"


async def test_exit_ends_the_kernel_and_says_so(shared: World) -> None:
    outcome = await shared.run("System.exit(3);", language="java")
    assert outcome.end.status is ExecutionStatus.LOST
    assert "ended its JVM" in outcome.stderr
