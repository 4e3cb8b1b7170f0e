"""Environment variables for kernels that cannot take them as data of a request.

They get hidden cells before and after the user's: never the user's own source, so line
numbers stay right. Names and values go in as JSON strings, which are string literals of the
language too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping


def set_variables(kind: str, variables: Mapping[str, str | None]) -> str:
    """A hidden cell in the language ``kind``; None as a value removes the variable."""
    return _WRITERS[kind](variables)


def _deno(variables: Mapping[str, str | None]) -> str:
    gone = json.dumps([name for name, value in variables.items() if value is None])
    kept = json.dumps([[name, value] for name, value in variables.items() if value is not None])
    return (
        f"for (const name of {gone}) Deno.env.delete(name); "
        f"for (const [name, value] of {kept}) Deno.env.set(name, value); undefined"
    )


def _r(variables: Mapping[str, str | None]) -> str:
    """R has no strings with NUL in them, as environments have none."""
    gone = [_r_literal(name) for name, value in variables.items() if value is None]
    kept = [
        f"{_r_literal(name)} = {_r_literal(value)}"
        for name, value in variables.items()
        if value is not None and name
    ]
    steps = [f"Sys.unsetenv(c({', '.join(gone)}))"] if gone else []
    steps += [f"Sys.setenv({', '.join(kept)})"] if kept else []
    return f"invisible({{{'; '.join(steps)}}})"


def _r_literal(text: str) -> str:
    """JSON's string literals are R's too, but for characters above U+FFFF, kept as they are."""
    return json.dumps(text.replace("\0", ""), ensure_ascii=False)


_WRITERS = {"deno": _deno, "r": _r}
