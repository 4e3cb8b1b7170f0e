"""The sandbox with kernels in it, for programs without asyncio."""

from __future__ import annotations

import logging
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import httpx
from e2b import (
    ApiParams,
    McpServer,
    SandboxIamOpts,
    SandboxLifecycle,
    SandboxNetworkOpts,
    Volume,
)
from e2b import Sandbox as BaseSandbox
from e2b.api.client_sync import get_transport
from e2b.connection_config import ConnectionConfig
from e2b.sandbox.main import SandboxOpts
from e2b.sandbox_sync.commands.command import Commands
from e2b.sandbox_sync.commands.pty import Pty

from code_interpreter import contexts, embedded, signatures
from code_interpreter.cell import Cell, check_execution_id, make_cell
from code_interpreter.collector import Callbacks, earlier
from code_interpreter.connection import Connection
from code_interpreter.course import Course
from code_interpreter.errors import (
    RequestTimeoutException,
    SandboxKilledException,
)
from code_interpreter.files import Files
from code_interpreter.git import Git
from code_interpreter.handle import LATE_SECONDS, ExecutionHandle
from code_interpreter.http_execution import run_over_http
from code_interpreter.inspection import Inspection
from code_interpreter.link import (
    DEFAULT_TEMPLATE,
    Link,
    WebSocketUnavailable,
    no_websocket,
    what_needs_websocket,
)
from code_interpreter.models import (
    Context,
    Execution,
    ExecutionError,
    InputPrompt,
    OutputHandler,
    OutputMessage,
    Result,
    RunCodeLanguage,
)
from code_interpreter.protocol.executions import Attach, OnDisconnect
from code_interpreter.sandbox_limits import with_limits, without_limits

_PROBE_SECONDS = 5.0


