"""Environment variables that clients give."""

from __future__ import annotations

from collections.abc import Mapping

LONGEST_STRING = 32 * 4096 - 1
"""Bytes of one argument, or of a variable with its name and ``=``: MAX_ARG_STRLEN of Linux."""


class BadVariables(ValueError):
    """The kernel cannot pass such a variable on; the message names it."""


def check_variables(variables: Mapping[str, str]) -> None:
    """Raises `BadVariables`."""
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name:
            raise BadVariables(
                f"'{name[:80]}' is no name of a variable: it must not be empty nor hold '=' or NUL"
            )
        if "\0" in value:
            raise BadVariables(f"the value of '{name[:80]}' holds a NUL character")
        if (size := len(f"{name}={value}".encode(errors="surrogateescape"))) > LONGEST_STRING:
            raise BadVariables(
                f"the variable '{name[:80]}' has {size} bytes with its name; Linux passes on at "
                f"most {LONGEST_STRING}: write it to a file instead"
            )
