"""What both kinds of sandbox offer for looking into a context beside its executions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from code_interpreter import views
from code_interpreter.contexts import ContextRequest
from code_interpreter.link import Link
from code_interpreter.models import Context, Result
from code_interpreter.views import JupyterServer, Table, TableFormat, Variable

if TYPE_CHECKING:
    from e2b import AsyncSandbox as AsyncBase
    from e2b import Sandbox as Base
else:
    Base = AsyncBase = object


class Inspection(Base):
    """For `Sandbox`."""

    if TYPE_CHECKING:

        def _ask(self, request: ContextRequest, request_timeout: float | None = None) -> Any: ...

    def to_notebook(self, context: Context | str | None = None) -> dict[str, Any]:
        """What ran in a context, with its outputs, as a notebook (``.ipynb``, nbformat 4.5).

        ``json.dump`` it into a file. It holds the cells whose events the sandbox still keeps,
        which are the last 200, and those that this protocol ran: not Jupyter's clients.

        :param context: the context, or a language for its default one; Python if not given
        :raises NotFoundException: there is no such context
        """
        answer: dict[str, Any] = self._ask(views.notebook(context))
        return answer

    def list_variables(self, context: Context | str | None = None) -> list[Variable]:
        """The variables of a context, also while a cell runs in it. Python contexts have this.

        :param context: the context, or a language for its default one; Python if not given
        :raises NotFoundException: there is no such context
        :raises SandboxException: its language has no such list
        """
        return views.read_variables(self._ask(views.variables(context)))

    def fetch_table(
        self,
        shown: Table | Result,
        format: TableFormat = "parquet",  # noqa: A002 - what pandas and pyarrow call it
        request_timeout: float | None = None,
    ) -> bytes:
        """All of a data frame that a cell has shown, as the content of a file.

        ::

            shown = sandbox.run_code("frame").results[0]
            pandas.read_parquet(io.BytesIO(sandbox.fetch_table(shown)))

        :param shown: the result, or its `Table` (see `table_of`)
        :param format: ``parquet``, ``arrow`` (the IPC file format) or ``csv``
        :param request_timeout: seconds that writing the file may take
        :raises InvalidArgumentException: the result shows no table
        :raises NotFoundException: the variable that held it is gone, or has a new value
        """
        path = (self._ask(views.export(shown, format), request_timeout))["path"]
        try:
            return bytes(self.files.read(path, format="bytes", user="root"))
        finally:
            self.files.remove(path, user="root")

    def jupyter_server(self) -> JupyterServer:
        """Where Jupyter's clients find this sandbox's kernels, and the token for them."""
        return views.jupyter_server(Link.to(self))


class AsyncInspection(AsyncBase):
    """For `AsyncSandbox`."""

    if TYPE_CHECKING:

        async def _ask(
            self, request: ContextRequest, request_timeout: float | None = None
        ) -> Any: ...

    async def to_notebook(self, context: Context | str | None = None) -> dict[str, Any]:
        """What ran in a context, with its outputs, as a notebook (``.ipynb``, nbformat 4.5).

        ``json.dump`` it into a file. It holds the cells whose events the sandbox still keeps,
        which are the last 200, and those that this protocol ran: not Jupyter's clients.

        :param context: the context, or a language for its default one; Python if not given
        :raises NotFoundException: there is no such context
        """
        answer: dict[str, Any] = await self._ask(views.notebook(context))
        return answer

    async def list_variables(self, context: Context | str | None = None) -> list[Variable]:
        """The variables of a context, also while a cell runs in it. Python contexts have this.

        :param context: the context, or a language for its default one; Python if not given
        :raises NotFoundException: there is no such context
        :raises SandboxException: its language has no such list
        """
        return views.read_variables(await self._ask(views.variables(context)))

    async def fetch_table(
        self,
        shown: Table | Result,
        format: TableFormat = "parquet",  # noqa: A002 - what pandas and pyarrow call it
        request_timeout: float | None = None,
    ) -> bytes:
        """All of a data frame that a cell has shown, as the content of a file.

        ::

            shown = (await sandbox.run_code("frame")).results[0]
            pandas.read_parquet(io.BytesIO(await sandbox.fetch_table(shown)))

        :param shown: the result, or its `Table` (see `table_of`)
        :param format: ``parquet``, ``arrow`` (the IPC file format) or ``csv``
        :param request_timeout: seconds that writing the file may take
        :raises InvalidArgumentException: the result shows no table
        :raises NotFoundException: the variable that held it is gone, or has a new value
        """
        path = (await self._ask(views.export(shown, format), request_timeout))["path"]
        try:
            return bytes(await self.files.read(path, format="bytes", user="root"))
        finally:
            await self.files.remove(path, user="root")

    def jupyter_server(self) -> JupyterServer:
        """Where Jupyter's clients find this sandbox's kernels, and the token for them."""
        return views.jupyter_server(Link.to(self))
