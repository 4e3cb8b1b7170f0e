"""Environment variables that clients give."""

from __future__ import annotations

from collections.abc import Mapping

LONGEST_STRING = 32 * 4096 - 1
"""Bytes of one argument, or of a variable with its name and ``=``: MAX_ARG_STRLEN of Linux."""


class BadVariables(ValueError):
    """The kernel cannot pass such a variable on; the message names it."""


def check_text(variables: Mapping[str, str]) -> None:
    """Can these be variables, however long they are? Raises `BadVariables`."""
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name:
            raise BadVariables(
                f"'{name[:80]}' is no name of a variable: it must not be empty nor hold '=' or NUL"
            )
        if "\0" in value:
            raise BadVariables(f"the value of '{name[:80]}' holds a NUL character")
        _check_characters(name, name)
        _check_characters(name, value)


def check_variables(variables: Mapping[str, str]) -> None:
    """Can a program be started with these? Raises `BadVariables`."""
    check_text(variables)
    for name, value in variables.items():
        if (size := len(f"{name}={value}".encode())) > LONGEST_STRING:
            raise BadVariables(
                f"the variable '{name[:80]}' has {size} bytes with its name; Linux passes on at "
                f"most {LONGEST_STRING}: write it to a file instead"
            )


def _check_characters(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = name[:80].encode(errors="backslashreplace").decode()
        raise BadVariables(
            f"the variable '{shown}' holds half of a character "
            f"(U+{ord(text[error.start]):04X}), which is no text"
        ) from None
