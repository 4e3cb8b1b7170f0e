"""The kernels of this sandbox through Jupyter's own REST interface.

What JupyterLab's ``--gateway-url``, kernel clients and agent frameworks use: a context is a
kernel with the same id. https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictStr

from code_interpreter.gateway.gateway import Gateway, Refusal
from code_interpreter.gateway.http import Handler
from code_interpreter.gateway.jupyter_models import kernel_model, stamp
from code_interpreter.gateway.jupyter_sessions import SessionBody, SessionStore
from code_interpreter.gateway.kernel import KernelStartFailed
from code_interpreter.gateway.live_kernels import LiveKernels
from code_interpreter.protocol.executions import Cause

VERSION = "2.0.0"
_PAGE = """<!doctype html><title>Jupyter server of a sandbox</title>
<p>The kernels of a sandbox. Give this address and the token to JupyterLab
(<code>--gateway-url</code>), to VS Code ("Existing Jupyter Server") or to another client.
"""


class KernelBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: StrictStr | None = None
    path: StrictStr | None = None


class JupyterHandler(Handler):
    """Errors are JSON here, with a ``message``."""

    def refuse(self, refusal: Refusal) -> None:
        self.begin_refusal(refusal)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"message": str(refusal), "reason": None}))

    def write_error(self, status_code: int, **kwargs: object) -> None:
        self.refuse(Refusal(status_code, self._reason))


class Page(JupyterHandler):
    """For people who open the address in a browser; VS Code asks for ``tree``."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_PAGE)


class Missing(JupyterHandler):
    """What jupyter-server has beside kernels: files, terminals, settings."""

    def _refuse(self) -> None:
        reason = f"There is no {self.request.path} here: kernels, kernelspecs, sessions only"
        self.refuse(Refusal(404, reason))

    get = post = put = patch = delete = _refuse


class Root(JupyterHandler):
    def get(self) -> None:
        self.answer({"version": VERSION})


class Status(JupyterHandler):
    def get(self) -> None:
        contexts = self.gateway.contexts()
        active = [context.last_activity for context in contexts]
        self.answer(
            {
                "started": stamp(self.gateway.started),
                "last_activity": stamp(max(active, default=self.gateway.started)),
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

    async def patch(self, session_id: str) -> None:
        try:
            fields = self.body(SessionBody).model_dump(exclude_unset=True)
            self.answer(await self.sessions.change(session_id, fields))
        except Refusal as refusal:
            self.refuse(refusal)

    async def delete(self, session_id: str) -> None:
        try:
            await self.live.remove(self.sessions.remove(session_id))
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.set_status(204)
