"""Live contexts for clients that know only kernels which they have started themselves.

JupyterLab behind ``--gateway-url`` is one. So each context with a kernel is offered as a
kernelspec too, ``live-<context id>``. Who "starts" that gets another id for the context, and
does no harm when it "shuts down" what it has started: the context goes on. Each start gets an
id of its own: JupyterLab starts twice when a cell is run too soon, and then shuts the first down.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from code_interpreter.gateway.context import Context
from code_interpreter.gateway.gateway import Gateway, Refusal

_PREFIX = "live-"
_NAMESPACE = uuid.UUID("6f3c1f0e-5b0a-4e0c-9d55-3a6f7b1f2c4d")


class LiveKernels:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._attached: dict[str, str] = {}
        """Other id → id of its context, of those that were not shut down."""

    def specs(self) -> dict[str, dict[str, Any]]:
        """A kernelspec for every context that runs, by its name."""
        files = {spec.name: spec.file for spec in self._gateway.kernel_specs()}
        return {
            f"{_PREFIX}{context.id}": _spec(context, files[context.kernel_name])
            for context in self.running()
            if context.kernel_name in files
        }

    def running(self) -> list[Context]:
        return [context for context in self._gateway.contexts() if context.has_kernel]

    def start(self, name: str | None) -> tuple[str, Context]:
        """A kernel of this kernelspec, new or live, and the id to call it by. Raises `Refusal`."""
        if name is None or not name.startswith(_PREFIX):
            context = self._gateway.create_context(name or "python3", None)
            return context.id, context
        context = self._gateway.context(name.removeprefix(_PREFIX))
        key = f"{_stem(context)}{secrets.token_hex(6)}"
        self._attached[key] = context.id
        return key, context

    def find(self, kernel_id: str) -> Context:
        """By either id. Raises `Refusal`."""
        for context in self._gateway.contexts():
            if kernel_id == context.id or kernel_id.startswith(_stem(context)):
                return context
        raise Refusal(404, f"Kernel {kernel_id} not found")

    def all(self) -> list[tuple[str, Context]]:
        """Every context, and those that were started as live ones once more."""
        contexts = {context.id: context for context in self._gateway.contexts()}
        self._attached = {key: own for key, own in self._attached.items() if own in contexts}
        again = [(key, contexts[owner]) for key, owner in self._attached.items()]
        return [*contexts.items(), *again]

    async def remove(self, kernel_id: str) -> None:
        """End a context; or only the use of it, if it was live already. Raises `Refusal`."""
        context = self.find(kernel_id)
        if kernel_id == context.id:
            await self._gateway.remove_context(kernel_id)
        else:
            self._attached.pop(kernel_id, None)


def _stem(context: Context) -> str:
    """What other ids of a context begin with: they are known again by a gateway's successor."""
    return str(uuid.uuid5(_NAMESPACE, context.id))[:-12]


def _spec(context: Context, file: dict[str, Any]) -> dict[str, Any]:
    return {**file, "display_name": f"{file['display_name']}, running ({context.id[:8]})"}
