"""Whom a request is for, and who may not ask."""

from __future__ import annotations

import socket

import pytest

from code_interpreter.host.edge_address import (
    AddressBook,
    Api,
    JupyterServer,
    SandboxPort,
    SignedFile,
    Target,
    host_name,
)
from code_interpreter.host.edge_answers import Refused
from code_interpreter.host.edge_http import RequestHead, RequestReader

BOX = {"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "49983"}
GATEWAY = {"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "49999"}


def target(
    host: str, headers: dict[str, str] | None = None, path: str = "/x", method: str = "GET"
) -> Target:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    (head, *_) = RequestReader().feed(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert isinstance(head, RequestHead)
    return AddressBook("boxes.example:8080").target(head)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:80", "localhost"),
        ("example.com.:80", "example.com"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
    ],
)
def test_the_name_in_a_host(host: str, name: str) -> None:
    assert host_name(host) == name


OWN = [
    "localhost",
    "localhost:3000",
    "api.localhost",
    "127.0.0.1:3000",
    "192.168.1.7",
    "[::1]:3000",
    "boxes.example",
    "api.boxes.example:8080",
    "sandbox.boxes.example",
    socket.gethostname(),
]


@pytest.mark.parametrize("host", OWN)
def test_names_of_this_host(host: str) -> None:
    assert target(host) == Api()
    assert target(host, BOX) == SandboxPort("i1", 49983)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "notboxes.example",
        "boxes.example.evil.example",
        "x.boxes.example",
        "127.0.0.1.evil.example",
        "",
    ],
)
@pytest.mark.parametrize("headers", [{}, BOX])
def test_names_that_others_may_have_pointed_here(host: str, headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        target(host, headers)
    assert caught.value.status == 403
    assert "CODE_INTERPRETER_DOMAIN" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("3000-i1.boxes.example:8080", SandboxPort("i1", 3000)),
        ("3000-I1.LOCALHOST", SandboxPort("i1", 3000)),
        ("49983-i1-suffix.any.example", SandboxPort("i1", 49983)),
    ],
)
def test_a_label_names_port_and_sandbox(host: str, expected: SandboxPort) -> None:
    assert target(host) == expected


def test_the_label_goes_before_the_headers() -> None:
    assert target("3000-i2.localhost", BOX) == SandboxPort("i2", 3000)


@pytest.mark.parametrize(
    ("host", "headers", "named"),
    [
        ("localhost", {"E2b-Sandbox-Id": "i1"}, "E2b-Sandbox-Port"),
        ("localhost", {"E2b-Sandbox-Port": "1"}, "E2b-Sandbox-Id"),
        ("localhost", {**BOX, "E2b-Sandbox-Id": "../etc"}, "'../etc' is not a sandbox id"),
        ("localhost", {**BOX, "E2b-Sandbox-Id": ""}, "'' is not a sandbox id"),
        ("localhost", {**BOX, "E2b-Sandbox-Id": "i" * 65}, "is not a sandbox id"),
        ("localhost", {**BOX, "E2b-Sandbox-Port": "0"}, "'0' is not a port"),
        ("localhost", {**BOX, "E2b-Sandbox-Port": "65536"}, "'65536' is not a port"),
        ("localhost", {**BOX, "E2b-Sandbox-Port": "1e3"}, "'1e3' is not a port"),
        ("localhost", {**BOX, "E2b-Sandbox-Port": "-1"}, "'-1' is not a port"),
        ("localhost", {**BOX, "e2b-sandbox-id": "i2"}, "more than once"),
        ("99999-i1.boxes.example", {}, "'99999' is not a port"),
        ("3000-i_1.boxes.example", {}, "'i_1' is not a sandbox id"),
        ("3000-.boxes.example", {}, "'' is not a sandbox id"),
    ],
)
def test_an_address_that_is_none(host: str, headers: dict[str, str], named: str) -> None:
    with pytest.raises(Refused) as caught:
        target(host, headers)
    assert caught.value.status == 400
    assert named in str(caught.value)
    assert b"text/plain" in caught.value.response(close=True)


@pytest.mark.parametrize("headers", [BOX, GATEWAY])
@pytest.mark.parametrize(
    "path", ["/init", "/init?x=1", "/init/", "//init", "/%69nit", "/./init", "/x/../init", "/INIT"]
)
def test_what_the_host_alone_may_ask_is_not_there(headers: dict[str, str], path: str) -> None:
    with pytest.raises(Refused) as caught:
        target("localhost", headers, path, "POST")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "name", ["freeze", "unfreeze", "collapse", "fsfreeze", "fsthaw", "upgrade"]
)
def test_internal_paths_of_envd(name: str) -> None:
    with pytest.raises(Refused):
        target("localhost", BOX, f"/{name}")


@pytest.mark.parametrize("name", ["unfreeze", "collapse", "fsfreeze", "fsthaw", "upgrade"])
def test_the_gateway_has_no_such_paths(name: str) -> None:
    assert target("localhost", GATEWAY, f"/{name}") == SandboxPort("i1", 49999)


def test_the_host_alone_has_the_gateway_wait() -> None:
    with pytest.raises(Refused):
        target("localhost", GATEWAY, "/freeze")


