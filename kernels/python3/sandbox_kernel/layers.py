"""What is drawn on matplotlib axes, layer by layer.

``{"kind", "x_label", "y_label", "x_scale", "y_scale", "twin", "layers": [...]}``; each layer
has a ``type`` and, where there is one, a ``label``:

================  ======================================================================
``line``          ``points``
``points``        ``points`` and, if they are told by colour, ``values``
``bars``          ``orientation``, ``bars`` of ``position, width, base, value``, ``errors``
``histogram``     ``edges``, ``counts``, ``orientation``
``error_bars``    ``points``, ``x_errors``, ``y_errors`` as pairs of ends
``area``          ``x``, ``lower``, ``upper``
``heatmap``       ``shape``, ``values`` row by row, ``extent`` or ``x_edges``, ``y_edges``
``image``         ``shape``, ``extent``
``pie``           ``slices`` of ``label, start, end, fraction``
================  ======================================================================
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

MAX_POINTS = 2000
MAX_CELLS = 10_000
_CLOSE = 1e-9


def of_axes(axes: Any) -> dict[str, Any] | None:
    """None if there is nothing on it that this module knows."""
    found = _layers(axes)
    if is_3d(axes):
        return {"kind": "3d", "layers": []}
    if not found:
        return None
    kinds = {layer["type"] for layer in found}
    return {
        "kind": _kind(found, kinds),
        "x_label": axes.get_xlabel() or None,
        "y_label": axes.get_ylabel() or None,
        "x_scale": axes.get_xscale(),
        "y_scale": axes.get_yscale(),
        "twin": _is_twin(axes),
        "layers": found,
    }


def _kind(found: list[dict[str, Any]], kinds: set[str]) -> str:
    if len(kinds) > 1:
        return "mixed"
    (kind,) = kinds
    if kind != "bars" or len(found) == 1:
        return kind
    stacked = any(bar["base"] for layer in found for bar in layer["bars"])
    return "stacked_bars" if stacked else "grouped_bars"


def is_3d(axes: Any) -> bool:
    return bool(getattr(axes, "name", "") == "3d")


def is_colorbar(axes: Any) -> bool:
    return hasattr(axes, "_colorbar") or axes.get_label() == "<colorbar>"


def _is_twin(axes: Any) -> bool:
    siblings = axes.figure.get_axes()
    own = axes.get_position().bounds
    before = siblings[: siblings.index(axes)]
    return any(each.get_position().bounds == own for each in before)


def _layers(axes: Any) -> list[dict[str, Any]]:
    containers = list(axes.containers)
    used = {id(part) for container in containers for part in _parts(container)}
    found = [_safely(_of_container, container) for container in containers]
    found += [_safely(_of_artist, each) for each in axes._children if id(each) not in used]
    found.append(_safely(_pie, axes))
    return [layer for layer in found if layer]


def _safely(read: Callable[[Any], dict[str, Any] | None], thing: Any) -> dict[str, Any] | None:
    try:
        return read(thing)
    except Exception:
        return None


def _parts(container: Any) -> Iterable[Any]:
    for part in container.get_children():
        yield part
        if isinstance(part, tuple):
            yield from part


# --- containers --------------------------------------------------------------------------


def _of_container(container: Any) -> dict[str, Any] | None:
    from matplotlib.container import BarContainer, ErrorbarContainer

    if isinstance(container, BarContainer):
        return _bars(container)
    if isinstance(container, ErrorbarContainer):
        return _error_bars(container)
    return None


def _bars(container: Any) -> dict[str, Any]:
    vertical = getattr(container, "orientation", None) != "horizontal"
    rectangles = container.patches
    bars = []
    for each in rectangles:
        across, along = (each.get_x(), each.get_y()), (each.get_width(), each.get_height())
        if not vertical:
            across, along = across[::-1], along[::-1]
        bars.append((across[0], along[0], across[1], along[1]))
    orientation = "vertical" if vertical else "horizontal"
    label = _label(container) or (_label(rectangles[0]) if rectangles else None)
    if _touch(bars):
        edges = [bar[0] for bar in bars] + [bars[-1][0] + bars[-1][1]]
        counts = [bar[3] for bar in bars]
        return plain(
            {"type": "histogram", "label": label, "edges": edges, "counts": counts}
            | {"orientation": orientation}
        )
    names = ("position", "width", "base", "value")
    told = [
        dict(zip(names, (start + width / 2, width, base, value), strict=True))
        for start, width, base, value in bars[:MAX_POINTS]
    ]
    layer = {"type": "bars", "label": label, "orientation": orientation, "bars": told}
    errors = getattr(container, "errorbar", None)
    if errors is not None:
        read = _error_bars(errors)
        layer["errors"] = read["y_errors"] if vertical else read["x_errors"]
    return plain(layer)


def _touch(bars: list[tuple[float, float, float, float]]) -> bool:
    """Bars without gaps are a histogram."""
    if len(bars) < 2 or any(bar[2] for bar in bars):
        return False
    return all(
        math.isclose(left[0] + left[1], right[0], rel_tol=1e-6, abs_tol=_CLOSE)
        for left, right in itertools.pairwise(bars)
    )


def _error_bars(container: Any) -> dict[str, Any]:
    line, _, bars = container.lines
    points = [] if line is None else list(zip(line.get_xdata(), line.get_ydata(), strict=True))
    layer: dict[str, Any] = {"type": "error_bars", "label": _label(container), "points": points}
    for name, has, axis in (("x_errors", "has_xerr", 0), ("y_errors", "has_yerr", 1)):
        layer[name] = None
        if getattr(container, has, False) and bars:
            segments = (bars[0] if axis == 0 else bars[-1]).get_segments()
            layer[name] = [(ends[0][axis], ends[-1][axis]) for ends in segments[:MAX_POINTS]]
    return plain(layer)


# --- single artists ----------------------------------------------------------------------


def _of_artist(artist: Any) -> dict[str, Any] | None:
    from matplotlib import collections, image, lines

    readers = (
        (lines.Line2D, _line),
        (collections.PathCollection, _points),
        (collections.QuadMesh, _mesh),
        (collections.PolyCollection, _area),
        (image.AxesImage, _image),
    )
    for kind, read in readers:
        if isinstance(artist, kind):
            return read(artist)
    return None


def _line(line: Any) -> dict[str, Any] | None:
    xs, ys = line.get_xdata(), line.get_ydata()
    if len(xs) < 2 and line.get_linestyle() != "None" and not line.get_marker():
        return None
    pairs = zip(thinned(xs, MAX_POINTS), thinned(ys, MAX_POINTS), strict=True)
    drawn = line.get_linestyle() not in ("None", "", " ")
    layer = {"type": "line" if drawn else "points", "label": _label(line), "points": list(pairs)}
    return plain(layer | {"point_count": len(xs)})


def _points(collection: Any) -> dict[str, Any]:
    offsets = collection.get_offsets()
    points = [tuple(each) for each in thinned(offsets, MAX_POINTS)]
    layer = {"type": "points", "label": _label(collection), "points": points}
    values = collection.get_array()
    if values is not None:
        layer["values"] = list(thinned(values, MAX_POINTS))
    return plain(layer | {"point_count": len(offsets)})


def _mesh(mesh: Any) -> dict[str, Any]:
    coordinates = mesh.get_coordinates()
    rows, columns = coordinates.shape[0] - 1, coordinates.shape[1] - 1
    layer = {"type": "heatmap", "label": _label(mesh), "shape": [rows, columns]}
    layer["x_edges"] = [point[0] for point in coordinates[0]]
    layer["y_edges"] = [row[0][1] for row in coordinates]
    layer["values"] = _grid(mesh.get_array().reshape(rows, columns))
    return plain(layer)


def _grid(values: Any) -> Any:
    return values.tolist() if values.size <= MAX_CELLS else None


def _image(image: Any) -> dict[str, Any]:
    values = image.get_array()
    layer = {"type": "image", "shape": list(values.shape), "extent": list(image.get_extent())}
    if values.ndim == 2:
        layer |= {"type": "heatmap", "values": _grid(values)}
    return plain(layer)


def _area(collection: Any) -> dict[str, Any] | None:
    """``fill_between`` and ``stackplot``: there along one edge, back along the other."""
    paths = collection.get_paths()
    if len(paths) != 1:
        return None
    corners = paths[0].vertices
    count = (len(corners) - 3) // 2  # without the first corner, the turn and the closing one
    if count < 1:
        return None
    there, back = corners[1 : count + 1], corners[count + 2 : 2 * count + 2][::-1]
    there, back = thinned(there, MAX_POINTS), thinned(back, MAX_POINTS)
    return plain(
        {
            "type": "area",
            "label": _label(collection),
            "x": [point[0] for point in there],
            "lower": [min(a[1], b[1]) for a, b in zip(there, back, strict=True)],
            "upper": [max(a[1], b[1]) for a, b in zip(there, back, strict=True)],
        }
    )


def _pie(axes: Any) -> dict[str, Any] | None:
    from matplotlib.patches import Wedge

    wedges = [patch for patch in axes.patches if isinstance(patch, Wedge)]
    if not wedges:
        return None
    slices = [
        {
            "label": _label(wedge),
            "start": wedge.theta1,
            "end": wedge.theta2,
            "fraction": abs(wedge.theta2 - wedge.theta1) / 360,
        }
        for wedge in wedges
    ]
    return plain({"type": "pie", "slices": slices})


# --- plain data --------------------------------------------------------------------------


def _label(artist: Any) -> str | None:
    label = artist.get_label()
    return None if not label or str(label).startswith("_") else str(label)


def thinned(values: Any, most: int) -> Any:
    """At most about ``most`` of them, evenly chosen, the last one included."""
    count = len(values)
    if count <= most:
        return values
    step = -(-count // most)
    return values[(count - 1) % step :: step]


def plain(value: Any) -> Any:
    """Numbers of numpy, dates and members of enums as what JSON knows."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(getattr(value, "value", value))
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if type(value).__name__ == "datetime64":
        return str(value)
    if hasattr(value, "item"):
        return plain(value.item())
    return str(value)
