"""Jupyter's sessions: names for kernels.

Every context with a kernel has one, also where no client has made it: VS Code offers people
the sessions of a server, not its kernels, and lets go of a kernel that is in no session.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictStr

from code_interpreter.gateway.context import Context
from code_interpreter.gateway.gateway import Refusal
from code_interpreter.gateway.jupyter_models import kernel_model
from code_interpreter.gateway.live_kernels import LiveKernels

_NAMESPACE = uuid.UUID("0d0e3d5c-8a55-4f7c-9d0e-6a1c1b7c5a11")


class SessionBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    path: StrictStr = ""
    name: StrictStr | None = None
    type: StrictStr = "notebook"
    kernel: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    path: str
    name: str
    type: str
    kernel_id: str
    owns_kernel: bool
    """It has started its kernel, so the kernel goes when the session takes another."""


class SessionStore:
    def __init__(self, live: LiveKernels) -> None:
        self._live = live
        self._sessions: dict[str, Session] = {}

    def all(self) -> list[dict[str, Any]]:
        """Of clients, then those of contexts that are in none of these."""
        models = [model for key in list(self._sessions) if (model := self.find(key))]
        named = {session.kernel_id for session in self._sessions.values()}
        unnamed = [each for each in self._live.running() if each.id not in named]
        return [*models, *(self._model(_of_context(context)) for context in unnamed)]

    def find(self, session_id: str) -> dict[str, Any] | None:
        """None if there is no such session, or its kernel is gone."""
        session = self._find(session_id)
        if session is None:
            return None
        try:
            return self._model(session)
        except Refusal:
            self._sessions.pop(session_id, None)
            return None

    def create(self, body: SessionBody) -> dict[str, Any]:
        """A new one, or that of the same path, as in jupyter-server. Raises `Refusal`."""
        for model in self.all() if body.path else ():
            if model["path"] == body.path:
                return model
        kernel_id, owns_kernel = self._kernel_of(body.kernel or {})
        name = body.name or body.path
        session = Session(str(uuid.uuid4()), body.path, name, body.type, kernel_id, owns_kernel)
        self._sessions[session.id] = session
        return self._model(session)

    async def change(self, session_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Rename it, or give it another kernel. Raises `Refusal`."""
        before = self._found(session_id)
        wanted = {key: fields[key] for key in ("path", "name", "type") if fields.get(key)}
        if fields.get("kernel"):
            kernel_id, owns_kernel = self._kernel_of(fields["kernel"])
            wanted |= {"kernel_id": kernel_id, "owns_kernel": owns_kernel}
        session = self._sessions[session_id] = replace(before, **wanted)
        model = self._model(session)
        if before.owns_kernel and before.kernel_id != session.kernel_id:
            await self._live.remove(before.kernel_id)
        return model

    def remove(self, session_id: str) -> str:
        """The id of its kernel. Raises `Refusal`."""
        kernel_id = self._found(session_id).kernel_id
        self._sessions.pop(session_id, None)
        return kernel_id

    def _find(self, session_id: str) -> Session | None:
        made = (_of_context(context) for context in self._live.running())
        known = self._sessions.get(session_id)
        return known or next((each for each in made if each.id == session_id), None)

    def _found(self, session_id: str) -> Session:
        session = self._find(session_id)
        if session is None or self.find(session_id) is None:
            raise Refusal(404, f"Session {session_id} not found")
        return session

    def _model(self, session: Session) -> dict[str, Any]:
        """Raises `Refusal` if its kernel is gone."""
        kernel = kernel_model(session.kernel_id, self._live.find(session.kernel_id))
        shown = {key: getattr(session, key) for key in ("id", "path", "name", "type")}
        return {
            **shown,
            "kernel": kernel,
            "notebook": {"path": session.path, "name": session.name},
        }

    def _kernel_of(self, kernel: dict[str, Any]) -> tuple[str, bool]:
        """The id of the kernel that is meant, and whether it was started for it."""
        if kernel.get("id"):
            self._live.find(str(kernel["id"]))
            return str(kernel["id"]), False
        return self._live.start(str(kernel.get("name") or "python3"))[0], True


def _of_context(context: Context) -> Session:
    name = f"{context.language}-{context.id[:8]}"
    key = str(uuid.uuid5(_NAMESPACE, context.id))
    return Session(key, name, name, "console", context.id, owns_kernel=False)
