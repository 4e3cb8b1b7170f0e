"""The control plane's REST API, as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI

from code_interpreter.host.api import errors
from code_interpreter.host.api.account import account_routes
from code_interpreter.host.api.events import event_routes
from code_interpreter.host.api.jupyter_login import login_routes
from code_interpreter.host.api.pool import pool_routes
from code_interpreter.host.api.sandbox_info import info_routes
from code_interpreter.host.api.sandboxes import sandbox_routes
from code_interpreter.host.api.templates import template_routes
from code_interpreter.host.api.views import Views
from code_interpreter.host.boxes import Templates
from code_interpreter.host.lifecycle import Lifecycle
from code_interpreter.protocol.control import ErrorBody

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Refused; the message says why"},
    "5XX": {"model": ErrorBody, "description": "Failed; the message says why"},
}


def make_app(lifecycle: Lifecycle, templates: Templates, *, api_key: str, domain: str) -> FastAPI:
    """All routes; the key is checked around them, by `gate.Gate`."""
    app = FastAPI(
        title="Code Interpreter control plane",
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_PROBLEMS,
    )
    errors.install(app)
    views = Views(lifecycle.limits, domain)
    routers: Sequence[APIRouter] = (
        info_routes(lifecycle, views),  # its /sandboxes/metrics before any /sandboxes/{id}
        sandbox_routes(lifecycle, views),
        event_routes(lifecycle.store),
        template_routes(templates, views),
        pool_routes(lifecycle),
        account_routes(lifecycle, api_key),
        login_routes(lifecycle),
    )
    for router in routers:
        app.include_router(router)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Bad input is 400 here, so the document must not promise FastAPI's 422."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        document["components"].setdefault("securitySchemes", {})["key"] = {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-KEY",
        }
        document["security"] = [{"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
