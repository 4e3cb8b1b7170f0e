"""Charts as data: what a figure shows, extracted inside the sandbox.

A chart of a type that this version does not know, or with fields missing, is a plain
`Chart` with everything that was sent as attributes and in `Chart.to_dict()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    model_serializer,
    model_validator,
)


class ChartType(StrEnum):
    LINE = "line"
    SCATTER = "scatter"
    BAR = "bar"
    PIE = "pie"
    BOX_AND_WHISKER = "box_and_whisker"
    SUPERCHART = "superchart"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> ChartType:
        return cls.UNKNOWN


class ScaleType(StrEnum):
    """How an axis maps values to places."""

    LINEAR = "linear"
    DATETIME = "datetime"
    CATEGORICAL = "categorical"
    LOG = "log"
    SYMLOG = "symlog"
    LOGIT = "logit"
    FUNCTION = "function"
    FUNCTIONLOG = "functionlog"
    ASINH = "asinh"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> ScaleType:
        return cls.UNKNOWN


def _lenient(enum: Callable[[object], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: enum(value))


_ChartType = Annotated[ChartType, _lenient(ChartType)]
_Scale = Annotated[ScaleType, _lenient(ScaleType)]
Coordinate: TypeAlias = int | float | str
"""A number, or text: a category, or a date as ISO 8601."""


class _Data(BaseModel):
    """Keeps the fields that it was sent, so that nothing is lost on the way out again."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True)

    _sent: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, value: Any, handler: Callable[[Any], Self]) -> Self:
        chart = handler(value)
        if isinstance(value, Mapping):
            chart._sent = dict(value)
        return chart

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """The data as the sandbox sent it."""
        return self._sent


class Chart(_Data):
    """What every chart has. ``elements`` holds its data, by type."""

    type: _ChartType = ChartType.UNKNOWN
    title: str | None = None
    elements: list[Any] = Field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.type.value, **self._sent}


class Chart2D(Chart):
    """A chart with two axes. A unit is what an axis label has in brackets."""

    x_label: str | None = None
    y_label: str | None = None
    x_unit: str | None = None
    y_unit: str | None = None


class PointData(_Data):
    """One line, or one set of points."""

    label: str | None = None
    points: list[tuple[Coordinate | None, Coordinate | None]]


class PointChart(Chart2D):
    x_ticks: list[Coordinate] = Field(default_factory=list)
    x_tick_labels: list[str] = Field(default_factory=list)
    x_scale: _Scale = ScaleType.UNKNOWN
    y_ticks: list[Coordinate] = Field(default_factory=list)
    y_tick_labels: list[str] = Field(default_factory=list)
    y_scale: _Scale = ScaleType.UNKNOWN
    elements: list[PointData]


class LineChart(PointChart):
    type: _ChartType = ChartType.LINE


class ScatterChart(PointChart):
    type: _ChartType = ChartType.SCATTER


class BarData(_Data):
    """One bar: where it stands, which group it belongs to, how long it is."""

    label: Coordinate | None = None
    group: str | None = None
    value: Coordinate | None = None


class BarChart(Chart2D):
    type: _ChartType = ChartType.BAR
    elements: list[BarData]


class PieData(_Data):
    """One slice; ``angle`` is in degrees."""

    label: str | None = None
    angle: float
    radius: float


class PieChart(Chart):
    type: _ChartType = ChartType.PIE
    elements: list[PieData]


class BoxAndWhiskerData(_Data):
    label: str | None = None
    min: float | None = None
    first_quartile: float | None = None
    median: float | None = None
    third_quartile: float | None = None
    max: float | None = None
    outliers: list[float] = Field(default_factory=list)


class BoxAndWhiskerChart(Chart2D):
    type: _ChartType = ChartType.BOX_AND_WHISKER
    elements: list[BoxAndWhiskerData]


def _read_charts(data: object) -> object:
    if not isinstance(data, list):
        return data
    return [chart for chart in map(read_chart, data) if chart is not None]


class SuperChart(Chart):
    """Several charts in one figure."""

    type: _ChartType = ChartType.SUPERCHART
    elements: Annotated[list[SerializeAsAny[Chart]], BeforeValidator(_read_charts)]


ChartTypes: TypeAlias = (
    Chart | LineChart | ScatterChart | BarChart | PieChart | BoxAndWhiskerChart | SuperChart
)


def read_chart(data: object) -> Chart | None:
    """The chart that ``data`` describes; None if it describes nothing. Never raises."""
    if isinstance(data, Chart):
        return data
    if not isinstance(data, Mapping) or not data:
        return None
    kind = _CLASSES.get(ChartType(data.get("type", "unknown")), Chart)
    try:
        return kind.model_validate(data)
    except ValidationError:
        return _bare_chart(data)


def _bare_chart(data: Mapping[Any, Any]) -> Chart:
    """A chart whose fields are not what its type asks for: all of it, unchecked."""
    fields = {str(key): value for key, value in data.items()}
    title, elements = fields.get("title"), fields.get("elements")
    chart = Chart.model_construct(
        **{
            **fields,
            "type": ChartType(fields.get("type", "unknown")),
            "title": title if isinstance(title, str) else None,
            "elements": elements if isinstance(elements, list) else [],
        }
    )
    chart._sent = fields
    return chart


AnyChart: TypeAlias = Annotated[SerializeAsAny[Chart] | None, BeforeValidator(read_chart)]
"""A field that holds any chart, read from what a sandbox sent."""

_CLASSES: dict[ChartType, type[Chart]] = {
    ChartType.LINE: LineChart,
    ChartType.SCATTER: ScatterChart,
    ChartType.BAR: BarChart,
    ChartType.PIE: PieChart,
    ChartType.BOX_AND_WHISKER: BoxAndWhiskerChart,
    ChartType.SUPERCHART: SuperChart,
}
