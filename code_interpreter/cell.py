"""One call of ``run_code``, checked before anything is sent."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from code_interpreter.errors import InvalidArgumentException, InvalidCodeException
from code_interpreter.models import Context
from code_interpreter.protocol.executions import (
    MAX_CODE_BYTES,
    Execute,
    OnDisconnect,
)

DEFAULT_TIMEOUT = 300.0
"""Seconds a cell may take if the caller does not say."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Code, where to run it, and how long it may take."""

    code: str
    language: str | None = None
    context_id: str | None = None
    envs: dict[str, str] | None = None
    timeout: float | None = DEFAULT_TIMEOUT
    """Seconds; None: no limit."""
    key: str | None = None
    """The id to run under, in place of a fresh one; nothing runs twice under one."""

    def execute(self, *, allow_stdin: bool, on_disconnect: OnDisconnect) -> Execute:
        """The message that runs it. Raises `InvalidCodeException`."""
        size = len(self.code.encode())
        if size > MAX_CODE_BYTES:
            raise InvalidCodeException(
                f"code has {size:,} bytes, and {MAX_CODE_BYTES:,} is the most that a cell may "
                "have: write it to a file in the sandbox and import or run that"
            )
        return Execute(
            execution_id=self.key or uuid.uuid4().hex,
            code=self.code,
            context_id=self.context_id,
            language=self.language,
            env_vars=self.envs,
            timeout=self.timeout,
            allow_stdin=allow_stdin,
            on_disconnect=on_disconnect,
        )

    def http_body(self) -> dict[str, Any]:
        """The body of ``POST /execute``."""
        return {
            "code": self.code,
            "context_id": self.context_id,
            "language": self.language,
            "env_vars": self.envs,
        }


def make_cell(
    code: object,
    language: object = None,
    context: object = None,
    envs: object = None,
    timeout: object = None,
    key: object = None,
) -> Cell:
    """The cell that these arguments of ``run_code`` mean. Raises `InvalidArgumentException`."""
    if language and context:
        raise InvalidArgumentException(
            "Both language and context were given, but a context has its language: give one of "
            "the two"
        )
    return Cell(
        _check_code(code),
        _check_language(language),
        context_id_of(context) if context else None,
        _check_variables(envs),
        check_timeout(timeout),
        None if key is None else _check_id("idempotency_key", key),
    )


def _check_code(code: object) -> str:
    if not isinstance(code, str):
        raise InvalidCodeException(f"code must be a str, not {_type_name(code)}")
    try:
        code.encode()
    except UnicodeEncodeError as error:
        raise InvalidCodeException(
            f"code has half of a character (U+{ord(code[error.start]):04X}) at position "
            f"{error.start}, which cannot be sent as UTF-8"
        ) from None
    return code


def _check_language(language: object) -> str | None:
    if not language:
        return None
    if not isinstance(language, str):
        raise InvalidArgumentException(
            f"language must be a str such as 'python', not {_type_name(language)}"
        )
    return language


def context_id_of(context: object) -> str:
    """The id of a context that is given as itself or as its id."""
    if isinstance(context, str):
        return context
    if isinstance(context, Context):
        return context.id
    raise InvalidArgumentException(
        f"context must be a Context or the id of one, not {_type_name(context)}"
    )


def _check_variables(variables: object) -> dict[str, str] | None:
    if variables is None:
        return None
    if not isinstance(variables, Mapping):
        raise InvalidArgumentException(
            f"envs must be a dict of str to str, not {_type_name(variables)}"
        )
    for name, value in variables.items():
        _check_variable(name, value)
    return dict(variables)


def _check_variable(name: object, value: object) -> None:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise InvalidArgumentException(
            f"envs has the name {name!r}: a name is a str that is not empty and has no '='"
        )
    if not isinstance(value, str) or "\0" in value:
        raise InvalidArgumentException(
            f"envs[{name!r}] must be a str without NUL characters, not {_type_name(value)}"
        )


def check_timeout(timeout: object) -> float | None:
    """Seconds that the argument means: the default for None, no limit (None) for 0."""
    if timeout is None:
        return DEFAULT_TIMEOUT
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise InvalidArgumentException(
            f"timeout must be a number of seconds, not {_type_name(timeout)}"
        )
    if not math.isfinite(timeout) or timeout < 0:
        raise InvalidArgumentException(
            f"timeout must be a number of seconds from 0 (no limit), not {timeout}"
        )
    return float(timeout) or None


def check_execution_id(execution_id: object) -> str:
    """The id, if it can be one. Raises `InvalidArgumentException`."""
    return _check_id("execution_id", execution_id)


def _check_id(name: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise InvalidArgumentException(
            f"{name} must be 1 to 64 letters, digits, '-' and '_', not {value!r}"
        )
    return value


def _type_name(value: object) -> str:
    return type(value).__name__
