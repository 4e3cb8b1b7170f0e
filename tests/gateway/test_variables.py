"""Listing what cells have defined."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEFINE = """
import numpy, pandas
number, text, flag, nothing = 3, 'x' * 1000, True, None
items = [1, [2, {'k': (3,)}], object()]
array = numpy.zeros((3, 4))
frame = pandas.DataFrame({'a': [1, 2]})
def function(a, b=1): pass
class Trap:
    def __repr__(self): raise RuntimeError('called')
trap = Trap()
_private = 1
"""


async def variables(world: World, context_id: str) -> dict[str, dict[str, Any]]:
    async with world.client() as client:
        response = await client.get(f"/contexts/{context_id}/variables")
    assert response.status_code == 200, response.text
    return {each["name"]: each for each in response.json()}


async def test_names_types_shapes_and_previews(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
    assert await variables(shared, context_id) == {}
    assert (await shared.run(DEFINE, context_id=context_id)).error is None
    found = await variables(shared, context_id)
    assert "_private" not in found
    assert "numpy" not in found
    assert (found["number"]["type"], found["number"]["preview"]) == ("int", "3")
    assert found["text"]["shape"] == [1000]
    assert len(found["text"]["preview"]) <= 200
    assert found["items"]["preview"] == "[1, [2, {'k': (3,)}], <object>]"
    assert (found["array"]["type"], found["array"]["shape"]) == ("numpy.ndarray", [3, 4])
    assert found["array"]["size"] == 96
    assert found["frame"]["shape"] == [2, 1]
    assert found["function"]["preview"] == "function(a, b)"
    assert found["trap"] == {"name": "trap", "type": "Trap"}
    assert found["nothing"]["preview"] == "None"


async def test_while_a_cell_runs(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
    async with shared.link() as link:
        await link.run("step = 0", context_id=context_id)
        code = "import time\nfor step in range(1, 3000): time.sleep(0.001)"
        execution_id = await link.begin(code, context_id=context_id)
        first = int((await variables(shared, context_id))["step"]["preview"])
        second = int((await variables(shared, context_id))["step"]["preview"])
        await link.outcome(execution_id)
    assert first <= second < 2999


async def test_languages_without_it(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={"language": "bash"})).json()["id"]
        response = await client.get(f"/contexts/{context_id}/variables")
        missing = await client.get("/contexts/none/variables")
    assert (response.status_code, missing.status_code) == (501, 404)
    assert "bash contexts have no 'variables'" in response.text
