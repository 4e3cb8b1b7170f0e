"""`ChildKernel`: a kernel whose language runs in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox_kernel.base import LeanKernel
from sandbox_kernel.environment import KEY


class ChildKernel(LeanKernel):
    """Hands cells on, and the variables of the sandbox where they changed.

    A subclass has `set_variables` and `run_cell`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sandbox_variables: dict[str, str] = {}

    async def do_execute(  # type: ignore[override]
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, Any] | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: dict[str, Any] | None = None,
        cell_id: str | None = None,
    ) -> dict[str, Any]:
        wishes = (cell_meta or {}).get(KEY) or {}
        if "sandbox_env" in wishes:
            await self._replace_sandbox_variables(wishes["sandbox_env"])
        return await self.run_cell(code, wishes.get("env") or {}, silent=silent)

    async def _replace_sandbox_variables(self, variables: dict[str, str]) -> None:
        gone = {name: None for name in self.sandbox_variables if name not in variables}
        await self.set_variables({**gone, **variables})
        self.sandbox_variables = variables

    async def set_variables(self, variables: Mapping[str, str | None]) -> None:
        """For this cell and later ones; None takes a variable away."""
        raise NotImplementedError

    async def run_cell(
        self, code: str, variables: dict[str, str], *, silent: bool
    ) -> dict[str, Any]:
        """Run a cell that alone has ``variables``, too; what an ``execute_reply`` says."""
        raise NotImplementedError
