"""What a value looks like outside the kernel: bounded text, and data in E2B's MIME types.

====================  ==================================================================
``text/plain``        all of it up to `MAX_TEXT` characters, then a mark
``application/json``  lists and dicts up to `MAX_JSON` bytes
``e2b/data``          tables: column → list of values, as many rows as `tables` shows
`tables.MIME`         tables: what they are, and an id to fetch all of it by
``e2b/chart``         figures, see `charts`
``image/png``         Altair's charts, see `vega`
====================  ==================================================================

Formatters here never raise: a value that they cannot read just has one format less.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any

from IPython.core.formatters import BaseFormatter, DisplayFormatter, PlainTextFormatter
from IPython.lib import pretty
from traitlets import ObjectName, Unicode

from sandbox_kernel import charts, drawings, tables, vega

MAX_TEXT = 1 << 18
MAX_JSON = 1 << 20


class BoundedTextFormatter(PlainTextFormatter):
    """Prints whole sequences, and stops when the text gets too long."""

    def __call__(self, obj: Any) -> str | None:
        if not self.pprint:
            return bounded(super().__call__(obj))
        stream = _BoundedStream()
        printer = pretty.RepresentationPrinter(
            stream,
            self.verbose,
            self.max_width,
            self.newline,
            max_seq_length=0,
            singleton_pprinters=self.singleton_printers,
            type_pprinters=self.type_printers,
            deferred_pprinters=self.deferred_printers,
        )
        try:
            printer.pretty(obj)
            printer.flush()
        except _Full:
            pass
        except Exception:
            return bounded(super().__call__(obj))
        return bounded(stream.getvalue())


class _Full(BaseException):
    """Enough text; not an Exception, because ``__repr__`` methods catch those."""


class _BoundedStream(io.StringIO):
    def write(self, text: str) -> int:
        super().write(text)
        if self.tell() > MAX_TEXT:
            raise _Full
        return len(text)


def bounded(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}… [cut after {MAX_TEXT} characters]"


class _DataFormatter(BaseFormatter):
    """One MIME type whose values a function makes; None from it means: not this format."""

    _return_type = (dict, list)
    make: Callable[[Any], Any]
    applies: Callable[[Any], bool]

    def __call__(self, obj: Any) -> Any:
        try:
            return type(self).make(obj) if type(self).applies(obj) else None
        except Exception:
            return None


class JsonFormatter(_DataFormatter):
    format_type = Unicode("application/json")
    print_method = ObjectName("_repr_json_")
    applies = staticmethod(lambda obj: type(obj) in (dict, list))
    make = staticmethod(lambda obj: (to_json(obj), {"expanded": True}))

    def __call__(self, obj: Any) -> Any:
        answer = super().__call__(obj)
        if answer is not None:
            return answer if answer[0] is not None else None
        if type(obj) in (dict, list):
            return None
        return BaseFormatter.__call__(self, obj)


class TableFormatter(_DataFormatter):
    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    applies = staticmethod(tables.is_table)
    make = staticmethod(tables.columns)


class TableDescriptionFormatter(_DataFormatter):
    format_type = Unicode(tables.MIME)
    print_method = ObjectName("_repr_code_interpreter_table_")
    applies = staticmethod(tables.is_table)
    make = staticmethod(tables.description)


class ChartFormatter(_DataFormatter):
    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    applies = staticmethod(charts.is_figure)
    make = staticmethod(charts.from_figure)


def to_json(value: Any) -> Any:
    """``value`` with everything in it JSON can hold, or None if it is too large."""
    orjson = _orjson()
    if orjson is not None:
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        with contextlib.suppress(orjson.JSONEncodeError):  # integers above 64 bits, say
            data = orjson.dumps(value, default=_as_plain, option=options)
            return orjson.loads(data) if len(data) <= MAX_JSON else None
    text = json.dumps(value, default=_as_plain, skipkeys=True)
    return json.loads(text) if len(text) <= MAX_JSON else None


def _orjson() -> Any:
    if "orjson" not in sys.modules:
        try:
            import orjson
        except ImportError:
            return None
        return orjson
    return sys.modules["orjson"]


def _as_plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def install(formatter: DisplayFormatter) -> None:
    formatters = formatter.formatters
    plain = BoundedTextFormatter(parent=formatter)
    formatters["text/plain"] = plain
    for kind in (JsonFormatter, TableFormatter, TableDescriptionFormatter, ChartFormatter):
        made = kind(parent=formatter)
        formatters[made.format_type] = made
    for module in vega.MODULES:
        formatters["image/png"].for_type_by_name(module, vega.CLASS, vega.picture)
    page = drawings.bokeh_page
    formatters["text/html"].for_type_by_name("bokeh.models.plots", "Plot", page)
