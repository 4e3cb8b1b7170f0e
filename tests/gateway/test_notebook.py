"""A context as a notebook."""

from __future__ import annotations

import asyncio
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

CELLS = [
    "x = 1\nprint('a'); print('b')",
    "import sys; print('e', file=sys.stderr); x + 1",
    "from IPython.display import display, clear_output\nh = display('one', display_id=True)",
    "h.update('two')",
    "print('gone'); clear_output(); print('stays')",
    "print('gone'); clear_output(wait=True); print('stays')",
    "{'k': [1]}",
    "1 / 0",
]


async def notebook_of(world: World) -> dict[str, Any]:
    async with world.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
        for cell in CELLS:
            await world.run(cell, context_id=context_id)
        response = await client.get(f"/contexts/{context_id}/notebook")
    assert response.status_code == 200
    notebook = response.json()
    assert isinstance(notebook, dict)
    return notebook


async def test_it_is_valid_and_has_the_outputs(shared: World) -> None:
    notebook = await notebook_of(shared)
    nbformat.validate(notebook)
    cells = notebook["cells"]
    assert [cell["source"] for cell in cells] == CELLS
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(CELLS) + 1))
    outputs = [cell["outputs"] for cell in cells]
    assert outputs[0] == [{"output_type": "stream", "name": "stdout", "text": "a\nb\n"}]
    assert [each["output_type"] for each in outputs[1]] == ["stream", "execute_result"]
    assert outputs[2][0]["data"]["text/plain"] == "'two'"
    assert [each["text"] for each in (*outputs[4], *outputs[5])] == ["stays\n", "stays\n"]
    assert outputs[6][0]["data"]["application/json"] == {"k": [1]}
    assert outputs[7][0]["ename"] == "ZeroDivisionError"


async def test_running_it_again_gives_the_same(shared: World) -> None:
    notebook = await notebook_of(shared)
    again: Any = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]

    def run() -> None:
        asyncio.run(client.async_execute())

    client = NotebookClient(again, kernel_name="python3", allow_errors=True, timeout=60)
    await asyncio.to_thread(run)
    for before, after in zip(notebook["cells"], again.cells, strict=True):
        told = [_essence(output) for output in before["outputs"]]
        assert [_essence(output) for output in after["outputs"]] == told


def _essence(output: dict[str, Any]) -> Any:
    data = output.get("data", {})
    return (
        output["output_type"],
        output.get("text") or output.get("ename") or data.get("text/plain"),
    )


async def test_other_languages(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={"language": "bash"})).json()["id"]
        await shared.run("echo hi", context_id=context_id)
        notebook = (await client.get(f"/contexts/{context_id}/notebook")).json()
    nbformat.validate(notebook)
    assert notebook["metadata"]["kernelspec"]["name"] == "bash"
    assert notebook["cells"][0]["outputs"][0]["text"] == "hi\n"
