"""pandas DataFrames as plain data."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

MAX_CELLS = 20_000
MIN_ROWS = 100
"""Wide tables show at least so many rows."""


def is_table(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    frame = getattr(pandas, "DataFrame", None)
    return frame is not None and isinstance(value, frame)


def columns(frame: Any) -> dict[str, list[Any]]:
    """Column name → its first values; dates in ISO form, what JSON has no form for as text."""
    rows = max(MIN_ROWS, MAX_CELLS // max(1, frame.shape[1]))
    head = frame.iloc[:rows]
    names = unique_names(head.columns)
    return {name: values(head.iloc[:, position]) for position, name in enumerate(names)}


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


def values(column: Any) -> list[Any]:
    kind = getattr(column.dtype, "kind", "O")
    if kind in "biu" and not column.hasnans:
        return list(column.tolist())
    if kind == "f" and isinstance(column.dtype, sys.modules["numpy"].dtype):
        return _floats(column.to_numpy())
    return [plain(value) for value in column.tolist()]


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
    pandas = sys.modules["pandas"]
    if value is pandas.NA or value is pandas.NaT:
        return None
    isoformat: Callable[[], str] | None = getattr(value, "isoformat", None)
    if isoformat is not None and not isinstance(value, pandas.Timedelta):
        return isoformat()
    if hasattr(value, "item"):
        return plain(value.item())
    return str(value)
