"""What can be seen of a context beside its executions: variables, tables, a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from code_interpreter.contexts import ContextRequest, segment
from code_interpreter.errors import InvalidArgumentException
from code_interpreter.link import Link
from code_interpreter.models import Context, Result
from code_interpreter.protocol.executions import GATEWAY_PORT, TABLE_MIME

TableFormat: TypeAlias = Literal["arrow", "csv", "parquet"]
"""``arrow`` is the IPC file format, also called Feather version 2."""


class _View(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Variable(_View):
    """A name that a context's cells have defined."""

    name: str
    type: str
    shape: list[int] | None = None
    """Of arrays, tables and containers."""
    size: int | None = None
    """Bytes, where they can be told without looking into everything."""
    preview: str | None = None
    """Shortened; of built-in types only, as no code of the sandbox's is run for it."""


class TableColumn(_View):
    name: str
    dtype: str
    """As its library calls it."""


class Table(_View):
    """A data frame that a cell has shown: what it is, not what is in it.

    ``Result.data`` of the same result holds its first rows; `Sandbox.fetch_table` gets all.
    """

    id: str
    kind: str
    """``pandas``, ``polars`` or ``pyarrow``."""
    rows: int
    columns: list[TableColumn]
    """The first thousand."""
    column_count: int
    shown_rows: int
    """Rows that are in ``Result.data``."""
    context_id: str = Field(repr=False)


class JupyterServer(_View):
    """A sandbox's kernels as a Jupyter server; ``str()`` of it is the URL with the token."""

    url: str
    """Without a slash at its end."""
    token: str = Field(repr=False)

    def __str__(self) -> str:
        return f"{self.url}/?{urlencode({'token': self.token})}" if self.token else self.url


def table_of(result: Result) -> Table | None:
    """The table that a result shows; None if it is none, or came over plain HTTP."""
    described = (result.extra or {}).get(TABLE_MIME)
    if not isinstance(described, Mapping):
        return None
    try:
        return Table.model_validate({**described, "context_id": result.context_id})
    except ValidationError:  # the sandbox's code may show what it likes by this MIME type
        return None


def jupyter_server(link: Link) -> JupyterServer:
    """Behind a host name of its own, or at a path of the host's."""
    if (urlsplit(link.url).hostname or "").startswith(f"{GATEWAY_PORT}-{link.sandbox_id}."):
        return JupyterServer(url=link.url, token="")
    url = f"{link.url}/jupyter/{link.sandbox_id}"
    return JupyterServer(url=url, token=link.access_token or link.traffic_token or "")


# --- requests -------------------------------------------------------------------------------


def notebook(context: Context | str | None) -> ContextRequest:
    return ContextRequest("GET", f"/contexts/{_named(context)}/notebook")


def variables(context: Context | str | None) -> ContextRequest:
    return ContextRequest("GET", f"/contexts/{_named(context)}/variables")


def export(shown: Table | Result, form: TableFormat) -> ContextRequest:
    """Have the table written to a file of the sandbox."""
    table = table_of(shown) if isinstance(shown, Result) else shown
    if not isinstance(table, Table):
        raise InvalidArgumentException("this result shows no table that can be fetched")
    if form not in ("arrow", "csv", "parquet"):
        raise InvalidArgumentException(f"format must be arrow, csv or parquet, not {form!r}")
    path = f"/contexts/{segment(table.context_id)}/tables/{segment(table.id)}"
    return ContextRequest("POST", path, {"format": form})


def _named(context: Context | str | None) -> str:
    """The default contexts of languages go by the language's name."""
    return "python" if context is None else segment(context)


def read_variables(answer: Any) -> list[Variable]:
    return [Variable.model_validate(each) for each in answer]
