"""Bad input: one clear answer in the same form, whatever is wrong, and nothing left behind."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.host.running import RunningHost

NOBODY = "i" + "0" * 20


def check_error(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) <= {"code", "message", "error_code"}
    assert body["code"] == status
    for word in words:
        assert word in body["message"]


@pytest.mark.parametrize("path", ["/v2/sandboxes", "/sandboxes/i1", "/nowhere", "/teams"])
def test_every_path_asks_for_the_key(host: RunningHost, path: str) -> None:
    given: tuple[dict[str, str], ...] = (
        {},
        {"X-API-KEY": "e2b_" + "0" * 40},
        {"X-API-KEY": "ä"},
        {"X-API-KEY": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {host.key}"},
    )
    for headers in given:
        encoded = httpx.Headers(headers, encoding="utf-8")
        response = httpx.get(host.url + path, headers=encoded, trust_env=False)
        check_error(response, 401, "X-API-KEY")


def test_the_key_is_checked_before_the_body_is_read(host: RunningHost) -> None:
    response = httpx.post(host.url + "/v2/sandboxes", content="{", trust_env=False)
    check_error(response, 401)


def test_the_key_may_come_as_bearer(host: RunningHost) -> None:
    headers = {"Authorization": f"Bearer {host.key}"}
    response = httpx.get(host.url + "/teams", headers=headers, trust_env=False)
    (team,) = response.json()
    assert team["apiKey"] == host.key
    assert team["isDefault"] is True


def test_health_needs_no_key(host: RunningHost) -> None:
    assert httpx.get(host.url + "/health", trust_env=False).status_code == 204


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nowhere"), ("GET", "/v2/sandboxes/"), ("POST", "/v3/sandboxes"), ("GET", "/docs")],
)
def test_unknown_routes(http: httpx.Client, method: str, path: str) -> None:
    check_error(http.request(method, path), 404, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/snapshots"),
        ("POST", "/sandboxes/i123/snapshots"),
        ("PUT", "/sandboxes/i123/no-such"),
        ("DELETE", "/templates/mine"),
        ("POST", "/v3/templates"),
        ("GET", "/volumes"),
        ("POST", "/secrets"),
    ],
)
def test_what_e2b_has_and_this_host_does_not(http: httpx.Client, method: str, path: str) -> None:
    """Not 404: clients would take that for a sandbox or a snapshot that is not there."""
    check_error(http.request(method, path), 501, f"does not offer {method} {path}")


def test_wrong_method(http: httpx.Client) -> None:
    check_error(http.put("/v2/sandboxes"), 405)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b"\xff\xfe", b"[" * 100_000, b'{"templateID": "base"'],
    ids=["empty", "open", "words", "bytes", "deep", "cut"],
)
def test_broken_json(http: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    check_error(http.post("/v2/sandboxes", content=body, headers=headers), 400)
    assert http.get("/v2/sandboxes").json() == []


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "templateID"),
        ([], "body"),
        (None, "body"),
        ({"templateID": 1}, "templateID"),
        ({"templateID": ""}, "templateID"),
        ({"templateID": "base", "timeout": "60"}, "timeout"),
        ({"templateID": "base", "timeout": 1.5}, "timeout"),
        ({"templateID": "base", "timeout": True}, "timeout"),
        ({"templateID": "base", "timeout": 0}, "timeout"),
        ({"templateID": "base", "timeout": -1}, "timeout"),
        ({"templateID": "base", "timeout": 10**18}, "timeout"),
        ({"templateID": "base", "metadata": {"a": 1}}, "metadata.a"),
        ({"templateID": "base", "metadata": "a=b"}, "metadata"),
        ({"templateID": "base", "envVars": {"A=B": "c"}}, "envVars"),
        ({"templateID": "base", "envVars": {"": "c"}}, "envVars"),
        ({"templateID": "base", "envVars": {"A": "b\0c"}}, "NUL"),
        ({"templateID": "base", "envVars": {"A": "b" * 131_072}}, "at most 130816 bytes"),
        ({"templateID": "base", "envVars": {"A": None}}, "envVars.A"),
        ({"templateID": "base", "autoPause": "yes"}, "autoPause"),
        ({"templateID": "base", "autoPauseMemory": False}, "autoPause"),
        ({"templateID": "base", "network": {"denyOut": ["0.0.0.0/0"]}}, "the runtime 'process'"),
        ({"templateID": "base", "network": {"denyOut": ["evil.example"]}}, "'evil.example'"),
        ({"templateID": "base", "network": {"allowOut": ["8.8.8.8"]}}, "allow_out"),
        ({"templateID": "base", "volumeMounts": [{"name": "v", "path": "/v"}]}, "volumes"),
        ({"templateID": "base", "iam": {"tokens": {"t": {}}}}, "iam"),
        ({"templateID": "base", "allow_internet_access": False}, "internet"),
        ({"templateID": "base", "memoryMB": 10**9}, "memoryMB must be from 128 to "),
        ({"templateID": "base", "memoryMB": 127}, "not 127"),
        ({"templateID": "base", "memoryMB": "2GB"}, "memoryMB"),
        ({"templateID": "base", "memoryMB": True}, "memoryMB"),
        ({"templateID": "base", "memoryMB": 10**400}, "memoryMB"),
        ({"templateID": "base", "diskSizeMB": -1}, "diskSizeMB must be from 64 to "),
        ({"templateID": "base", "cpuCount": -0.5}, "cpuCount must be from 0.1 to "),
        ({"templateID": "base", "cpuCount": 10**400}, "cpuCount"),
        ({"templateID": "base", "memoryMB": 512}, "limits"),
        ({"templateID": "base", "cpuCount": 0}, "cpuCount"),
    ],
)
def test_bad_wishes_name_the_field(http: httpx.Client, body: Any, word: str) -> None:
    check_error(http.post("/v2/sandboxes", json=body), 400, word)
    assert http.get("/v2/sandboxes").json() == []


def test_unknown_template_names_those_that_are_there(http: httpx.Client) -> None:
    response = http.post("/v2/sandboxes", json={"templateID": "no/such:thing"})
    check_error(response, 404, "no/such:thing", "base", "code-interpreter-v1")


def test_a_body_too_large_is_refused_early(http: httpx.Client) -> None:
    body = {"templateID": "base", "metadata": {"a": "x" * (5 * 1024 * 1024)}}
    check_error(http.post("/v2/sandboxes", json=body), 413)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/timeout", {"timeout": 5}),
        ("POST", "/refreshes", {"duration": 5}),
        ("POST", "/connect", {"timeout": 5}),
        ("POST", "/resume", {}),
        ("POST", "/pause", {}),
        ("GET", "/metrics", None),
        ("GET", "/logs", None),
    ],
)
@pytest.mark.parametrize("name", [NOBODY, "%2e%2e", "I0", "i0%00", "x" * 2000])
def test_unknown_sandboxes(
    http: httpx.Client, method: str, path: str, body: object, name: str
) -> None:
    check_error(http.request(method, f"/sandboxes/{name}{path}", json=body), 404, "not found")


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("timeout", {"timeout": -1}, "timeout"),
        ("timeout", {}, "timeout"),
        ("timeout", {"timeout": 10**12}, "timeout"),
        ("connect", {}, "timeout"),
        ("connect", {"timeout": 0}, "timeout"),
        ("refreshes", {"duration": 3601}, "duration"),
        ("pause", {"memory": False}, "memory"),
    ],
)
def test_bad_changes_name_the_field(http: httpx.Client, path: str, body: object, word: str) -> None:
    check_error(http.post(f"/sandboxes/{NOBODY}/{path}", json=body), 400, word)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "state=dead", "nextToken=x", "order=up"])
def test_bad_listings(http: httpx.Client, query: str) -> None:
    check_error(http.get(f"/v2/sandboxes?{query}"), 400, query.partition("=")[0])


def test_aliases_are_one_segment_of_the_raw_path(http: httpx.Client) -> None:
    found = http.get("/templates/aliases/code-interpreter-v1")
    assert found.json() == {"templateID": "code-interpreter-v1", "public": True}
    check_error(http.get("/templates/aliases/team%2Fname%3Atag"), 404, "team/name:tag")


def test_templates_have_all_fields(http: httpx.Client) -> None:
    listed = http.get("/templates").json()
    assert [item["names"] for item in listed] == [["base"], ["code-interpreter-v1"]]
    for field in ("buildID", "cpuCount", "memoryMB", "createdBy", "lastSpawnedAt", "envdVersion"):
        assert field in listed[0]


def test_the_openapi_document_promises_what_is_answered(host: RunningHost) -> None:
    document = httpx.get(host.url + "/openapi.json", trust_env=False).json()
    create = document["paths"]["/v2/sandboxes"]["post"]
    assert "201" in create["responses"]
    assert "422" not in create["responses"]
    assert document["paths"]["/sandboxes/{sandbox_id}"]["delete"]["responses"].keys() >= {"204"}


def test_no_route_answers_without_the_key(host: RunningHost) -> None:
    document = httpx.get(host.url + "/openapi.json", trust_env=False).json()
    for path, operations in document["paths"].items():
        for method in operations:
            url = host.url + path.replace("{", "").replace("}", "")
            response = httpx.request(method, url, trust_env=False)
            assert response.status_code == (204 if path == "/health" else 401)


def test_a_request_that_never_ends_hinders_nobody(host: RunningHost, http: httpx.Client) -> None:
    address = urlsplit(host.url)
    with socket.create_connection((address.hostname, address.port)) as slow:
        head = f"POST /v2/sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {host.key}\r\n"
        slow.sendall(
            head.encode() + b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert http.get("/v2/sandboxes").status_code == 200
    assert http.get("/v2/sandboxes").json() == []


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_FIELDS = [
    "timeout",
    "metadata",
    "envVars",
    "autoPause",
    "autoResume",
    "network",
    "mcp",
    "iam",
    "volumeMounts",
    "cpuCount",
    "memoryMB",
]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON, min_size=1, max_size=4))
def test_no_body_makes_the_host_fail(http: httpx.Client, fields: dict[str, Any]) -> None:
    """With a template that is not there, nothing can be made, and the answer is 400 or 404."""
    response = http.post("/v2/sandboxes", json={"templateID": "absent", **fields})
    check_error(response, response.status_code)
    assert response.status_code in (400, 404)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Sandbox-Memory-MB", "2GB"),
        ("X-Sandbox-Memory-MB", "512.5"),
        ("X-Sandbox-Memory-MB", "-1"),
        ("X-Sandbox-Cpu-Count", "nan"),
        ("X-Sandbox-Cpu-Count", "1e3"),
        ("X-Sandbox-Disk-Size-MB", ""),
    ],
)
def test_a_limit_in_a_header_is_checked(http: httpx.Client, header: str, value: str) -> None:
    response = http.post("/v2/sandboxes", json={"templateID": "base"}, headers={header: value})
    check_error(response, 400, header)


def test_header_and_body_must_agree(http: httpx.Client) -> None:
    headers = {"X-Sandbox-Memory-MB": "512"}
    body = {"templateID": "base", "memoryMB": 1024}
    response = http.post("/v2/sandboxes", json=body, headers=headers)
    check_error(response, 400, "512", "1024")