def test_other_servers_may_have_those_paths() -> None:
    assert target("3000-i1.localhost", path="/init") == SandboxPort("i1", 3000)
    assert target("localhost", path="/init") == Api()
    assert target("localhost", BOX, "/initial") == SandboxPort("i1", 49983)


@pytest.mark.parametrize(
    ("method", "operation"), [("GET", "read"), ("HEAD", "read"), ("POST", "write")]
)
def test_a_signed_file(method: str, operation: str) -> None:
    path = "/files?path=a%20b&signature=v1_x%2By&username=&signature_expiration=17"
    found = target("localhost", path=path, method=method)
    assert isinstance(found, SignedFile)
    assert (found.path, found.signature, found.username) == ("a b", "v1_x+y", "")
    assert (found.expiration, found.operation) == (17, operation)


@pytest.mark.parametrize(
    ("path", "headers", "expected", "token"),
    [
        ("/jupyter/i1", {}, "/", None),
        ("/jupyter/i1/", {}, "/", None),
        ("/jupyter/i1//api", {}, "/api", None),
        ("/jupyter/i1/api?x=1", {}, "/api?x=1", None),
        ("/jupyter/i1/api?token=t%2B", {}, "/api?token=t%2B", "t+"),
        ("/jupyter/i1?token=t", {}, "/?token=t", "t"),
        ("/jupyter/i1/api", {"Authorization": "token t"}, "/api", "t"),
        ("/jupyter/i1/api", {"Authorization": "Bearer t"}, "/api", "t"),
        ("/jupyter/i1/api", {"Authorization": "Basic dDo="}, "/api", None),
    ],
)
def test_a_jupyter_server(
    path: str, headers: dict[str, str], expected: str, token: str | None
) -> None:
    found = target("127.0.0.1:7070", headers, path)
    assert isinstance(found, JupyterServer)
    assert (found.sandbox_id, found.target) == ("i1", expected)
    assert found.credentials.token == token


def test_its_login_page_is_the_hosts() -> None:
    """Who asks for it has no token yet, and a sandbox does not know its own."""
    for path in ("/jupyter/i1/login", "/jupyter/i1//login?next=%2F"):
        assert target("localhost", path=path, method="POST") == Api()
    assert isinstance(target("localhost", path="/jupyter/i1/login/x"), JupyterServer)


@pytest.mark.parametrize("path", ["/jupyter", "/jupyter-lab", "/x/jupyter/i1"])
def test_paths_that_only_look_like_it(path: str) -> None:
    assert target("localhost", path=path) == Api()


@pytest.mark.parametrize("path", ["/jupyter/", "/jupyter//api", "/jupyter/../api"])
def test_a_jupyter_server_of_no_sandbox(path: str) -> None:
    with pytest.raises(Refused, match="is not a sandbox id"):
        target("localhost", path=path)


@pytest.mark.parametrize("path", ["/init", "//init", "/x/../init", "/%69nit?token=t"])
def test_what_the_host_alone_may_ask_is_not_behind_it(path: str) -> None:
    with pytest.raises(Refused) as caught:
        target("localhost", path=f"/jupyter/i1{path}", method="POST")
    assert caught.value.status == 404


def test_pages_of_others_may_not_use_it() -> None:
    with pytest.raises(Refused) as caught:
        target("localhost", {"Origin": "http://evil.example"}, "/jupyter/i1/api")
    assert caught.value.status == 403


@pytest.mark.parametrize("path", ["/files", "/files?path=x", "/filesystem?path=x&signature=y"])
def test_other_paths_are_the_api_s(path: str) -> None:
    assert target("localhost", path=path) == Api()


def test_an_expiration_that_is_no_time() -> None:
    with pytest.raises(Refused, match="signature_expiration"):
        target("localhost", path="/files?path=x&signature=y&signature_expiration=soon")


FOREIGN = [
    "http://evil.example",
    "https://localhost.evil.example",
    "http://evil.example#localhost",
    "http://3000-i1.localhost:3000",
    "http://[",
    "null",
    "file://",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_pages_of_others_may_not_use_the_api(origin: str) -> None:
    with pytest.raises(Refused) as caught:
        target("localhost", {"Origin": origin})
    assert caught.value.status == 403


@pytest.mark.parametrize("origin", FOREIGN)
def test_pages_of_others_hold_no_websocket_to_the_gateway(origin: str) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": origin}
    with pytest.raises(Refused):
        target("49999-i1.localhost", upgrade)
    assert target("3000-i1.localhost", upgrade) == SandboxPort("i1", 3000)


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://boxes.example"])
def test_pages_of_this_machine_may(origin: str) -> None:
    assert target("boxes.example", {"Origin": origin}) == Api()


def test_older_clients_name_the_sandbox_to_the_api_as_well() -> None:
    headers = {**BOX, "X-API-KEY": "e2b_0"}
    path = "/sandboxes/i1/connect"
    assert target("localhost", headers, path, "POST") == Api()
    assert target("localhost", BOX, path, "POST") == SandboxPort("i1", 49983)
    assert target("localhost", headers, "/files", "GET") == SandboxPort("i1", 49983)
