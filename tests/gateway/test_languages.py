"""What holds for cells of every language."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from code_interpreter.gateway.languages import Languages, UnknownLanguage
from code_interpreter.protocol.executions import Cause, ExecutionStatus, KernelState
from tests.gateway.installed import needs
from tests.gateway.world import ROOT, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = 'it\'s "quoted" \\ $(exit 9) `exit 9` ${X} ü'


@dataclass(frozen=True)
class Words:
    """The same things said in each language."""

    language: str
    output: str
    """Prints ``out`` and ``err`` with line ends."""
    remember: str
    """Sets ``kept`` to 5."""
    recall: str
    """Prints ``kept``, or fails."""
    fail: str
    error: tuple[str, str]
    read: str
    """Prints variable OF_CELL, or nothing or a word for nothing."""
    where: str
    """Prints the working directory."""
    loop: str
    leave: str
    """Ends the kernel's process with status 3."""


ALL = [
    Words(
        "python",
        "import sys; print('out'); print('err', file=sys.stderr)",
        "kept = 5",
        "print(kept)",
        "raise ValueError('why')",
        ("ValueError", "why"),
        "import os; print(os.environ.get('OF_CELL', ''))",
        "import os; print(os.getcwd())",
        "while True: pass",
        "import os; os._exit(3)",
    ),
    Words(
        "javascript",
        "console.log('out'); console.error('err')",
        "let kept = 5",
        "console.log(kept)",
        "throw new RangeError('why')",
        ("RangeError", "why"),
        "console.log(Deno.env.get('OF_CELL') ?? '')",
        "console.log(Deno.cwd())",
        "while (true) {}",
        "Deno.exit(3)",
    ),
    Words(
        "typescript",
        "console.log('out' as string); console.error('err')",
        "let kept: number = 5",
        "console.log(kept)",
        "throw new RangeError('why')",
        ("RangeError", "why"),
        "console.log(process.env.OF_CELL ?? '')",
        "console.log(process.cwd())",
        "while (true) {}",
        "process.exit(3)",
    ),
    Words(
        "bash",
        "echo out; echo err >&2",
        "kept=5",
        'echo "${kept:?}"',
        "(exit 7)",
        ("ExitStatus", "7"),
        'printf "%s\\n" "$OF_CELL"',
        "pwd",
        "while :; do :; done",
        "exit 3",
    ),
    Words(
        "java",
        'System.out.println("out"); System.err.println("err");',
        "int kept = 5;",
        "System.out.println(kept);",
        'throw new IllegalStateException("why");',
        ("java.lang.IllegalStateException", "why"),
        'System.out.println(System.getProperty("OF_CELL", ""));',
        'System.out.println(System.getProperty("user.dir"));',
        "while (true) {}",
        # JShell runs cells in a process of its own; the kernel goes when the JVM before it does.
        "ProcessHandle.current().parent().get().destroyForcibly(); while (true) {}",
    ),
    Words(
        "r",
        "cat('out\\n'); message('err')",
        "kept <- 5",
        "cat(kept)",
        "stop('why')",
        ("ERROR", "why"),
        "cat(Sys.getenv('OF_CELL'))",
        "cat(getwd())",
        "while (TRUE) {}",
        "quit(status = 3)",
    ),
]


def _parameter(words: Words) -> object:
    return pytest.param(words, id=words.language, marks=needs(words.language))


everywhere = pytest.mark.parametrize("words", [_parameter(words) for words in ALL])


@everywhere
async def test_output_goes_where_it_belongs(shared: World, words: Words) -> None:
    outcome = await shared.run(words.output, language=words.language)
    assert outcome.error is None
    assert (outcome.stdout.rstrip(), outcome.stderr.rstrip()) == ("out", "err")
    assert outcome.end.receipt.cpu_seconds is not None


@everywhere
async def test_an_error_has_its_name_and_leaves_the_state(shared: World, words: Words) -> None:
    await shared.run(words.remember, language=words.language)
    outcome = await shared.run(words.fail, language=words.language)
    assert outcome.error is not None
    name, value = words.error
    assert outcome.error.name == name
    assert value in outcome.error.value
    assert outcome.error.traceback
    assert "\x1b" not in outcome.error.traceback
    assert outcome.end.status is ExecutionStatus.ERROR
    assert (await shared.run(words.recall, language=words.language)).stdout.strip() == "5"


@everywhere
async def test_variables_of_a_cell_are_data_and_for_it_alone(shared: World, words: Words) -> None:
    read, language = words.read, words.language
    outcome = await shared.run(read, language=language, env_vars={"OF_CELL": HOSTILE})
    assert (outcome.stdout.strip(), outcome.error) == (HOSTILE, None)
    assert (await shared.run(read, language=language)).stdout.strip() == ""


