"""Every route of every server, found from its router: nobody gets in without the token for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import Sandbox
from starlette.routing import Route

from code_interpreter.envd.app import Gate, make_app
from code_interpreter.gateway.main import make_application
from code_interpreter.guest.config import GuestConfig
from tests.service import Service

pytestmark = pytest.mark.security
ENVD, GATEWAY = "49983", "49999"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
WEBSOCKETS = {"/v1/executions", "/api/kernels/x/channels"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "code-interpreter.v1",
}


@dataclass(frozen=True, slots=True)
class Boxes:
    """Two sandboxes that take no public traffic, and a connection without any token."""

    own: Sandbox
    foreign: Sandbox
    http: httpx.Client

    def ask(
        self, method: str, path: str, port: str, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        named = {"E2b-Sandbox-Id": self.own.sandbox_id, "E2b-Sandbox-Port": port}
        upgrade = UPGRADE if path in WEBSOCKETS else {}
        return self.http.request(method, path, headers={**named, **upgrade, **(headers or {})})


@pytest.fixture(scope="module")
def boxes(service: Service) -> Iterator[Boxes]:
    private: Any = {"allow_public_traffic": False}
    own = Sandbox.create(timeout=300, network=private, **service.options)
    foreign = Sandbox.create(timeout=300, network=private, **service.options)
    try:
        with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
            yield Boxes(own, foreign, http)
    finally:
        own.kill()
        foreign.kill()


# --- the control plane ------------------------------------------------------------------

WITHOUT_KEY = {"/health": 204, "/openapi.json": 200}


def test_every_route_of_the_api_needs_the_key(service: Service, boxes: Boxes) -> None:
    http, routes = boxes.http, _routes_of_api(boxes.http)
    assert len(routes) > 15
    last = "1" if service.key.endswith("0") else "0"
    wrong = {"X-API-KEY": service.key[:-1] + last, "Authorization": "Bearer x"}
    foreign = {"X-API-KEY": boxes.own._envd_access_token or ""}
    for headers in ({}, wrong, foreign, {"Authorization": f"Basic {service.key}"}):
        for method, path in routes:
            answer = http.request(method, path, headers=headers)
            assert answer.status_code == WITHOUT_KEY.get(path, 401), (method, path, headers)


def _routes_of_api(http: httpx.Client) -> list[tuple[str, str]]:
    """Of its own description, which is made of its router."""
    paths = http.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", "x", path))
        for path, operations in paths.items()
        for method in operations
    ]


# --- envd -------------------------------------------------------------------------------

OF_THE_HOST_ALONE = {"/init", "/freeze", "/unused", "/settled"}
"""Of envd and of the gateway."""


def _paths_of_envd(directory: Path) -> set[str]:
    app = make_app(GuestConfig(False, str(directory), state_directory=str(directory)))
    assert isinstance(app, Gate)
    plain: Any = app._plain
    paths = {route.path for route in plain.routes if isinstance(route, Route)}
    for prefix, service in app._services.items():
        endpoints: Any = service
        found = set(endpoints._endpoints(object.__new__(_Anything)))
        assert all(path.startswith(prefix) for path in found)
        paths |= found
    return paths


class _Anything:
    def __getattr__(self, name: str) -> None:
        return None


def test_every_route_of_envd_needs_its_token(boxes: Boxes, tmp_path: Path) -> None:
    paths = _paths_of_envd(tmp_path)
    assert {"/health", "/init", "/files", "/process.Process/Start"} < paths
    assert len(paths) > 20
    token = boxes.own._envd_access_token or ""
    foreign = boxes.foreign._envd_access_token or ""
    assert token != foreign
    for given in ({}, {"X-Access-Token": token[:-1]}, {"X-Access-Token": foreign}):
        for path in paths:
            for method in METHODS:
                status = boxes.ask(method, path, ENVD, given).status_code
                if path in OF_THE_HOST_ALONE:
                    assert status == 404, (method, path)
                elif path == "/health":
                    assert status == (204 if method == "GET" else 405), method
                elif path == "/files" and method not in ("GET", "POST"):
                    assert status == 405, method
                else:
                    assert status == 401, (method, path, given)


def test_what_the_host_alone_may_ask_is_not_there_with_any_token(boxes: Boxes) -> None:
    token = {"X-Access-Token": boxes.own._envd_access_token or ""}
    for path in OF_THE_HOST_ALONE:
        for spelled in (path, "/" + path, "/." + path, path.upper(), "/%69nit", f"/x/..{path}"):
            assert boxes.ask("POST", spelled, ENVD, token).status_code == 404, spelled


# --- the gateway ------------------------------------------------------------------------


def _paths_of_gateway() -> set[str]:
    rules: Any = make_application(None).default_router.rules[0].target
    found = set()
    for rule in rules.rules:
        path = rule.matcher.regex.pattern.removesuffix("$").removesuffix("?")
        path = path.replace("(interrupt|restart)", "restart").replace("([0-9a-f]+)", "0")
        found.add(path.replace("([^/]+)", "x"))
    return found


def test_every_route_of_the_gateway_needs_the_traffic_token(boxes: Boxes) -> None:
    """Where one is set. Without one, whoever knows a sandbox's id may use its ports, as E2B's."""
    paths = _paths_of_gateway()
    assert paths > {"/execute", "/contexts/", "/v1/executions", "/api/kernels/x/channels"}
    assert not [path for path in paths if "(" in path], "a pattern that this test does not fill in"
    foreign = {"E2B-Traffic-Access-Token": boxes.foreign.traffic_access_token or ""}
    access = {"X-Access-Token": boxes.own._envd_access_token or ""}
    own = boxes.own.traffic_access_token or ""
    assert own
    for given in ({}, foreign, access, {"E2B-Traffic-Access-Token": own[:-1]}):
        for path in paths:
            for method in METHODS if path not in WEBSOCKETS else ("GET",):
                status = boxes.ask(method, path, GATEWAY, given).status_code
                assert status == (404 if path in OF_THE_HOST_ALONE else 403), (method, path, given)


@pytest.mark.parametrize("port", ["8000", "22", "65535"])
def test_every_other_port_needs_the_traffic_token(boxes: Boxes, port: str) -> None:
    assert boxes.ask("GET", "/", port).status_code == 403
    token = {"E2B-Traffic-Access-Token": boxes.own.traffic_access_token or ""}
    assert boxes.ask("GET", "/", port, token).status_code == 502, "nothing listens there"


def test_a_jupyter_server_needs_its_token(boxes: Boxes) -> None:
    for path in _paths_of_gateway():
        url = f"/jupyter/{boxes.own.sandbox_id}{path}"
        for token in ("", boxes.foreign._envd_access_token, "x"):
            headers = {"Authorization": f"token {token}"} if token else {}
            status = boxes.http.get(url, headers=headers).status_code
            assert status == (404 if path in OF_THE_HOST_ALONE else 403), (path, token)


# --- web pages --------------------------------------------------------------------------

PAGES = ("http://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1.nip.io")


@pytest.mark.parametrize("origin", PAGES)
def test_no_page_of_others_uses_the_api(boxes: Boxes, service: Service, origin: str) -> None:
    """Not even one that got hold of the key."""
    headers = {"Origin": origin, "X-API-KEY": service.key}
    for method, path in _routes_of_api(boxes.http):
        assert boxes.http.request(method, path, headers=headers).status_code == 403, path


@pytest.mark.parametrize("origin", PAGES)
def test_no_page_of_others_uses_the_gateway(boxes: Boxes, origin: str) -> None:
    headers = {
        "Origin": origin,
        "E2B-Traffic-Access-Token": boxes.own.traffic_access_token or "",
    }
    for path in _paths_of_gateway() - OF_THE_HOST_ALONE:
        for method in ("GET", "POST") if path not in WEBSOCKETS else ("GET",):
            status = boxes.ask(method, path, GATEWAY, headers).status_code
            assert status == 403, (method, path)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil-localhost", "127.0.0.1.nip.io", "."]
)
def test_no_other_name_leads_here(boxes: Boxes, service: Service, host: str) -> None:
    """A page whose name was made to point here is of its own origin to the browser."""
    for method, path in _routes_of_api(boxes.http):
        headers = {"Host": host, "X-API-KEY": service.key}
        assert boxes.http.request(method, path, headers=headers).status_code == 403, path
    for port in (ENVD, GATEWAY, "8000"):
        assert boxes.ask("GET", "/health", port, {"Host": host}).status_code == 403, port
    jupyter = f"/jupyter/{boxes.own.sandbox_id}/api"
    assert boxes.http.get(jupyter, headers={"Host": host}).status_code == 403
