"""What a cell gave: results, output, error, and what it did to its kernel.

The classes have the names, fields and methods of E2B's code interpreter package, so that
programs written for it read them without a change. All are pydantic models:
``Execution.model_validate_json(execution.model_dump_json())`` is the execution again.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from code_interpreter.charts import AnyChart, Chart
from code_interpreter.protocol.executions import (
    Cause,
    ExecutionStatus,
    KernelState,
    Receipt,
)

T = TypeVar("T")
RunCodeLanguage: TypeAlias = (
    Literal["python", "javascript", "typescript", "r", "java", "bash"] | str
)
OutputHandler: TypeAlias = Callable[[T], Any]
OutputHandlerWithAsync: TypeAlias = Callable[[T], Any] | Callable[[T], Awaitable[Any]]


class MIMEType(str):
    """The name of a MIME type."""

    __slots__ = ()


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="ignore", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    if TYPE_CHECKING:  # subclasses take their fields in the order that E2B's take them

        def __init__(self, **fields: Any) -> None: ...

    def __str__(self) -> str:
        return repr(self)


class OutputMessage(_Model):
    """A piece of output, usually what one ``print`` wrote."""

    line: str
    timestamp: int | str
    """When it was written: ISO 8601, or whatever the server sent."""
    error: bool = False
    """Whether it went to standard error."""

    def __init__(self, line: str, timestamp: int | str, error: bool = False, **_: object) -> None:
        super().__init__(line=line, timestamp=timestamp, error=error)

    def __str__(self) -> str:
        return self.line


class InputPrompt(str):
    """What a cell asks for with ``input()``: the prompt, so that ``on_input=input`` works."""

    __slots__ = ("password",)

    password: bool
    """The answer must not be shown (``getpass``)."""

    def __new__(cls, prompt: str, *, password: bool = False) -> Self:
        text = super().__new__(cls, prompt)
        text.password = password
        return text


class ExecutionError(_Model):
    """What a cell raised, or why it could not be finished."""

    name: str
    value: str
    traceback: str
    """Readable as it is: with line breaks, without colours."""
    traceback_ansi: str | None = Field(default=None, repr=False)
    """The same with the terminal colours of IPython, if the server sent it."""

    def __init__(
        self,
        name: str,
        value: str,
        traceback: str,
        traceback_ansi: str | None = None,
        **_: object,
    ) -> None:
        super().__init__(name=name, value=value, traceback=traceback, traceback_ansi=traceback_ansi)

    def to_json(self) -> str:
        """``name``, ``value`` and ``traceback`` as a JSON object."""
        return self.model_dump_json(include={"name", "value", "traceback"})


FORMATS = (
    "text",
    "html",
    "markdown",
    "svg",
    "png",
    "jpeg",
    "pdf",
    "latex",
    "json",
    "javascript",
    "data",
    "chart",
)
"""The formats that have a field of their own, in the order of `Result.formats`."""


class Result(_Model):
    """A value or a display, in every format that it has. Binary formats are base64 text.

    ``result["png"]`` is ``result.png``; so is every MIME type in ``extra`` by its name.
    """

    text: str | None = None
    html: str | None = None
    markdown: str | None = None
    svg: str | None = None
    png: str | None = None
    jpeg: str | None = None
    pdf: str | None = None
    latex: str | None = None
    json_: Any = Field(default=None, alias="json")
    javascript: str | None = None
    data: Any = None
    """A data frame as columns, or what else the sandbox extracted."""
    chart: AnyChart = None
    is_main_result: bool = False
    """Whether it is the value of the cell's last expression, not something displayed."""
    extra: dict[str, Any] | None = None
    """Every other MIME type of it."""
    text_repr: str | None = Field(default=None, repr=False)
    """``text`` as the kernel wrote it: ``'1'`` is a string here, ``1`` a number. None over
    HTTP, where only ``text`` is sent, which has lost the quotes."""
    display_id: str | None = Field(default=None, repr=False)
    """The name by which the cell can update this display."""
    context_id: str | None = Field(default=None, repr=False)
    """The context whose cell gave it."""

    def __init__(
        self,
        text: str | None = None,
        html: str | None = None,
        markdown: str | None = None,
        svg: str | None = None,
        png: str | None = None,
        jpeg: str | None = None,
        pdf: str | None = None,
        latex: str | None = None,
        json: Any = None,
        javascript: str | None = None,
        data: Any = None,
        chart: dict[str, Any] | Chart | None = None,
        is_main_result: bool = False,
        extra: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(
            text=text,
            html=html,
            markdown=markdown,
            svg=svg,
            png=png,
            jpeg=jpeg,
            pdf=pdf,
            latex=latex,
            json=more.pop("json_", None) if json is None else json,
            javascript=javascript,
            data=data,
            chart=chart,
            is_main_result=is_main_result,
            extra=extra,
            **more,
        )

    @property
    def json(self) -> Any:
        """The value as JSON data."""
        return self.json_

    @json.setter
    def json(self, value: Any) -> None:
        self.json_ = value

    def __getitem__(self, item: str) -> Any:
        if item in FORMATS or self.extra is None or item not in self.extra:
            return getattr(self, item)
        return self.extra[item]

    def formats(self) -> list[str]:
        """The names of all formats that there are, MIME types in ``extra`` last."""
        return [name for name in FORMATS if self._has(name)] + list(self.extra or ())

    def _has(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None if name in ("json", "data") else bool(value)

    def __repr__(self) -> str:
        if self.text:
            return f"Result({self.text})"
        return f"Result(Formats: {', '.join(self.formats())})"

    def _repr_html_(self) -> str | None:
        return self.html

    def _repr_markdown_(self) -> str | None:
        return self.markdown

    def _repr_svg_(self) -> str | None:
        return self.svg

    def _repr_png_(self) -> str | None:
        return self.png

    def _repr_jpeg_(self) -> str | None:
        return self.jpeg

    def _repr_pdf_(self) -> str | None:
        return self.pdf

    def _repr_latex_(self) -> str | None:
        return self.latex

    def _repr_json_(self) -> Any:
        return self.json

    def _repr_javascript_(self) -> str | None:
        return self.javascript

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """What a notebook shows besides the above: the MIME types in ``extra``."""
        return {name: value for name, value in (self.extra or {}).items() if "/" in name}


class Logs(_Model):
    """What a cell printed, in order, a piece an item."""

    stdout: list[str] = Field(default_factory=list)
    stderr: list[str] = Field(default_factory=list)

    def __init__(
        self, stdout: list[str] | None = None, stderr: list[str] | None = None, **_: object
    ) -> None:
        super().__init__(stdout=stdout or [], stderr=stderr or [])

    def __repr__(self) -> str:
        return f"Logs(stdout: {self.stdout}, stderr: {self.stderr})"

    def to_json(self) -> str:
        """``stdout`` and ``stderr`` as a JSON object."""
        return self.model_dump_json()


class Execution(_Model):
    """What became of one cell.

    The fields from ``id`` on are None if the server is E2B's, which does not tell.
    """

    results: list[Result] = Field(default_factory=list)
    logs: Logs = Field(default_factory=Logs)
    error: ExecutionError | None = None
    execution_count: int | None = None
    id: str | None = None
    """Names the execution in its sandbox, also to other clients (`attach_execution`)."""
    context_id: str | None = None
    status: ExecutionStatus | None = None
    """How it ended; None while it runs."""
    kernel_state: KernelState | None = None
    """Whether the context still has its variables."""
    cause: Cause | None = None
    """Why it did not end by itself, or why the kernel is not the one it was."""
    exit_code: int | None = None
    """Of the kernel's process, if it ended."""
    signal: int | None = None
    """That ended the kernel's process."""
    receipt: Receipt | None = None
    """What it cost, and how much of its output is not in ``logs``."""

    def __init__(
        self,
        results: list[Result] | None = None,
        logs: Logs | None = None,
        error: ExecutionError | None = None,
        execution_count: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(
            results=results or [],
            logs=logs or Logs(),
            error=error,
            execution_count=execution_count,
            **more,
        )

    @property
    def text(self) -> str | None:
        """The value of the cell's last expression as text; None if it has none."""
        return next((result.text for result in self.results if result.is_main_result), None)

    def __repr__(self) -> str:
        return f"Execution(Results: {self.results}, Logs: {self.logs}, Error: {self.error})"

    def to_json(self) -> str:
        """Results, logs and error in the JSON of E2B's package: logs and error are JSON text.

        `model_dump_json` has everything, and no JSON inside JSON.
        """
        return json_module.dumps(
            {
                "results": serialize_results(self.results),
                "logs": self.logs.to_json(),
                "error": self.error.to_json() if self.error else None,
            }
        )


def serialize_results(results: list[Result]) -> list[dict[str, Any]]:
    """Each result as a dictionary from format to content; ``text`` is always there."""
    return [_serialize(result) for result in results]


def _serialize(result: Result) -> dict[str, Any]:
    formats = {name: result[name] for name in result.formats()}
    if result.chart is not None:
        formats["chart"] = result.chart.to_dict()
    return {**formats, "text": result.text}


class Context(_Model):
    """A kernel of its own: language, working directory, variables."""

    id: str = Field(validation_alias=AliasChoices("id", "context_id"))
    language: str
    cwd: str

    def __init__(self, context_id: str | None = None, *positional: str, **fields: Any) -> None:
        if context_id is not None:
            fields["id"] = context_id
        fields.update(zip(("language", "cwd"), positional, strict=False))
        super().__init__(**fields)

    @classmethod
    def from_json(cls, data: dict[str, str]) -> Self:
        """The context that a server describes."""
        return cls.model_validate(data)
