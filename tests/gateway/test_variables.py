"""Listing what cells have defined."""

from __future__ import annotations

from typing import Any

import pytest

from code_interpreter.protocol.executions import (
    Cancel,
    EndOfExecution,
    KernelState,
    NumberOfExecutions,
)
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


SPIES = """
calls = []
class Meta(type):
    def __getattribute__(cls, name):
        calls.append(('meta', name)); return type.__getattribute__(cls, name)
    @property
    def __module__(cls): calls.append('module'); return 'm'
class Spy(metaclass=Meta):
    __module__ = property(lambda self: calls.append('module'))
    __class__ = property(lambda self: calls.append('class'))
    def __getattribute__(self, name): calls.append(name); raise AttributeError(name)
    def __len__(self): calls.append('len'); return 3
    def __sizeof__(self): calls.append('sizeof'); return 3
    def __reduce__(self): calls.append('reduce')
class Listlike(list):
    def __repr__(self): calls.append('repr'); return 'mine'
class Key:
    def __lt__(self, other): calls.append('lt'); return True
    def __hash__(self): return 1
    def __eq__(self, other): return self is other
keys, many = {Key(): 1, Key(): 2}, {n: n for n in range(1_000_000)}
spy, nested, listlike, loop = Spy(), [Spy(), {'k': Spy()}], Listlike([1]), []
loop.append(loop)
globals()[7] = 'no name'
calls.clear()
"""


async def test_nothing_of_the_cells_is_called(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
    outcome = await shared.run(SPIES, context_id=context_id)
    assert outcome.error is None, outcome.error
    found = await variables(shared, context_id)
    assert found["spy"]["name"] == "spy"
    assert found["nested"]["preview"].startswith("[<")
    assert found["loop"]["preview"]
    assert found["keys"]["preview"] == "{<Key>: 1, <Key>: 2}"
    assert found["many"]["preview"].endswith("9: 9, ...}")
    assert found["listlike"]["type"] == "Listlike"
    assert (await shared.run("calls", context_id=context_id)).text == "[]"


async def test_while_a_cell_changes_them_all_the_time(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
    code = """
table, rows, n = {}, [], 0
while True:
    n += 1
    table[n] = n; rows.append(n); globals()[f'v{n % 500}'] = n
    if n % 100 == 0: table.clear(); rows.clear()
"""
    async with shared.link() as link:
        execution_id = await link.begin(code, context_id=context_id)
        await link.until(execution_id, NumberOfExecutions)
        for _ in range(20):
            found = await variables(shared, context_id)
            assert {"table", "rows", "n"} <= found.keys() or not found
        await link.send(Cancel(execution_id=execution_id))
        end = await link.until(execution_id, EndOfExecution)
    assert end.kernel_state is KernelState.PRESERVED


async def test_languages_without_it(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={"language": "bash"})).json()["id"]
        response = await client.get(f"/contexts/{context_id}/variables")
        missing = await client.get("/contexts/none/variables")
    assert (response.status_code, missing.status_code) == (501, 404)
    assert "bash contexts have no 'variables'" in response.text