class Sandbox(embedded.EmbeddedByDefault, Inspection, BaseSandbox):
    """An isolated machine with files, commands and stateful kernels.

    ::

        from code_interpreter import Sandbox

        with Sandbox.create() as sandbox:
            sandbox.run_code("x = 41")
            print(sandbox.run_code("x + 1").text)

    Without any ``E2B_*`` variable and without options, sandboxes live on this machine: the
    first call starts a host in the background.
    """

    default_template = DEFAULT_TEMPLATE

    def __init__(self, **opts: Unpack[SandboxOpts]) -> None:
        super().__init__(**opts)
        self._files: Files | None = None
        self._http_only = False
        self._connection: Connection | None = None

    @classmethod
    def create(
        cls,
        template: str | None = None,
        timeout: int | None = None,
        metadata: dict[str, str] | None = None,
        envs: dict[str, str] | None = None,
        secure: bool | None = None,
        allow_internet_access: bool | None = None,
        mcp: McpServer | None = None,
        network: SandboxNetworkOpts | None = None,
        iam: SandboxIamOpts | None = None,
        lifecycle: SandboxLifecycle | None = None,
        volume_mounts: dict[str, Volume | str] | None = None,
        logger: logging.Logger | None = None,
        idempotency_key: str | None = None,
        *,
        cpu_count: float | None = None,
        memory_mb: int | None = None,
        disk_mb: int | None = None,
        **opts: Unpack[ApiParams],
    ) -> Self:
        """Make a sandbox; parameters are E2B's, and three of this project's own.

        :param template: name of its template
        :param timeout: seconds that it lives, 300 if not given
        :param metadata: text of yours that `list` can select by
        :param envs: environment variables of everything that runs in it
        :param secure: accepted for E2B's sake; every sandbox is secured
        :param allow_internet_access: False keeps it off the internet
        :param mcp: MCP servers to run in it
        :param network: what may go in and out
        :param iam: identity tokens for it
        :param lifecycle: what happens at the time-out, and whether traffic resumes it
        :param volume_mounts: path → volume
        :param logger: gets requests and answers
        :param idempotency_key: a repetition with the same key gives the same sandbox
        :param cpu_count: cores that it may use, such as 0.5; the host's default if not given
        :param memory_mb: memory that it may use, MiB
        :param disk_mb: disk space that it may use, MiB
        :raises InvalidArgumentException: a limit is not a number above 0; nothing was sent
        :raises SandboxException: the host refuses, with ``status_code`` 400 a limit outside of
            what it allows
        :raises RateLimitException: the host has as many sandboxes as it may
        :raises ServiceBusyException: the machine has no memory or disk left for another one
        """
        limited = with_limits(opts, cpu_count=cpu_count, memory_mb=memory_mb, disk_mb=disk_mb)
        sandbox = super().create(
            template,
            timeout,
            metadata,
            envs,
            secure,
            allow_internet_access,
            mcp,
            network,
            iam,
            lifecycle,
            volume_mounts,
            logger,
            idempotency_key,
            **limited,
        )
        without_limits(sandbox.connection_config)
        return sandbox

    @property
    def connection_config(self) -> ConnectionConfig:
        """How the host is reached: that of this machine is started again if it has crashed."""
        self._keep_host_alive()
        return super().connection_config

    @property
    def files(self) -> Files:
        """Files of the sandbox: E2B's calls, and whole directories up and down."""
        self._keep_host_alive()
        if self._files is None:
            config = self.connection_config
            self._files = Files(self.envd_api_url, self._envd_version, config, self._envd_api)
        return self._files

    if TYPE_CHECKING:
        connect: signatures.Connect

    @property
    def commands(self) -> Commands:
        """Commands in the sandbox."""
        self._keep_host_alive()
        return super().commands

    @property
    def git(self) -> Git:
        """Git in the sandbox, with credentials that stay out of command lines and files."""
        return Git(self.commands)

    @property
    def pty(self) -> Pty:
        """Terminals in the sandbox."""
        self._keep_host_alive()
        return super().pty

    @overload
    def run_code(
        self,
        code: str,
        language: RunCodeLanguage | None = None,
        *,
        background: Literal[False] = False,
        **options: Unpack[signatures.RunOptions],
    ) -> Execution: ...

    @overload
    def run_code(
        self,
        code: str,
        *,
        context: Context | str | None = None,
        background: Literal[False] = False,
        **options: Unpack[signatures.RunOptions],
    ) -> Execution: ...

    @overload
    def run_code(
        self,
        code: str,
        language: RunCodeLanguage | None = None,
        context: Context | str | None = None,
        *,
        background: Literal[True],
        **options: Unpack[signatures.RunOptions],
    ) -> ExecutionHandle: ...

    def run_code(
        self,
        code: str,
        language: RunCodeLanguage | None = None,
        context: Context | str | None = None,
        on_stdout: OutputHandler[OutputMessage] | None = None,
        on_stderr: OutputHandler[OutputMessage] | None = None,
        on_result: OutputHandler[Result] | None = None,
        on_error: OutputHandler[ExecutionError] | None = None,
        envs: dict[str, str] | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
        *,
        on_update: OutputHandler[Result] | None = None,
        on_input: OutputHandler[InputPrompt] | None = None,
        idempotency_key: str | None = None,
        background: bool = False,
    ) -> Execution | ExecutionHandle:
        """Run code; variables, imports and functions stay for the next call.

        An exception that the code raises is in ``error`` of the `Execution`, not raised here.

        :param code: what to run
        :param language: which language's default context to run it in; Python if not given
        :param context: the context to run it in, in place of ``language``
        :param on_stdout: called with each piece of standard output as it is printed
        :param on_stderr: the same for standard error
        :param on_result: called with each display, and with the value of the last expression
        :param on_error: called if the code raises
        :param envs: environment variables for this run
        :param timeout: seconds the code may take, 300 if not given; 0: no limit. In the
            background there is no limit if none is given
        :param request_timeout: seconds that opening the connection may take
        :param on_update: called with the new content of a display that the code updates
        :param on_input: called with the prompt when the code asks for input; returns the
            line. Without it, asking is an error in the code
        :param idempotency_key: the id of the execution. With one that was used before, also by
            another program, nothing runs again: the outcome is that of the first time
        :param background: return an `ExecutionHandle` at once; the cell runs on even if this
            program ends
        :raises InvalidArgumentException: an argument cannot be right; nothing was sent
        :raises NotFoundException: there is no such context
        :raises TimeoutException: the code took longer than ``timeout`` and was stopped, or the
            sandbox is gone
        """
        callbacks = Callbacks(on_stdout, on_stderr, on_result, on_error, on_update, on_input)
        if background and timeout is None:
            timeout = 0
        cell = make_cell(code, language, context, envs, timeout, idempotency_key)
        needed = what_needs_websocket(background, on_input, idempotency_key)
        if self._http_only and needed is None:
            return self._run_over_http(cell, callbacks, request_timeout)
        try:
            handle = self._start(cell, callbacks, request_timeout, background=background)
        except WebSocketUnavailable as reason:
            if needed is not None:
                raise no_websocket(needed, reason) from reason
            execution = self._run_over_http(cell, callbacks, request_timeout)
            self._http_only = reason.lasting
            return execution
        if background:
            return handle.begin(self._request_timeout(request_timeout))
        with handle:
            return handle.wait()

    def stream_code(
        self,
        code: str,
        language: RunCodeLanguage | None = None,
        context: Context | str | None = None,
        envs: dict[str, str] | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
        *,
        on_input: OutputHandler[InputPrompt] | None = None,
        idempotency_key: str | None = None,
    ) -> ExecutionHandle:
        """Run code and iterate over its events; parameters are those of `run_code`.

        ::

            with sandbox.stream_code("for i in range(3): print(i)") as events:
                for event in events:
                    print(event)
            print(events.execution.status)
        """
        cell = make_cell(code, language, context, envs, timeout, idempotency_key)
        try:
            handle = self._start(cell, Callbacks(on_input=on_input), request_timeout)
        except WebSocketUnavailable as reason:
            raise no_websocket("stream_code", reason) from reason
        return handle.begin(self._request_timeout(request_timeout))

    def attach_execution(
        self,
        execution_id: str,
        after: int = 0,
        on_input: OutputHandler[InputPrompt] | None = None,
        request_timeout: float | None = None,
    ) -> ExecutionHandle:
        """Read the events of an execution that was started before, maybe by another program.

        :param execution_id: ``id`` of its handle or of its `Execution`
        :param after: number (``seq``) of the last event that is known already
        :raises NotFoundException: the sandbox has no such execution; raised on first reading
        """
        first = Attach(execution_id=check_execution_id(execution_id), after=after)
        callbacks = Callbacks(on_input=on_input)
        try:
            return self._follow(Course(first), callbacks, request_timeout, background=True)
        except WebSocketUnavailable as reason:
            raise no_websocket("attach_execution", reason) from reason

    def create_code_context(
        self,
        cwd: str | None = None,
        language: RunCodeLanguage | None = None,
        request_timeout: float | None = None,
    ) -> Context:
        """Start a kernel of its own, with its own variables.

        :param cwd: its working directory, ``/home/user`` if not given
        :param language: Python if not given
        :param request_timeout: seconds
        """
        answer = self._ask(contexts.create(cwd, language), request_timeout)
        return Context.from_json(answer)

    def list_code_contexts(self) -> list[Context]:
        """All contexts, oldest first."""
        return [Context.from_json(item) for item in self._ask(contexts.listing())]

    def restart_code_context(self, context: Context | str) -> None:
        """Give a context, or the one with this id, a fresh kernel: its variables are gone."""
        self._ask(contexts.restart(context))

    def remove_code_context(self, context: Context | str) -> None:
        """End a context, or the one with this id, and its kernel."""
        self._ask(contexts.remove(context))

    # --- how it is done -----------------------------------------------------------------

    def _start(
        self,
        cell: Cell,
        callbacks: Callbacks,
        request_timeout: float | None,
        *,
        background: bool = False,
    ) -> ExecutionHandle:
        execute = cell.execute(
            allow_stdin=callbacks.on_input is not None,
            on_disconnect=OnDisconnect.CONTINUE if background else OnDisconnect.INTERRUPT,
        )
        return self._follow(
            Course(execute), callbacks, request_timeout, cell.timeout, background=background
        )

    def _follow(
        self,
        course: Course,
        callbacks: Callbacks,
        request_timeout: float | None,
        timeout: float | None = None,
        *,
        background: bool,
    ) -> ExecutionHandle:
        deadline = None
        if timeout is not None and not background:
            deadline = time.monotonic() + timeout + LATE_SECONDS
        connection = self._connection_for(course.execution_id)
        return ExecutionHandle(
            self,
            connection,
            connection.subscribe(course, earlier(timeout, self._request_timeout(request_timeout))),
            callbacks,
            timeout=timeout,
            deadline=deadline,
            background=background,
        )

    def _connection_for(self, execution_id: str) -> Connection:
        """The connection of this object; one more for a second look at the same execution."""
        connection = self._connection
        if connection is None or connection.process != os.getpid():
            self._connection = connection = self._new_connection()
        if connection.is_taken_for(execution_id):
            return self._new_connection(shared=False)
        return connection

    def _new_connection(self, *, shared: bool = True) -> Connection:
        connection = Connection(Link.to(self), shared=shared)
        weakref.finalize(self, connection.close)
        return connection

    def _run_over_http(
        self, cell: Cell, callbacks: Callbacks, request_timeout: float | None
    ) -> Execution:
        connect = self._request_timeout(request_timeout)
        try:
            return run_over_http(self._client, Link.to(self), cell, callbacks, connect)
        except (httpx.ReadError, httpx.RemoteProtocolError) as error:
            if self._is_gone():
                raise SandboxKilledException from error
            raise

    def _keep_host_alive(self) -> None:
        """For calls of the base SDK, which would not know how to start the host again."""
        embedded.keep_alive(super().connection_config.api_url)

    def _ask(self, request: contexts.ContextRequest, request_timeout: float | None = None) -> Any:
        timeout = self._request_timeout(request_timeout)
        try:
            return contexts.read(self._client.request(**request.arguments(Link.to(self), timeout)))
        except httpx.TimeoutException as late:
            raise RequestTimeoutException from late
        except (httpx.ReadError, httpx.RemoteProtocolError) as error:
            if self._is_gone():
                raise SandboxKilledException from error
            raise

    @property
    def _client(self) -> httpx.Client:
        # One TCP connection a request: its end tells the server that nobody waits any more.
        transport = get_transport(self.connection_config, http_version="1.1")
        return httpx.Client(transport=transport)

    def _request_timeout(self, given: float | None) -> float | None:
        seconds: float | None = self.connection_config.get_request_timeout(given)
        return seconds

    def _is_gone(self) -> bool:
        try:
            return not self.is_running(request_timeout=_PROBE_SECONDS)
        except Exception:  # whatever went wrong, it does not tell that the sandbox is gone
            return False
