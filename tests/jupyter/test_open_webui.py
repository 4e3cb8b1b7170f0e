"""The requests of Open WebUI's code interpreter (`JupyterCodeExecuter`, tried with 0.12.4).

The package is too large to install for a test (258 MB); its own code was run against a host.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from code_interpreter import JupyterServer, Sandbox


def log_in(client: httpx.Client, password: str) -> httpx.Response:
    """The form, then the form with the password in it; as a browser that keeps cookies."""
    form = client.get("login").raise_for_status()
    xsrf = form.cookies["_xsrf"]
    client.headers["X-XSRFToken"] = xsrf
    return client.post("login", data={"_xsrf": xsrf, "password": password})


def execute(socket: ClientConnection, code: str) -> list[dict[str, Any]]:
    """Messages up to ``idle``."""
    key = uuid.uuid4().hex
    header = {"msg_id": key, "msg_type": "execute_request", "username": "user", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
    content |= {"allow_stdin": False, "stop_on_error": True}
    message = {"header": {**header, "session": uuid.uuid4().hex, "date": ""}, "channel": "shell"}
    socket.send(json.dumps({**message, "parent_header": {}, "metadata": {}, "content": content}))
    heard: list[dict[str, Any]] = []
    while not heard or heard[-1]["content"].get("execution_state") != "idle":
        answer = json.loads(socket.recv(timeout=30))
        if answer["parent_header"].get("msg_id") == key:
            heard.append(answer)
    return heard


def run_once(server: JupyterServer, client: httpx.Client, code: str, **query: str) -> list[Any]:
    """A kernel for one piece of code; what it printed and showed."""
    kernel = client.post("api/kernels", params=query).raise_for_status().json()["id"]
    address = f"{server.url.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels"
    address += "?" + "&".join(f"{name}={value}" for name, value in query.items())
    cookies = "; ".join(f"{each.name}={each.value}" for each in client.cookies.jar)
    headers = {"Cookie": cookies} if cookies else {}
    try:
        with connect(address, additional_headers=headers) as socket:
            heard = execute(socket, code)
    finally:
        client.delete(f"api/kernels/{kernel}", params=query).raise_for_status()
    shown = [answer["content"] for answer in heard]
    return [each.get("text") or each["data"] for each in shown if "text" in each or "data" in each]


@pytest.fixture
def server(sandbox: Sandbox) -> JupyterServer:
    return sandbox.jupyter_server()


def client_of(server: JupyterServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=30)


def test_with_a_token(server: JupyterServer) -> None:
    with client_of(server) as client:
        seen = run_once(server, client, "print('hi')\n1 + 1", token=server.token)
    assert seen == ["hi\n", {"text/plain": "2"}]


def test_with_a_password(server: JupyterServer) -> None:
    with client_of(server) as client:
        answer = log_in(client, server.token)
        assert answer.status_code == 302
        (cookie,) = answer.headers.get_list("set-cookie")  # VS Code takes the first for the session
        assert {"httponly", "samesite=strict"} <= set(cookie.lower().split("; "))
        assert server.token not in cookie
        assert run_once(server, client, "6 * 7") == [{"text/plain": "42"}]


def test_a_wrong_password_opens_nothing(server: JupyterServer) -> None:
    for password in ("", "wrong", server.token[:-1]):
        with client_of(server) as client:
            answer = log_in(client, password)
            assert (answer.status_code, answer.headers.get_list("set-cookie")[1:]) == (401, [])
            assert client.get("api/kernels").status_code == 403


def test_other_sites_can_neither_log_in_nor_use_the_cookie(server: JupyterServer) -> None:
    with client_of(server) as client:
        body = {"_xsrf": "guessed", "password": server.token}
        assert client.post("login", data=body).status_code == 403
        log_in(client, server.token)
        assert client.get("api/kernels").status_code == 200
        del client.headers["X-XSRFToken"]
        for method, path in (("POST", "api/kernels"), ("DELETE", "api/kernels/x")):
            assert client.request(method, path).status_code == 403
        client.headers["X-XSRFToken"] = "guessed"
        assert client.post("api/kernels").status_code == 403
        evil = {"Origin": "http://evil.example"}
        assert client.get("api/kernels", headers=evil).status_code == 403


def test_the_cookie_of_one_sandbox_is_nothing_to_another(
    server: JupyterServer, service: Any
) -> None:
    other = Sandbox.create(**service.options)
    try:
        with client_of(server) as client:
            log_in(client, server.token)
            url = f"{other.jupyter_server().url}/api/kernels"
            assert client.get(url).status_code == 403
            theirs = client.cookies[f"jupyter-{sandbox_id_of(server)}"]
            forged = {"Cookie": f"jupyter-{other.sandbox_id}={theirs}"}
            assert httpx.get(url, headers=forged).status_code == 403
    finally:
        other.kill()


def sandbox_id_of(server: JupyterServer) -> str:
    return server.url.rpartition("/")[2]
