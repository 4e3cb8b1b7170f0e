"""Tables (pandas and polars DataFrames, pyarrow Tables) as plain data, and whole as files.

A table that was shown is remembered by an id, weakly: as long as the cell's own names keep
it alive, all of it can be fetched with `export`.
"""

from __future__ import annotations

import math
import sys
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIME = "application/vnd.code-interpreter.table+json"
MAX_CELLS = 20_000
MIN_ROWS = 100
"""Wide tables show at least so many rows."""
MAX_COLUMNS = 1000
"""Columns that are described and shown."""
MAX_REMEMBERED = 100
FORMATS = ("arrow", "csv", "parquet")

_shown: OrderedDict[str, weakref.ref[Any]] = OrderedDict()


class UnknownTable(LookupError):
    """No table of this id was shown, or it is gone."""


def kind_of(value: Any) -> str | None:
    """``pandas``, ``polars`` or ``pyarrow``; None for what is no table."""
    for module, name in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table")):
        table = getattr(sys.modules.get(module), name, None)
        if table is not None and isinstance(value, table):
            return module
    return None


def is_table(value: Any) -> bool:
    return kind_of(value) is not None


def columns(table: Any) -> dict[str, list[Any]]:
    """Column name → its first values; dates in ISO form, what JSON has no form for as text."""
    names = unique_names(_labels(table))[:MAX_COLUMNS]
    rows = _shown_rows(table)
    take = _COLUMN[kind_of(table) or ""]
    return {name: take(table, position, rows) for position, name in enumerate(names)}


def description(table: Any) -> dict[str, Any]:
    """What the table is, and the id under which all of it can be fetched."""
    labels, kinds = _labels(table), _dtypes(table)
    names = unique_names(labels)
    return {
        "id": _remember(table),
        "kind": kind_of(table),
        "rows": table.shape[0],
        "columns": [
            {"name": name, "dtype": str(dtype)}
            for name, dtype in list(zip(names, kinds, strict=True))[:MAX_COLUMNS]
        ],
        "column_count": len(names),
        "shown_rows": min(table.shape[0], _shown_rows(table)),
    }


def export(table_id: str, form: str, path: str) -> dict[str, Any]:
    """Write the whole table to ``path``. Raises `UnknownTable` and what writing raises."""
    reference = _shown.get(table_id)
    table = reference() if reference is not None else None
    if table is None:
        raise UnknownTable(f"No table {table_id}: it was never shown, or nothing holds it any more")
    if form not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {form!r}")
    _WRITERS[form](table, path)
    return {"path": path, "bytes": Path(path).stat().st_size}


def _remember(table: Any) -> str:
    for key, reference in _shown.items():
        if reference() is table:
            return key
    key = uuid.uuid4().hex[:12]
    _shown[key] = weakref.ref(table)
    while len(_shown) > MAX_REMEMBERED:
        _shown.popitem(last=False)
    return key


# --- reading -----------------------------------------------------------------------------


def _labels(table: Any) -> list[Any]:
    return list(table.column_names if kind_of(table) == "pyarrow" else table.columns)


def _dtypes(table: Any) -> list[Any]:
    return list(table.schema.types if kind_of(table) == "pyarrow" else table.dtypes)


def _shown_rows(table: Any) -> int:
    return max(MIN_ROWS, MAX_CELLS // max(1, table.shape[1]))


def unique_names(labels: Any) -> list[str]:
    """Labels as text; those that occur again get ``.1``, ``.2`` …, as pandas reads CSV."""
    names: list[str] = []
    seen: set[str] = set()
    for label in labels:
        base = name = str(label)
        number = 0
        while name in seen:
            number += 1
            name = f"{base}.{number}"
        seen.add(name)
        names.append(name)
    return names


def _of_pandas(table: Any, position: int, rows: int) -> list[Any]:
    column = table.iloc[:rows, position]
    kind = getattr(column.dtype, "kind", "O")
    numpy = sys.modules["numpy"]
    if kind in "biu" and not column.hasnans:
        return list(column.tolist())
    if kind == "f" and isinstance(column.dtype, numpy.dtype):
        return _floats(column.to_numpy())
    return [plain(value) for value in column.tolist()]


def _of_polars(table: Any, position: int, rows: int) -> list[Any]:
    return [plain(value) for value in table.to_series(position).head(rows).to_list()]


def _of_pyarrow(table: Any, position: int, rows: int) -> list[Any]:
    return [plain(value) for value in table.column(position).slice(0, rows).to_pylist()]


_COLUMN: dict[str, Callable[[Any, int, int], list[Any]]] = {
    "pandas": _of_pandas,
    "polars": _of_polars,
    "pyarrow": _of_pyarrow,
}


def _floats(array: Any) -> list[Any]:
    finite = sys.modules["numpy"].isfinite(array)
    numbers: list[Any] = array.tolist()
    if finite.all():
        return numbers
    return [number if good else None for number, good in zip(numbers, finite, strict=True)]


def plain(value: Any) -> Any:
    """One cell as JSON holds it."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NA or value is pandas.NaT):
        return None
    isoformat: Callable[[], str] | None = getattr(value, "isoformat", None)
    if isoformat is not None and not hasattr(value, "total_seconds"):
        return isoformat()
    if hasattr(value, "item"):
        return plain(value.item())
    return str(value)


# --- writing -----------------------------------------------------------------------------


def _write_csv(table: Any, path: str) -> None:
    kind = kind_of(table)
    if kind == "pandas":
        table.to_csv(path, index=_has_own_index(table))
    elif kind == "polars":
        table.write_csv(path)
    else:
        import pyarrow.csv

        pyarrow.csv.write_csv(table, path)


def _write_parquet(table: Any, path: str) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(_as_arrow(table), path)


def _write_arrow(table: Any, path: str) -> None:
    """The IPC file format, also called Feather version 2."""
    import pyarrow

    whole = _as_arrow(table)
    with pyarrow.OSFile(path, "wb") as sink, pyarrow.ipc.new_file(sink, whole.schema) as writer:
        writer.write_table(whole)


def _as_arrow(table: Any) -> Any:
    kind = kind_of(table)
    if kind == "pyarrow":
        return table
    if kind == "polars":
        return table.to_arrow()
    import pyarrow

    named = table.set_axis(unique_names(table.columns), axis="columns")
    try:
        return pyarrow.Table.from_pandas(named)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError):
        return pyarrow.Table.from_pandas(_with_text(named))


def _with_text(frame: Any) -> Any:
    """Columns of mixed objects as text: Arrow has one type a column."""
    changed = {}
    for name in frame.columns:
        if frame[name].dtype.kind in "Oc":
            changed[name] = [None if each is None else str(each) for each in frame[name]]
    return frame.assign(**changed)


def _has_own_index(frame: Any) -> bool:
    """An index of names or dates belongs to the data; the row numbers do not."""
    return type(frame.index).__name__ != "RangeIndex"


_WRITERS: dict[str, Callable[[Any, str], None]] = {
    "arrow": _write_arrow,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
