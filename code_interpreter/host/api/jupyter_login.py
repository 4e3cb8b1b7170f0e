"""Where clients that know passwords, not tokens, get a cookie for a sandbox's Jupyter server.

The form is jupyter-server's: ``GET`` gives the cookie ``_xsrf``, ``POST`` takes its value and
the password, which is the sandbox's token. Open WebUI and VS Code know it.
"""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from code_interpreter.host.edge_jupyter import (
    LOGIN_PATH,
    XSRF_COOKIE,
    is_repeated,
    login_cookie,
    login_value,
    same,
)
from code_interpreter.host.lifecycle import Lifecycle

PATH = "/jupyter/{sandbox_id}" + LOGIN_PATH
_PAGE = """<!doctype html><title>Jupyter server of a sandbox</title>
<form method="post"><p>{message}<p><label>The sandbox's token:
<input type="password" name="password" autofocus></label>
<input type="hidden" name="_xsrf" value="{xsrf}"><button>Log in</button></form>
"""


def login_routes(lifecycle: Lifecycle) -> APIRouter:
    router = APIRouter(include_in_schema=False)  # a page, not part of the control plane

    @router.get(PATH)
    async def form(request: Request, sandbox_id: str) -> Response:
        return _form(request, "Log in to use the kernels of this sandbox.")

    @router.post(PATH)
    async def log_in(request: Request, sandbox_id: str) -> Response:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"))
        xsrf = fields.get(XSRF_COOKIE, [""])[0] or request.headers.get("x-xsrftoken", "")
        if not is_repeated(request.cookies, xsrf):
            return _form(request, "The value of '_xsrf' is not that of the cookie.", 403)
        for token in _tokens(lifecycle, sandbox_id):
            if same(fields.get("password", [""])[0], token):
                return _logged_in(sandbox_id, token)
        return _form(request, "The token is wrong, or there is no such sandbox.", 401)

    return router


def _form(request: Request, message: str, status: int = 200) -> Response:
    xsrf = request.cookies.get(XSRF_COOKIE, "")
    if not (xsrf.isalnum() and xsrf.isascii()):
        xsrf = secrets.token_hex(16)
    response = HTMLResponse(_PAGE.format(message=message, xsrf=xsrf), status)
    response.set_cookie(XSRF_COOKIE, xsrf, samesite="strict")
    return response


def _logged_in(sandbox_id: str, token: str) -> Response:
    response = RedirectResponse(f"/jupyter/{sandbox_id}/", 302)
    value = login_value(sandbox_id, token)
    response.set_cookie(login_cookie(sandbox_id), value, httponly=True, samesite="strict")
    return response


def _tokens(lifecycle: Lifecycle, sandbox_id: str) -> list[str]:
    record = lifecycle.registry.find(sandbox_id)
    tokens = (record.access_token, record.traffic_token) if record is not None else ()
    return [token for token in tokens if token]
