"""The HTTP routes as E2B's clients use them."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_health(shared: World) -> None:
    async with shared.client() as client:
        response = await client.get("/health")
    assert (response.status_code, response.json()) == (200, "OK")


async def test_lines_of_an_execution(shared: World) -> None:
    lines = await shared.execute("print('hi')\n'a' + 'b'")
    assert [line["type"] for line in lines] == [
        "number_of_executions",
        "stdout",
        "result",
        "end_of_execution",
    ]
    assert lines[1]["text"] == "hi\n"
    assert lines[1]["timestamp"].startswith("20")
    assert lines[2] == {"type": "result", "is_main_result": True, "text": "ab", "extra": {}}


async def test_lines_are_ascii_and_not_blank(shared: World) -> None:
    async with shared.client() as client:
        response = await client.post("/execute", json={"code": "print('ü\\u2028\\x85')"})
    assert response.content.isascii()
    assert all(response.text.split("\n")[:-1])
    assert "ü\u2028\x85\n" in [
        json.loads(line).get("text") for line in response.text.split("\n")[:-1]
    ]


async def test_an_error_has_a_readable_traceback(shared: World) -> None:
    lines = await shared.execute("def f():\n    1/0\nf()")
    (error,) = [line for line in lines if line["type"] == "error"]
    assert (error["name"], error["value"]) == ("ZeroDivisionError", "division by zero")
    assert "line 2" in error["traceback"]
    assert "\x1b" not in error["traceback"]
    assert error["traceback"].count("\n") > 5


async def test_contexts_have_state_of_their_own(shared: World) -> None:
    async with shared.client() as client:
        made = (await client.post("/contexts", json={"language": "PYTHON "})).json()
        assert made["language"] == "python"
        assert made["cwd"] == str(shared.home)
        listed = (await client.get("/contexts")).json()
        assert listed[-1] == made
        assert {"python", "javascript"} <= {each["language"] for each in listed}
        await shared.execute("x = 5", context_id=made["id"])
        assert (await shared.execute("x", context_id=made["id"]))[-2]["text"] == "5"
        assert (await shared.execute("x"))[-2]["type"] == "error"
        assert (await client.post(f"/contexts/{made['id']}/restart")).json() is None
        assert (await shared.execute("x", context_id=made["id"]))[-2]["type"] == "error"
        assert (await client.delete(f"/contexts/{made['id']}")).json() is None
        missing = await client.post("/execute", json={"code": "1", "context_id": made["id"]})
    assert (missing.status_code, missing.text) == (404, f"Context {made['id']} not found")


async def test_javascript_keeps_state(shared: World) -> None:
    await shared.execute("const a = 40", language="js")
    lines = await shared.execute("console.log('x'); await Promise.resolve(a + 2)", language="JS")
    assert [line.get("text") for line in lines] == [None, "x\n", "42", None]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("{", 400, "not JSON"),
        ("[]", 400, "Field 'body'"),
        ("{}", 400, "Field 'code'"),
        ('{"code": 1}', 400, "Field 'code'"),
        ('{"code": "1", "env_vars": {"A": 1}}', 400, "env_vars.A"),
        ('{"code": "1", "context_id": "nope"}', 404, "Context nope not found"),
        ('{"code": "1", "context_id": "a", "language": "b"}', 400, "context_id or language"),
        ('{"code": "1", "language": "klingon"}', 400, "klingon"),
        ('{"code": "1", "language": "../python3"}', 400, "../python3"),
    ],
)
async def test_bad_requests_are_named(shared: World, body: str, status: int, text: str) -> None:
    async with shared.client() as client:
        response = await client.post("/execute", content=body)
    assert response.status_code == status
    assert text in response.text


async def test_too_much_code_is_refused_and_harms_nothing(shared: World) -> None:
    await shared.execute("kept = 1")
    async with shared.client() as client:
        for size in (11 << 20, 100 << 20):
            response = await client.post("/execute", json={"code": "#" * size})
            assert response.status_code == 413
    assert (await shared.execute("kept"))[-2]["text"] == "1"


@pytest.mark.parametrize("cwd", ["/does/not/exist", "/tmp\nprint(1)", "x\0y"])
async def test_a_context_needs_a_directory(shared: World, cwd: str) -> None:
    before = shared.kernels()
    async with shared.client() as client:
        response = await client.post("/contexts", json={"cwd": cwd})
    assert response.status_code == 400
    assert repr(cwd) in response.text
    assert shared.kernels() == before


async def test_silence_is_filled_with_keepalives(shared: World) -> None:
    lines = await shared.execute("import time; time.sleep(5.5)")
    assert [line["type"] for line in lines].count("keepalive") == 1


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_a_client_that_leaves_interrupts_its_cell(shared: World, pause: float) -> None:
    """The next cell must run, however soon it comes."""
    await shared.execute("y = 7")
    async with shared.client() as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/execute", json={"code": "while True: pass"}, timeout=0.5)
    await asyncio.sleep(pause)
    async with asyncio.timeout(5):
        assert (await shared.execute("y"))[-2]["text"] == "7"


async def test_deleting_a_default_context_makes_it_anew(world: World) -> None:
    async with world.client() as client:
        await world.execute("z = 1")
        (default,) = [
            each for each in (await client.get("/contexts")).json() if each["language"] == "python"
        ]
        await client.delete(f"/contexts/{default['id']}")
        assert (await world.execute("1+1"))[-2]["text"] == "2"


async def test_variables_of_the_sandbox(shared: World) -> None:
    read = "import os; (os.environ.get('A_B'), os.environ.get('C_D'))"
    async with shared.client() as client:
        response = await client.post("/init", json={"envVars": {"A_B": "1'\"\n", "C_D": "2"}})
        assert response.status_code == 204
        assert (await shared.execute(read))[-2]["text"] == "('1\\'\"\\n', '2')"
        own = await shared.execute(read, env_vars={"C_D": "3"})
        assert own[-2]["text"].endswith("'3')")
        assert (await shared.execute(read))[-2]["text"].endswith("'2')")
        await client.post("/init", json={"envVars": {"C_D": "2"}})
        assert (await shared.execute(read))[-2]["text"] == "(None, '2')"


async def test_variables_of_javascript_cells(shared: World) -> None:
    read = "Deno.env.get('J_S')"
    value = 'quote" and \\ and\nline'
    lines = await shared.execute(read, language="javascript", env_vars={"J_S": value})
    assert json.dumps(lines[-2]["text"])
    assert "quote" in lines[-2]["text"]
    again = await shared.execute(read, language="javascript")
    assert [line["type"] for line in again] == ["number_of_executions", "end_of_execution"]
