"""What is too large to be told: said in its place, before it is copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_BYTES = 48 << 20
"""What the gateway passes on of one result at most."""
MAX_CHARACTERS = 1 << 20
"""Of what an exception says, and of one part of its traceback."""
OMITTED = "omitted_bytes"
"""Key of the message's metadata that tells the gateway."""


def bounded(
    data: Mapping[str, Any], metadata: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A result's forms and their metadata, or a word on why they are missing."""
    size = sum(map(_size, data.values()))
    if size <= MAX_BYTES:
        return dict(data), dict(metadata or {})
    kinds = ", ".join(str(kind)[:80] for kind in list(data)[:5])
    text = (
        f"[… a result of {size} bytes ({kinds}) left out here; "
        f"one may have {MAX_BYTES >> 20} MiB …]"
    )
    return {"text/plain": text}, {OMITTED: size}


def _size(value: Any) -> int:
    """Of text and bytes; anything else is weighed where it comes out."""
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value) if isinstance(value, (str, bytes)) else 0


def shortened(text: str) -> str:
    """Its beginning and its end, where it is too long."""
    left_out = len(text) - MAX_CHARACTERS
    if left_out <= 0:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]}\n[… {left_out} characters left out here …]\n{text[-half:]}"
