"""Variables, tables, notebooks and Jupyter's interface of contexts in real sandboxes."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import nbformat
import pandas
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from e2b import InvalidArgumentException, NotFoundException, SandboxException
from jupyter_kernel_client import JupyterKernelClient  # type: ignore[import-untyped]
from nbclient import NotebookClient

from code_interpreter import AsyncSandbox, JupyterServer, Sandbox, Table, table_of
from tests.service import Service


@pytest.fixture(scope="module")
def sandbox(service: Service) -> Iterator[Sandbox]:
    made = Sandbox.create(**service.options)
    yield made
    made.kill()


# --- notebooks ------------------------------------------------------------------------------

CELLS = [
    "import pandas as pd\nframe = pd.DataFrame({'a': [1, 2]})\nprint('made')",
    "frame",
    "frame.a.sum()",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.title('t'); plt.show()",
    "from IPython.display import HTML, display\nh = display('one', display_id='d'); HTML('<b>')",
    "h.update('two')",
    "raise KeyError('k')",
]


def test_a_session_as_a_notebook_runs_again(sandbox: Sandbox) -> None:
    context = sandbox.create_code_context()
    for cell in CELLS:
        sandbox.run_code(cell, context=context)
    told = sandbox.to_notebook(context)
    sandbox.remove_code_context(context)
    notebook: Any = nbformat.reads(json.dumps(told), as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells] == CELLS
    again: Any = nbformat.from_dict(told)  # type: ignore[no-untyped-call]
    client = NotebookClient(again, allow_errors=True, timeout=60)
    asyncio.run(client.async_execute())
    for before, after in zip(told["cells"], again.cells, strict=True):
        assert list(map(_essence, after.outputs)) == list(map(_essence, before["outputs"]))


def _essence(output: Any) -> Any:
    data = output.get("data", {})
    text = output.get("text") or output.get("evalue") or data.get("text/plain")
    return output["output_type"], text, "image/png" in data


def test_default_contexts_go_by_their_language(sandbox: Sandbox) -> None:
    sandbox.run_code("echo hi", language="bash")
    notebook = sandbox.to_notebook("bash")
    assert notebook["metadata"]["kernelspec"]["name"] == "bash"
    assert notebook["cells"][-1]["source"] == "echo hi"
    with pytest.raises(NotFoundException, match="nonesuch"):
        sandbox.to_notebook("nonesuch")


# --- variables ------------------------------------------------------------------------------


def test_variables_are_listed_while_a_cell_runs(sandbox: Sandbox) -> None:
    sandbox.run_code("import numpy, time; grid = numpy.zeros((3, 4)); word = 'a' * 1000")
    running = sandbox.run_code("time.sleep(30)", background=True)
    began = time.monotonic()
    by_name = {each.name: each for each in sandbox.list_variables()}
    assert time.monotonic() - began < 10
    running.cancel()
    assert (by_name["grid"].type, by_name["grid"].shape) == ("numpy.ndarray", [3, 4])
    assert len(by_name["word"].preview or "") <= 200
    assert "numpy" not in by_name
    with pytest.raises(SandboxException, match="bash contexts have no 'variables'"):
        sandbox.list_variables("bash")


# --- tables ---------------------------------------------------------------------------------


def shown(sandbox: Sandbox, code: str) -> Any:
    execution = sandbox.run_code(code)
    assert execution.error is None, execution.error
    return execution.results[-1]


def test_all_of_a_large_table_can_be_fetched(sandbox: Sandbox) -> None:
    code = "import pandas as pd, numpy as np\n"
    code += "frame = pd.DataFrame({'n': np.arange(1_000_000), 's': 'x'}); frame"
    result = shown(sandbox, code)
    assert len(result.model_dump_json()) < 2_000_000
    table = table_of(result)
    assert isinstance(table, Table)
    assert (table.kind, table.rows, table.column_count) == ("pandas", 1_000_000, 2)
    assert table.shown_rows == len(result.data["n"]) == 10_000
    content = sandbox.fetch_table(result)
    whole = pandas.read_parquet(io.BytesIO(content))
    assert len(whole) == 1_000_000
    assert whole.n.iloc[-1] == 999_999
    left = sandbox.commands.run("ls /var/lib/code-interpreter/outputs", user="root").stdout
    assert table.id not in left


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_tables_of_every_library_in_every_format(sandbox: Sandbox, library: str) -> None:
    make = "table" if library == "pyarrow" else "DataFrame"
    result = shown(sandbox, f"import {library}\nt = {library}.{make}({{'a': [1, 2, 3]}}); t")
    table = table_of(result)
    assert table is not None
    assert table.kind == library
    parquet = pyarrow.parquet.read_table(io.BytesIO(sandbox.fetch_table(table)))
    assert parquet.column("a").to_pylist() == [1, 2, 3]
    with pyarrow.ipc.open_file(io.BytesIO(sandbox.fetch_table(table, "arrow"))) as reader:
        assert reader.read_all().num_rows == 3
    lines = sandbox.fetch_table(table, "csv").decode().split()
    assert [line.strip('"') for line in lines] == ["a", "1", "2", "3"]


def test_tables_that_cannot_be_fetched(sandbox: Sandbox) -> None:
    number = shown(sandbox, "1")
    assert table_of(number) is None
    with pytest.raises(InvalidArgumentException, match="shows no table"):
        sandbox.fetch_table(number)
    gone = shown(sandbox, "import polars; t = polars.DataFrame({'a': [1]}); display(t)")
    sandbox.run_code("del t")
    with pytest.raises(NotFoundException, match="nothing holds it any more"):
        sandbox.fetch_table(gone)
    with pytest.raises(InvalidArgumentException, match="not 'xls'"):
        sandbox.fetch_table(gone, "xls")  # type: ignore[arg-type]
    forged = shown(
        sandbox, f"from IPython.display import display; display({{'{_mime()}': 1}}, raw=True)"
    )
    assert table_of(forged) is None


def _mime() -> str:
    from code_interpreter.protocol.executions import TABLE_MIME

    return TABLE_MIME


async def test_the_same_without_blocking(service: Service) -> None:
    sandbox = await AsyncSandbox.create(**service.options)
    try:
        execution = await sandbox.run_code("import pandas; f = pandas.DataFrame({'a': [1]}); f")
        content = await sandbox.fetch_table(execution.results[0], "csv")
        assert content == b"a\n1\n"
        assert [each.name for each in await sandbox.list_variables()] == ["f"]
        assert len((await sandbox.to_notebook())["cells"]) == 1
        assert sandbox.sandbox_id in sandbox.jupyter_server().url
    finally:
        await sandbox.kill()


# --- Jupyter --------------------------------------------------------------------------------


def attached(server: JupyterServer, **options: Any) -> Any:
    patience = {"timeout": 3}  # for its own thread, at the end
    return JupyterKernelClient(
        server_url=server.url, token=server.token, client_kwargs=patience, **options
    )


def context_id(sandbox: Sandbox) -> str:
    return next(each.id for each in sandbox.list_code_contexts() if each.language == "python")


def test_a_client_that_we_did_not_write_reads_the_agents_variable(sandbox: Sandbox) -> None:
    sandbox.run_code("made_by_agent = 41")
    server = sandbox.jupyter_server()
    with attached(server, kernel_id=context_id(sandbox)) as kernel:
        reply = kernel.execute("print('hi'); made_by_agent + 1")
        kernel.execute("made_by_human = 1")
    *streams, result = reply["outputs"]
    assert "".join(each["text"] for each in streams) == "hi\n"
    assert result["data"]["text/plain"] == "42"
    assert sandbox.run_code("made_by_human").text == "1"


def test_it_makes_a_kernel_of_its_own_which_is_a_context(sandbox: Sandbox) -> None:
    server = sandbox.jupyter_server()
    with attached(server) as kernel:
        assert kernel.execute("6 * 7")["outputs"][0]["data"]["text/plain"] == "42"
        made = kernel.id
        assert made in [each.id for each in sandbox.list_code_contexts()]
    assert made not in [each.id for each in sandbox.list_code_contexts()]


@pytest.mark.parametrize("scheme", ["token", "Bearer", "query"])
def test_the_token_comes_by_header_or_query(sandbox: Sandbox, scheme: str) -> None:
    server = sandbox.jupyter_server()
    query = {"token": server.token} if scheme == "query" else {}
    headers = {} if scheme == "query" else {"Authorization": f"{scheme} {server.token}"}
    answer = httpx.get(f"{server.url}/api/kernels", params=query, headers=headers)
    assert answer.status_code == 200
    assert context_id(sandbox) in [each["id"] for each in answer.json()]
    made = httpx.post(f"{server.url}/api/kernels", params=query, headers=headers, json={})
    assert made.status_code == 201
    key = made.json()["id"]
    assert (
        httpx.delete(f"{server.url}/api/kernels/{key}", params=query, headers=headers).status_code
        == 204
    )


def test_without_the_token_nothing_is_told(sandbox: Sandbox, service: Service) -> None:
    server = sandbox.jupyter_server()
    other = Sandbox.create(**service.options)
    try:
        for wrong in ("", "wrong", other.jupyter_server().token, service.key):
            for path in ("api", "api/kernels", "execute", "contexts"):
                answer = httpx.get(f"{server.url}/{path}", params={"token": wrong})
                assert answer.status_code == 403
                assert "token" in answer.json()["message"]
    finally:
        other.kill()
    gone = httpx.get(other.jupyter_server().url, params={"token": "x"})
    assert gone.status_code == 502


def test_its_address_says_no_secret_unless_asked(sandbox: Sandbox) -> None:
    server = sandbox.jupyter_server()
    assert isinstance(server, JupyterServer)
    assert server.token not in repr(server)
    assert str(server) == f"{server.url}/?token={server.token}"
