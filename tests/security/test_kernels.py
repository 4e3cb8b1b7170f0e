"""What user code could make of its kernel's sockets, which are its own to write to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from code_interpreter import Sandbox
from code_interpreter.protocol.executions import SUBPROTOCOL
from tests.service import Service

pytestmark = pytest.mark.security
SOON = 20.0
"""Seconds for what takes a few milliseconds."""
DEEP = "[" * 200_000 + "]" * 200_000

FORGERY = """
import json
kernel = get_ipython().kernel

def say(parts, signature=None):
    signature = kernel.session.sign(parts) if signature is None else signature
    kernel.iopub_socket.send_multipart([b"topic", b"<IDS|MSG>", signature, *parts])

def own():
    return kernel.get_parent("shell")["header"]

def forge(header, content, parent=None):
    if isinstance(header, str):
        header = {"msg_id": "forged", "date": "2026-01-01T00:00:00Z", "msg_type": header}
    parts = (header, own() if parent is None else parent, {}, content)
    say([json.dumps(part, default=str).encode() for part in parts])
"""
MISSHAPEN = {
    "signature": 'say([b"{}"] * 4, signature=b"0" * 64)',
    "no frames": 'kernel.iopub_socket.send_multipart([b"x"])',
    "few frames": 'kernel.iopub_socket.send_multipart([b"x", b"<IDS|MSG>", b"0"])',
    "depth": "say([b'{}'] * 3 + [b'{\"a\":' * 100000 + b'1' + b'}' * 100000])",
    "lists": 'say([b"[]"] * 4)',
    "numbers": 'say([b"1"] * 4)',
    "no JSON": 'say([b"\\xff{"] * 4)',
    "parents": """
for parent in ({}, {"msg_id": 5}, {"msg_id": []}, {"msg_id": "another"}):
    forge("stream", {"name": "stdout", "text": ""}, parent)
""",
    "headers": """
for header in ({"msg_type": 5}, {"msg_type": "stream", "date": 5}, {"msg_type": "stream"}):
    forge(header, {"name": "stdout", "text": ""})
""",
    "content": """
kinds = ("stream", "display_data", "execute_result", "update_display_data", "execute_input",
         "clear_output", "comm_open", "execute_reply", "input_request", "code_interpreter_barrier")
contents = ({}, {"name": 5, "text": 5}, {"data": 5}, {"data": {"text/plain": 5}},
            {"data": {"text/html": [{}]}, "metadata": 5}, {"data": None, "transient": 5},
            {"execution_count": "x"}, {"wait": "x"}, {"status": [], "data": {}},
            {"data": {"image/png": [1]}}, {"data": {"text/latex": {"x": 1}}})
for kind in kinds:
    for content in contents:
        forge(kind, content)
for content in ({"ename": 5, "evalue": [], "traceback": 5}, {"traceback": [1, {}]}):
    forge("error", content)
for state in ({}, 5, None, "x"):
    forge("status", {"execution_state": state})
""",
}


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    with Sandbox.create(timeout=300, **service.options) as sandbox:
        sandbox.run_code(FORGERY)
        yield sandbox


@pytest.mark.parametrize("code", MISSHAPEN.values(), ids=MISSHAPEN.keys())
def test_a_kernel_that_talks_nonsense_hinders_nothing(box: Sandbox, code: str) -> None:
    """Neither its own cell's end, nor the next cell."""
    cell = box.run_code(code + "\nprint('the end')", timeout=SOON)
    assert "".join(cell.logs.stdout).endswith("the end\n")
    assert box.run_code("6 * 7", timeout=SOON).text == "42"


def test_a_forged_end_ends_no_cell_of_another_context(box: Sandbox) -> None:
    other = box.create_code_context()
    box.run_code("import json, time", context=other)
    long = """
header = get_ipython().kernel.get_parent("shell")["header"]
json.dump(header, open("/tmp/parent", "w"), default=str)
time.sleep(2)
"the real result"
"""
    forged = """
import pathlib, time
while not pathlib.Path("/tmp/parent").exists(): time.sleep(0.05)
time.sleep(0.2)
parent = json.load(open("/tmp/parent"))
forge("execute_result", {"data": {"text/plain": "'a forged result'"}, "metadata": {}}, parent)
forge("execute_reply", {"status": "ok", "execution_count": 1}, parent)
forge("status", {"execution_state": "idle"}, parent)
"""
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(box.run_code, long, context=other, timeout=SOON)
        box.run_code(forged, timeout=SOON)
        result = running.result(SOON)
    assert result.error is None
    assert [each.text for each in result.results] == ["the real result"]
    box.remove_code_context(other)


def test_each_kernel_has_a_key_of_its_own_that_no_other_account_can_read(box: Sandbox) -> None:
    key = "print(get_ipython().kernel.session.key.decode())"
    keys = {"".join(box.run_code(key, context=box.create_code_context()).logs.stdout)}
    keys.add("".join(box.run_code(key).logs.stdout))
    assert len(keys) == 2
    assert all(len(each.strip()) >= 32 for each in keys)
    probe = "ls /run/code-interpreter-kernels 2>&1; cat /proc/[0-9]*/environ 2>/dev/null || true"
    seen = box.commands.run(probe, user="user").stdout
    assert "Permission denied" in seen
    assert not [each for each in keys if each.strip() in seen]


# --- what clients send ------------------------------------------------------------------

ODD_JSON = {"deep": DEEP, "long number": "9" * 5000, "no object": "[1]", "no JSON": "{"}


@pytest.mark.parametrize("body", ODD_JSON.values(), ids=ODD_JSON.keys())
@pytest.mark.parametrize("path", ["/execute", "/contexts", "/api/kernels", "/api/sessions"])
def test_odd_json_is_refused_by_the_gateway(
    box: Sandbox, service: Service, path: str, body: str
) -> None:
    headers = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49999"}
    answer = httpx.post(service.url + path, content=body, headers=headers, timeout=SOON)
    assert answer.status_code == 400
    assert len(answer.text) < 1000


@pytest.mark.parametrize("body", ODD_JSON.values(), ids=ODD_JSON.keys())
def test_odd_json_is_refused_by_the_control_plane(service: Service, body: str) -> None:
    headers = {"X-API-KEY": service.key, "Content-Type": "application/json"}
    answer = httpx.post(f"{service.url}/sandboxes", content=body, headers=headers, timeout=SOON)
    assert answer.status_code == 400
    assert len(answer.text) < 1000


def _read_all(socket: ClientConnection) -> None:
    """A kernel that starts has something to say, too."""
    while True:
        socket.recv(timeout=SOON)


@pytest.mark.parametrize("body", ODD_JSON.values(), ids=ODD_JSON.keys())
def test_odd_json_is_refused_on_websockets(box: Sandbox, service: Service, body: str) -> None:
    headers = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49999"}
    url = service.url.replace("http", "ws", 1)
    with connect(
        f"{url}/v1/executions", additional_headers=headers, subprotocols=[Subprotocol(SUBPROTOCOL)]
    ) as socket:
        socket.send(body)
        assert json.loads(socket.recv(timeout=SOON))["status"] == 400
    context = box.create_code_context()
    with connect(f"{url}/api/kernels/{context.id}/channels", additional_headers=headers) as socket:
        socket.send(body)
        with pytest.raises(ConnectionClosed) as caught:
            _read_all(socket)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1003
    box.remove_code_context(context)
