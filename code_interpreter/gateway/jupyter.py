"""The kernels of this sandbox through Jupyter's own REST interface.

What JupyterLab's ``--gateway-url``, kernel clients and agent frameworks use: a context is a
kernel with the same id. https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictStr

from code_interpreter.gateway.context import Context
from code_interpreter.gateway.gateway import Gateway, Refusal
from code_interpreter.gateway.http import Handler
from code_interpreter.gateway.kernel import KernelStartFailed
from code_interpreter.gateway.live_kernels import LiveKernels
from code_interpreter.protocol.executions import Cause

VERSION = "2.0.0"


class KernelBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: StrictStr | None = None
    path: StrictStr | None = None


class SessionBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    path: StrictStr = ""
    name: StrictStr | None = None
    type: StrictStr = "notebook"
    kernel: dict[str, Any] | None = None


class JupyterHandler(Handler):
    """Errors are JSON here, with a ``message``."""

    def refuse(self, refusal: Refusal) -> None:
        self.set_status(refusal.status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"message": str(refusal), "reason": None}))


class Root(JupyterHandler):
    def get(self) -> None:
        self.answer({"version": VERSION})


class Status(JupyterHandler):
    def get(self) -> None:
        contexts = self.gateway.contexts()
        active = [context.last_activity for context in contexts]
        self.answer(
            {
                "started": _stamp(self.gateway.started),
                "last_activity": _stamp(max(active, default=self.gateway.started)),
                "kernels": len(contexts),
                "connections": sum(len(context.listeners) for context in contexts),
            }
        )


class Me(JupyterHandler):
    """Whoever has the token is the sandbox's one user."""

    def get(self) -> None:
        named = dict.fromkeys(("username", "name", "display_name"), "user")
        unnamed = dict.fromkeys(("initials", "avatar_url", "color"))
        self.answer({"identity": {**named, **unnamed}, "permissions": {}})


class KernelHandler(JupyterHandler):
    def initialize(self, gateway: Gateway, live: LiveKernels) -> None:  # type: ignore[override]
        super().initialize(gateway)
        self.live = live

    def specs(self) -> dict[str, dict[str, Any]]:
        files = {spec.name: spec.file for spec in self.gateway.kernel_specs()}
        return {
            name: {"name": name, "spec": file, "resources": {}}
            for name, file in {**files, **self.live.specs()}.items()
        }


class KernelSpecs(KernelHandler):
    def get(self) -> None:
        self.answer({"default": "python3", "kernelspecs": self.specs()})


class OneKernelSpec(KernelHandler):
    def get(self, name: str) -> None:
        spec = self.specs().get(name)
        if spec is None:
            self.refuse(Refusal(404, f"Kernel spec {name} not found"))
        else:
            self.answer(spec)


class Kernels(KernelHandler):
    def get(self) -> None:
        self.answer([kernel_model(key, context) for key, context in self.live.all()])

    def post(self) -> None:
        try:
            key, context = self.live.start(self.body(KernelBody).name)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.set_status(201)
        self.set_header("Location", f"kernels/{key}")  # whatever prefix the client uses
        self.answer(kernel_model(key, context))


class OneKernel(KernelHandler):
    def get(self, kernel_id: str) -> None:
        try:
            self.answer(kernel_model(kernel_id, self.live.find(kernel_id)))
        except Refusal as refusal:
            self.refuse(refusal)

    async def delete(self, kernel_id: str) -> None:
        try:
            await self.live.remove(kernel_id)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.set_status(204)


class KernelAction(KernelHandler):
    async def post(self, kernel_id: str, action: str) -> None:
        try:
            context = self.live.find(kernel_id)
            if action == "interrupt":
                context.interrupt(Cause.CANCEL)
                self.set_status(204)
                return
            await context.restart(tell_listeners=False)  # they know that they have asked for it
            self.answer(kernel_model(kernel_id, context))
        except Refusal as refusal:
            self.refuse(refusal)
        except KernelStartFailed as failure:
            self.refuse(Refusal(500, str(failure)))


def kernel_model(key: str, context: Context) -> dict[str, Any]:
    """A context as a kernel, by the id that the client knows it by."""
    return {
        "id": key,
        "name": context.kernel_name,
        "last_activity": _stamp(context.last_activity),
        "execution_state": context.execution_state,
        "connections": len(context.listeners),
    }


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class SessionStore:
    """Sessions are names for kernels; nothing else depends on them."""

    def __init__(self, live: LiveKernels) -> None:
        self._live = live
        self._sessions: dict[str, dict[str, Any]] = {}

    def all(self) -> list[dict[str, Any]]:
        return [session for key in list(self._sessions) if (session := self.find(key))]

    def find(self, session_id: str) -> dict[str, Any] | None:
        """None if there is no such session, or its kernel is gone."""
        session = self._sessions.get(session_id)
        if session is None:
            return None
        try:
            context = self._live.find(session["kernel_id"])
        except Refusal:
            del self._sessions[session_id]
            return None
        shown = {key: session[key] for key in ("id", "path", "name", "type")}
        notebook = {"path": session["path"], "name": session["name"]}
        return {
            **shown,
            "kernel": kernel_model(session["kernel_id"], context),
            "notebook": notebook,
        }

    def create(self, body: SessionBody) -> dict[str, Any]:
        """Raises `Refusal`."""
        session_id = str(uuid.uuid4())
        self._sessions[session_id] = {
            "id": session_id,
            "path": body.path,
            "name": body.name or body.path,
            "type": body.type,
            "kernel_id": self._kernel_of(body.kernel or {}),
        }
        return self._found(session_id)

    def change(self, session_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Raises `Refusal`."""
        self._found(session_id)
        session = self._sessions[session_id]
        session |= {key: fields[key] for key in ("path", "name", "type") if fields.get(key)}
        if fields.get("kernel"):
            session["kernel_id"] = self._kernel_of(fields["kernel"])
        return self._found(session_id)

    def remove(self, session_id: str) -> str:
        """The id of its kernel. Raises `Refusal`."""
        self._found(session_id)
        kernel_id: str = self._sessions.pop(session_id)["kernel_id"]
        return kernel_id

    def _found(self, session_id: str) -> dict[str, Any]:
        session = self.find(session_id)
        if session is None:
            raise Refusal(404, f"Session {session_id} not found")
        return session

    def _kernel_of(self, kernel: dict[str, Any]) -> str:
        if kernel.get("id"):
            self._live.find(str(kernel["id"]))
            return str(kernel["id"])
        return self._live.start(str(kernel.get("name") or "python3"))[0]


class SessionHandler(KernelHandler):
    def initialize(  # type: ignore[override]
        self, gateway: Gateway, live: LiveKernels, sessions: SessionStore
    ) -> None:
        super().initialize(gateway, live)
        self.sessions = sessions


class Sessions(SessionHandler):
    def get(self) -> None:
        self.answer(self.sessions.all())

    def post(self) -> None:
        try:
            session = self.sessions.create(self.body(SessionBody))
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.set_status(201)
        self.answer(session)


class OneSession(SessionHandler):
    def get(self, session_id: str) -> None:
        session = self.sessions.find(session_id)
        if session is None:
            self.refuse(Refusal(404, f"Session {session_id} not found"))
        else:
            self.answer(session)

    def patch(self, session_id: str) -> None:
        try:
            fields = self.body(SessionBody).model_dump(exclude_unset=True)
            self.answer(self.sessions.change(session_id, fields))
        except Refusal as refusal:
            self.refuse(refusal)

    async def delete(self, session_id: str) -> None:
        try:
            await self.live.remove(self.sessions.remove(session_id))
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.set_status(204)
