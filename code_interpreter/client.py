"""A client with its own connection settings, beside those of the environment."""

from __future__ import annotations

from typing import TypeVar, Unpack, cast

from e2b import ApiParams, E2BClientParams

from code_interpreter.resources import (
    AsyncSecret,
    AsyncTemplate,
    AsyncVolume,
    Secret,
    Template,
    Volume,
)
from code_interpreter.sandbox import Sandbox
from code_interpreter.sandbox_async import AsyncSandbox

__all__ = ["E2B", "E2BClientParams"]

T = TypeVar("T")


class E2B:
    """Classes whose calls use ``opts`` where the caller gives nothing else.

    ::

        client = E2B(api_url="http://sandboxes.example:7070", api_key="e2b_…")
        sandbox = client.Sandbox.create()
    """

    def __init__(self, **opts: Unpack[E2BClientParams]) -> None:
        params = cast(ApiParams, _copy(dict(opts)))
        self.Sandbox = _bind(Sandbox, params)
        self.AsyncSandbox = _bind(AsyncSandbox, params)
        self.Volume = _bind(Volume, params)
        self.AsyncVolume = _bind(AsyncVolume, params)
        self.Template = _bind(Template, params)
        self.AsyncTemplate = _bind(AsyncTemplate, params)
        self.Secret = _bind(Secret, params)
        self.AsyncSecret = _bind(AsyncSecret, params)


def _copy(params: dict[str, object]) -> dict[str, object]:
    """Later changes of the caller's dictionaries change nothing here."""
    return {
        name: dict(value) if isinstance(value, dict) else value for name, value in params.items()
    }


def _bind(cls: type[T], params: ApiParams) -> type[T]:
    return cast(type[T], type(cls.__name__, (cls,), {"_bound_api_params": params}))