@everywhere
async def test_variables_of_the_sandbox_reach_live_kernels(shared: World, words: Words) -> None:
    read, language = words.read, words.language
    await shared.run(words.output, language=language)
    async with shared.client() as client:
        await client.post("/init", json={"envVars": {"OF_CELL": HOSTILE}})
        try:
            assert (await shared.run(read, language=language)).stdout.strip() == HOSTILE
            own = await shared.run(read, language=language, env_vars={"OF_CELL": "own"})
            assert own.stdout.strip() == "own"
            assert (await shared.run(read, language=language)).stdout.strip() == HOSTILE
        finally:
            await client.post("/init", json={"envVars": {}})
    assert (await shared.run(read, language=language)).stdout.strip() == ""


@everywhere
async def test_variables_of_the_sandbox_are_there_from_the_start(
    shared: World, words: Words
) -> None:
    read = words.read
    async with shared.client() as client:
        await client.post("/init", json={"envVars": {"OF_CELL": HOSTILE}})
        body = {"language": words.language}
        context_id = (await client.post("/contexts", json=body)).json()["id"]
        try:
            own = await shared.run(read, context_id=context_id, env_vars={"OF_CELL": "own"})
            assert own.stdout.strip() == "own"
            assert (await shared.run(read, context_id=context_id)).stdout.strip() == HOSTILE
        finally:
            await client.post("/init", json={"envVars": {}})
            await client.delete(f"/contexts/{context_id}")


@everywhere
async def test_the_working_directory(shared: World, words: Words) -> None:
    directory = shared.home / "ein Verzeichnis $x"
    directory.mkdir(exist_ok=True)
    async with shared.client() as client:
        body = {"language": words.language, "cwd": str(directory)}
        context_id = (await client.post("/contexts", json=body)).json()["id"]
        outcome = await shared.run(words.where, context_id=context_id)
        await client.delete(f"/contexts/{context_id}")
    assert outcome.stdout.strip() == str(directory)


@everywhere
async def test_an_endless_loop_is_interrupted_and_the_state_is_kept(
    shared: World, words: Words
) -> None:
    await shared.run(words.remember, language=words.language)
    outcome = await shared.run(words.loop, language=words.language, timeout=0.5)
    assert (outcome.end.status, outcome.end.kernel_state, outcome.end.cause) == (
        ExecutionStatus.INTERRUPTED,
        KernelState.PRESERVED,
        Cause.TIMEOUT,
    )
    assert outcome.error is not None
    assert (await shared.run(words.recall, language=words.language)).stdout.strip() == "5"


@everywhere
async def test_a_kernel_that_ends_is_told_and_replaced(shared: World, words: Words) -> None:
    await shared.run(words.remember, language=words.language)
    outcome = await shared.run(words.leave, language=words.language)
    assert outcome.end.status is ExecutionStatus.LOST
    assert outcome.end.kernel_state is KernelState.LOST
    if words.language != "java":
        assert outcome.end.exit_code == 3
    assert (await shared.run(words.recall, language=words.language)).error is not None
    assert (await shared.run(words.output, language=words.language)).error is None


# --- names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, "python"),
        ("", "python"),
        (" Python ", "python"),
        ("python3", "python"),
        ("py", "python"),
        ("js", "javascript"),
        ("JavaScript", "javascript"),
        ("ts", "typescript"),
        ("TypeScript", "typescript"),
        ("R", "r"),
        ("ir", "r"),
        ("sh", "bash"),
        ("Java", "java"),
    ],
)
async def test_names_of_languages(said: str | None, meant: str) -> None:
    assert Languages(ROOT).normalise(said) == meant


async def test_a_language_that_is_not_there_says_what_is(shared: World) -> None:
    async with shared.client() as client:
        response = await client.post("/contexts", json={"language": "cobol"})
    assert response.status_code == 400
    assert "No kernel for language 'cobol'. There are: bash, " in response.text


async def test_a_kernel_that_lacks_its_program_says_how_to_get_it(tmp_path: Path) -> None:
    folder = tmp_path / "kernels" / "ir"
    folder.mkdir(parents=True)
    spec = json.loads((ROOT / "kernels/ir/kernel.json").read_text())
    spec["metadata"]["code_interpreter"]["requires"] = ["/nowhere/IRkernel"]
    del spec["metadata"]["code_interpreter"]["prelude"]
    (folder / "kernel.json").write_text(json.dumps(spec))
    languages = Languages(tmp_path)
    assert languages.names() == []
    with pytest.raises(UnknownLanguage, match=r"IRkernel is not installed.*r-cran-irkernel"):
        languages.spec("r")
