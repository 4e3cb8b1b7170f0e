"""Tables: what they are, and all of them as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pyarrow  # type: ignore[import-untyped]
import pyarrow.csv  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest

from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIME = "application/vnd.code-interpreter.table+json"
MAKE = {
    "pandas": "import pandas; t = pandas.DataFrame({'n': range(5000), 's': ['x'] * 5000})",
    "polars": "import polars; t = polars.DataFrame({'n': range(5000), 's': ['x'] * 5000})",
    "pyarrow": "import pyarrow; t = pyarrow.table({'n': range(5000), 's': ['x'] * 5000})",
}


async def python_context(world: World) -> str:
    async with world.client() as client:
        listed = (await client.get("/contexts")).json()
    return str(next(each["id"] for each in listed if each["language"] == "python"))


async def described(world: World, code: str) -> dict[str, Any]:
    outcome = await world.run(code)
    assert outcome.error is None, outcome.error
    (result,) = outcome.results
    description = result.bundle.extra[MIME]
    assert isinstance(description, dict)
    return description


async def exported(world: World, table: str, **body: str) -> Path:
    context_id = await python_context(world)
    async with world.client() as client:
        response = await client.post(f"/contexts/{context_id}/tables/{table}", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    path = Path(answer["path"])
    assert path.stat().st_size == answer["bytes"]
    return path


def read(path: Path, form: str) -> Any:
    if form == "csv":
        return pyarrow.csv.read_csv(path)
    if form == "parquet":
        return pyarrow.parquet.read_table(path)
    with pyarrow.ipc.open_file(path) as reader:
        return reader.read_all()


@pytest.mark.parametrize("kind", MAKE)
async def test_a_table_is_described_and_bounded(shared: World, kind: str) -> None:
    outcome = await shared.run(f"{MAKE[kind]}\nt")
    (result,) = outcome.results
    description = result.bundle.extra[MIME]
    assert (description["kind"], description["rows"]) == (kind, 5000)
    assert [column["name"] for column in description["columns"]] == ["n", "s"]
    assert all(column["dtype"] for column in description["columns"])
    assert result.bundle.data["n"] == list(range(description["shown_rows"]))
    assert description["shown_rows"] == 5000


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("form", ["arrow", "csv", "parquet"])
async def test_all_of_it_can_be_fetched(shared: World, kind: str, form: str) -> None:
    description = await described(shared, f"{MAKE[kind]}\nt")
    table = read(await exported(shared, description["id"], format=form), form)
    assert table.column("n").to_pylist() == list(range(5000))
    assert set(table.column("s").to_pylist()) == {"x"}


async def test_odd_tables_can_be_fetched(shared: World) -> None:
    code = """
import pandas, decimal
t = pandas.DataFrame([[1, 'x', decimal.Decimal('1.5'), {1}, 1j], ['y', 2, None, [3], 2j]],
                     columns=['a', 'a', 'b', ('c', 1), 'd'], index=['p', 'q'])
t
"""
    description = await described(shared, code)
    for form in ("arrow", "csv", "parquet"):
        path = await exported(shared, description["id"], format=form)
        assert read(path, form).num_rows == 2
    frame = pandas.read_parquet(await exported(shared, description["id"], format="parquet"))
    assert list(frame.index) == ["p", "q"]
    assert list(frame.columns) == ["a", "a.1", "b", "('c', 1)", "d"]


SETUP = """
import pandas as pd, polars as pl, pyarrow as pa, datetime as dt
from decimal import Decimal
"""


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ("pd.DataFrame({'t': pd.to_timedelta([1], unit='s'), 'd': [Decimal('1.5')]})", 1),
        ("pd.DataFrame({'p': pd.period_range('2024', periods=2, freq='M'), 'c': [1j, 2]})", 2),
        ("pd.DataFrame({'i': pd.interval_range(0, 2), 'd': [dt.date(2024, 1, 1)] * 2})", 2),
        ("pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_product([['a'], ['x', 'y']]))", 1),
        ("pd.DataFrame({'a': []})", 0),
        ("pl.DataFrame({'t': [dt.timedelta(1)], 'd': [Decimal('1.5')], 'l': [[1]]})", 1),
        ("pl.DataFrame({'a': []})", 0),
        ("pa.table({'t': [dt.timedelta(1)], 'd': [Decimal('1.5')], 'l': [[1]]})", 1),
        ("pa.table([pa.array([1]), pa.array([2])], names=['a', 'a'])", 1),
    ],
)
async def test_columns_of_odd_types(shared: World, code: str, rows: int) -> None:
    outcome = await shared.run(f"{SETUP}odd = {code}\nodd")
    (result,) = outcome.results
    assert all(len(values) == rows for values in result.bundle.data.values())
    for form in ("arrow", "parquet"):
        path = await exported(shared, result.bundle.extra[MIME]["id"], format=form)
        assert path.stat().st_size > 0
        if form == "arrow":
            assert read(path, form).num_rows == rows


async def test_while_a_cell_runs(shared: World) -> None:
    description = await described(shared, f"{MAKE['pandas']}\nt")
    async with shared.link() as link:
        execution_id = await link.begin("import time; time.sleep(1)")
        await exported(shared, description["id"], format="csv", path=str(shared.home / "t.csv"))
        await link.outcome(execution_id)
    assert (shared.home / "t.csv").exists()


async def test_tables_that_are_not_there(shared: World) -> None:
    description = await described(shared, "import polars; polars.DataFrame({'a': [1]})")
    context_id = await python_context(shared)
    async with shared.client() as client:
        unknown = await client.post(f"/contexts/{context_id}/tables/abc", json={})
        bad = await client.post(
            f"/contexts/{context_id}/tables/{description['id']}", json={"format": "xls"}
        )
    assert (unknown.status_code, bad.status_code) == (404, 400)
    assert "'arrow', 'csv' or 'parquet'" in bad.text


async def test_e2b_clients_see_nothing_of_it(shared: World) -> None:
    lines = await shared.execute(f"{MAKE['pandas']}\nt")
    (result,) = [line for line in lines if line["type"] == "result"]
    assert result["extra"] == {}
    assert len(result["data"]["n"]) == 5000
