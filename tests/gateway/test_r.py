"""Cells of R, in IRkernel."""

from __future__ import annotations

import base64

import pytest

from code_interpreter.protocol.executions import Input, InputRequest
from tests.gateway.installed import needs
from tests.gateway.world import World

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs("r"),
]


@pytest.mark.parametrize(
    ("code", "text", "stdout"),
    [
        ("1 + 1", "[1] 2", ""),
        ("x <- c(1, 2, 3)", None, ""),
        ("sum(x)", "[1] 6", ""),
        ("cat('hi\\n'); x", "[1] 1 2 3", "hi\n"),
        ("invisible(4)", None, ""),
        ("NULL", "NULL", ""),
        ("'ü'", '[1] "ü"', ""),
        ("print('printed')", None, '[1] "printed"\n'),
        ("for (i in 1:3) cat(i, '')", None, "1 2 3 "),
        ("system('echo sub')", None, "sub\n"),
        ("5; cat('after')", None, "after"),
        ("plot(1:3); 7", "[1] 7", ""),
    ],
)
async def test_cells(shared: World, code: str, text: str | None, stdout: str) -> None:
    outcome = await shared.run(code, language="r")
    assert (outcome.error, outcome.text, outcome.stdout) == (None, text, stdout)


async def test_every_value_is_shown_and_the_last_is_the_result(shared: World) -> None:
    outcome = await shared.run("1; 2", language="r")
    assert [(each.bundle.text, each.is_main_result) for each in outcome.results] == [
        ("[1] 1", False),
        ("[1] 2", True),
    ]


async def test_plots_are_pictures(shared: World) -> None:
    outcome = await shared.run("plot(1:10); hist(c(1, 2, 2))", language="r")
    assert outcome.error is None
    assert len(outcome.results) == 2
    for result in outcome.results:
        assert base64.b64decode(result.bundle.png or "").startswith(b"\x89PNG")
        assert not result.is_main_result


async def test_data_frames_are_text_and_tables(shared: World) -> None:
    code = "data.frame(n = 1:2, s = c('x', 'y'))"
    (result,) = (await shared.run(code, language="r")).results
    assert result.bundle.text == "  n s\n1 1 x\n2 2 y"
    assert "<table" in (result.bundle.html or "")
    assert "| 1 | x |" in (result.bundle.markdown or "")
    assert "\\begin{tabular}" in (result.bundle.latex or "")


async def test_errors_have_the_calls(shared: World) -> None:
    outcome = await shared.run(
        "f <- function(x) stop('deep')\ng <- function() f(1)\ng()", language="R"
    )
    assert outcome.error is not None
    assert "Error in f(1): deep" in outcome.error.value
    assert "1. g()\n2. f(1)" in outcome.error.traceback
    broken = await shared.run("1 +", language="r")
    assert broken.error is not None
    assert "unexpected end of input" in broken.error.value


async def test_warnings_and_messages_are_stderr(shared: World) -> None:
    outcome = await shared.run("message('m'); warning('w'); 1", language="r")
    assert outcome.stderr.startswith("m\n")
    assert "“w”" in outcome.stderr
    assert (outcome.text, outcome.error) == ("[1] 1", None)


async def test_displays(shared: World) -> None:
    code = "IRdisplay::display_html('<b>h</b>'); IRdisplay::display_markdown('*m*')"
    outcome = await shared.run(code, language="r")
    assert [each.bundle.html or each.bundle.markdown for each in outcome.results] == [
        "<b>h</b>",
        "*m*",
    ]


async def test_input_is_asked_for_or_refused(shared: World) -> None:
    refused = await shared.run("readline('name? ')", language="r", timeout=5)
    assert refused.error is not None
    assert "on_input" in refused.error.value
    async with shared.link() as link:
        execution_id = await link.begin("x <- readline('name? ')", language="r", allow_stdin=True)
        asked = await link.until(execution_id, InputRequest)
        assert asked.prompt == "name? "
        await link.send(Input(execution_id=execution_id, value="typed"))
        assert (await link.outcome(execution_id)).error is None
    assert (await shared.run("x", language="r")).text == '[1] "typed"'


async def test_an_interrupt_reaches_a_cell_that_waits_for_input(shared: World) -> None:
    await shared.run("kept <- 1", language="r")
    code = "readline('? ')"
    outcome = await shared.run(code, language="r", timeout=0.5, allow_stdin=True)
    assert outcome.end.receipt.wall_seconds < 8
    assert (await shared.run("kept", language="r")).text == "[1] 1"


async def test_files_are_read_from_the_working_directory(shared: World) -> None:
    (shared.home / "t.csv").write_text("a,b\n1,2\n")
    outcome = await shared.run("read.csv('t.csv')$b; getwd()", language="r")
    assert outcome.text == f'[1] "{shared.home}"'
