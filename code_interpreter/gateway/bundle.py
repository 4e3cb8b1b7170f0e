"""From a kernel's MIME bundle to the fields that clients know."""

from __future__ import annotations

from typing import Any

from code_interpreter.protocol.executions import Bundle

FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json_",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}
_TEXT = frozenset(FIELDS.values()) - {"json_", "data", "chart"}
_BASE64 = frozenset({"png", "jpeg", "pdf"})


def from_mime(data: dict[str, Any]) -> Bundle:
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for mime, value in data.items():
        name = FIELDS.get(mime)
        if name is None:
            extra[mime] = value
        elif value is not None:
            fields[name] = _as_text(name, value) if name in _TEXT else value
    return Bundle(**fields, extra=extra)


def to_wire(bundle: Bundle) -> dict[str, Any]:
    """Its fields by their names on the wire. Values are not copied: they can be large."""
    fields = {name: value for name, value in vars(bundle).items() if value is not None}
    if "json_" in fields:
        fields["json"] = fields.pop("json_")
    return fields


def _as_text(name: str, value: Any) -> str:
    """Notebook formats allow a list of lines; base64 comes with line breaks from some kernels."""
    text = "".join(map(str, value)) if isinstance(value, list) else str(value)
    if name in _BASE64 and "\n" in text:
        return text.replace("\n", "")
    return text
