"""File names are bytes; messages to clients hold Unicode alone."""

from __future__ import annotations


def printable(name: str) -> str:
    """What of a file name is not UTF-8 becomes U+FFFD: it can be seen, but not be used."""
    if name.isascii():
        return name
    return name.encode(errors="surrogateescape").decode(errors="replace")
