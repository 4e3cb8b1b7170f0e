"""Environment variables that come with an execute request, as data.

The request's metadata may hold, under `KEY`, ``sandbox_env`` (all variables of the sandbox,
sent when they changed) and ``env`` (variables for this cell alone).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

KEY = "code_interpreter"


class Environment:
    """Knows which variables are the sandbox's, so that they can be taken back."""

    def __init__(self) -> None:
        self._sandbox: dict[str, str] = {}

    @contextmanager
    def of_cell(self, metadata: Mapping[str, Any] | None) -> Iterator[None]:
        """Apply what the request brings; what was for this cell alone is undone at its end."""
        wishes = (metadata or {}).get(KEY) or {}
        if "sandbox_env" in wishes:
            self._replace(wishes["sandbox_env"])
        own: dict[str, str] = wishes.get("env") or {}
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            yield
        finally:
            for name, value in before.items():
                _set(name, value)

    def _replace(self, variables: dict[str, str]) -> None:
        for name in self._sandbox.keys() - variables.keys():
            _set(name, None)
        os.environ.update(variables)
        self._sandbox = dict(variables)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
