"""Environment variables of a cell are data, for this cell alone, and nobody's log line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from code_interpreter.guest.config import GuestConfig
from tests.gateway.world import ROOT, World, _until_healthy, short_directory

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "it's \"quoted\"\n'; import os; os._exit(9)\\ $(exit) `exit` ${X} \u2028 ü"


@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_values_are_data(shared: World, language: str) -> None:
    read = {
        "python": "import os; print(os.environ['HOSTILE'], end='')",
        "javascript": "Deno.stdout.writeSync(new TextEncoder().encode('')); "
        "console.log(Deno.env.get('HOSTILE'))",
    }[language]
    outcome = await shared.run(read, language=language, env_vars={"HOSTILE": HOSTILE})
    assert outcome.stdout.rstrip("\n") == HOSTILE
    assert outcome.error is None


async def test_cells_with_variables_may_begin_with_a_magic(shared: World) -> None:
    outcome = await shared.run("%%bash\necho $OF_CELL", env_vars={"OF_CELL": "there"})
    assert (outcome.stdout, outcome.error) == ("there\n", None)


async def test_indented_cells_with_variables_run(shared: World) -> None:
    outcome = await shared.run("    x = 1\n    print(x)", env_vars={"A": "1", "B": "2"})
    assert (outcome.stdout, outcome.error) == ("1\n", None)


async def test_line_numbers_are_those_of_the_cell(shared: World) -> None:
    outcome = await shared.run("x = 1\ny = 2\n1 / 0", env_vars={"A": "1", "B": "2"})
    assert outcome.error is not None
    assert "line 3" in outcome.error.traceback
    assert "----> 3 1 / 0" in outcome.error.traceback


async def test_javascript_lines_are_those_of_the_cell(shared: World) -> None:
    plain = await shared.run("\n\nthrow new Error('x')", language="javascript")
    varied = await shared.run(
        "\n\nthrow new Error('x')", language="javascript", env_vars={"A": "1"}
    )
    assert plain.error is not None
    assert varied.error is not None
    assert varied.error.traceback == plain.error.traceback


async def test_a_variable_that_was_there_is_restored(shared: World) -> None:
    read = "import os; os.environ['PATH']"
    before = (await shared.run(read)).text
    assert (await shared.run(read, env_vars={"PATH": "/nowhere"})).text == "'/nowhere'"
    assert (await shared.run(read)).text == before


@pytest.mark.parametrize("code", ["1 / 0", "while True: pass", "import sys; sys.exit()"])
async def test_a_variable_is_gone_after_a_cell_that_failed(shared: World, code: str) -> None:
    await shared.run(code, env_vars={"GONE": "1"}, timeout=0.3)
    assert (await shared.run("import os; 'GONE' in os.environ")).text == "False"


async def test_programs_see_the_variables(shared: World) -> None:
    outcome = await shared.run("!echo $OF_CELL", env_vars={"OF_CELL": "there"})
    assert outcome.stdout == "there\n"


async def test_secrets_are_not_logged() -> None:
    with short_directory() as directory:
        for name in ("home", "state"):
            (directory / name).mkdir()
        config = GuestConfig(
            isolated=False,
            home=str(directory / "home"),
            state_directory=str(directory / "state"),
            python=sys.executable,
            jupyter_path=str(ROOT),
            listen_path=str(directory / "g.sock"),
        )
        log = directory / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "code_interpreter.gateway", "--config", config.dump()),
                stdout=output,
                stderr=output,
            )
        world = World(directory, process)
        await _until_healthy(world)
        async with world.client() as client:
            await client.post("/init", json={"envVars": {"TOKEN": "hush-hush-1"}})
        for language in ("python", "javascript"):
            variables = {"KEY": "hush-hush-2"}
            await world.run("1; 'hush-hush-3'", language=language, env_vars=variables)
            await world.run("syntax error 'hush-hush-3'", language=language, env_vars=variables)
        await world.run("import os; os._exit(1) # hush-hush-3", env_vars={"KEY": "hush-hush-2"})
        process.terminate()
        await process.wait()
        # The ledger is not a log: a gateway's successor needs the variables, and only
        # supervisors can read them there.
        ledger = Path(directory, "state", "gateway.json")
        assert ledger.stat().st_mode & 0o777 == 0o600
        written = [file for file in Path(directory).rglob("*") if file.is_file()]
        written.remove(ledger)
        assert log in written
        for file in written:
            assert b"hush-hush" not in file.read_bytes(), file
