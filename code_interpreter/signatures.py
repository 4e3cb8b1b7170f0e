"""What the calls of both kinds of sandbox take, where several overloads take it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack, overload

from e2b import ApiParams, SandboxOnResume

from code_interpreter.models import (
    ExecutionError,
    InputPrompt,
    OutputHandler,
    OutputHandlerWithAsync,
    OutputMessage,
    Result,
)

if TYPE_CHECKING:
    from code_interpreter.sandbox import Sandbox
    from code_interpreter.sandbox_async import AsyncSandbox


class RunOptions(TypedDict, total=False):
    """What ``Sandbox.run_code`` takes besides the code and where to run it."""

    on_stdout: OutputHandler[OutputMessage] | None
    on_stderr: OutputHandler[OutputMessage] | None
    on_result: OutputHandler[Result] | None
    on_error: OutputHandler[ExecutionError] | None
    envs: dict[str, str] | None
    timeout: float | None
    request_timeout: float | None
    on_update: OutputHandler[Result] | None
    on_input: OutputHandler[InputPrompt] | None
    idempotency_key: str | None


class AsyncRunOptions(TypedDict, total=False):
    """What ``AsyncSandbox.run_code`` takes besides the code and where to run it."""

    on_stdout: OutputHandlerWithAsync[OutputMessage] | None
    on_stderr: OutputHandlerWithAsync[OutputMessage] | None
    on_result: OutputHandlerWithAsync[Result] | None
    on_error: OutputHandlerWithAsync[ExecutionError] | None
    envs: dict[str, str] | None
    timeout: float | None
    request_timeout: float | None
    on_update: OutputHandlerWithAsync[Result] | None
    on_input: OutputHandlerWithAsync[InputPrompt] | None
    idempotency_key: str | None


class Connect(Protocol):
    """``Sandbox.connect``, which E2B's annotations let return their own class."""

    @overload
    def __call__(
        self,
        timeout: int | None = None,
        *,
        on_resume: SandboxOnResume = "restore",
        **opts: Unpack[ApiParams],
    ) -> Sandbox: ...

    @overload
    def __call__(
        self,
        sandbox_id: str,
        timeout: int | None = None,
        logger: logging.Logger | None = None,
        *,
        on_resume: SandboxOnResume = "restore",
        **opts: Unpack[ApiParams],
    ) -> Sandbox: ...


class AsyncConnect(Protocol):
    """``AsyncSandbox.connect``, which E2B's annotations let return their own class."""

    @overload
    async def __call__(
        self,
        timeout: int | None = None,  # noqa: ASYNC109 - E2B's name
        *,
        on_resume: SandboxOnResume = "restore",
        **opts: Unpack[ApiParams],
    ) -> AsyncSandbox: ...

    @overload
    async def __call__(
        self,
        sandbox_id: str,
        timeout: int | None = None,  # noqa: ASYNC109 - E2B's name
        logger: logging.Logger | None = None,
        *,
        on_resume: SandboxOnResume = "restore",
        **opts: Unpack[ApiParams],
    ) -> AsyncSandbox: ...
