"""envd's plain HTTP routes, by hand: what clients other than E2B's may send."""

from __future__ import annotations

import gzip
import secrets
import time
from typing import Any

import httpx
import pytest
from e2b import Sandbox


def refusal(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["code"] == answer.status_code
    return answer.status_code, body["message"]


def put(http: httpx.Client, path: str, content: bytes, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream", **headers}
    return http.post("/files", params={"path": path}, content=content, headers=headers)


# --- who may ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/envs"),
        ("GET", "/metrics"),
        ("GET", "/files?path=x"),
        ("POST", "/files?path=x"),
        ("POST", "/files/compose"),
        ("GET", "/nothing"),
        ("POST", "/process.Process/List"),
        ("POST", "/filesystem.Filesystem/Stat"),
    ],
)
@pytest.mark.parametrize("token", [None, "", "wrong", "ünï"])
def test_without_the_token(
    anonymous: httpx.Client, method: str, path: str, token: str | None
) -> None:
    headers = {} if token is None else {b"X-Access-Token": token.encode()}
    answer = anonymous.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] in (401, "unauthenticated")
    assert "X-Access-Token" in answer.json()["message"]


def test_health_is_for_all(anonymous: httpx.Client) -> None:
    assert anonymous.get("/health").status_code == 204


def test_init_is_not_for_clients(http: httpx.Client) -> None:
    answer = http.post("/init", json={"accessToken": "mine"})
    assert answer.status_code == 404
    assert http.get("/envs").status_code == 200


def test_envs(http: httpx.Client) -> None:
    assert http.get("/envs").json() == {"GLOBAL": "global", "BOTH": "global"}


def test_metrics(http: httpx.Client) -> None:
    metrics = http.get("/metrics").json()
    assert set(metrics) == set(
        "ts cpu_count cpu_used_pct mem_total mem_used mem_cache mem_total_mib mem_used_mib "
        "disk_used disk_total".split()
    )
    assert abs(metrics["ts"] - time.time()) < 60
    assert 0 < metrics["mem_used"] < metrics["mem_total"]
    assert 0 < metrics["disk_used"] < metrics["disk_total"]


# --- downloads --------------------------------------------------------------------------


def test_ranges(box: Sandbox, http: httpx.Client) -> None:
    box.files.write("letters", "abcdefghij")

    def ask(value: str, **headers: str) -> tuple[int, str, str | None]:
        headers = {"Range": value, **headers}
        answer = http.get("/files?path=letters", headers=headers)
        return answer.status_code, answer.text, answer.headers.get("content-range")

    assert ask("bytes=0-3") == (206, "abcd", "bytes 0-3/10")
    assert ask("bytes=8-") == (206, "ij", "bytes 8-9/10")
    assert ask("bytes=8-100") == (206, "ij", "bytes 8-9/10")
    assert ask("bytes=-3") == (206, "hij", "bytes 7-9/10")
    assert ask("bytes=-100") == (206, "abcdefghij", "bytes 0-9/10")
    assert ask("bytes=10-") == (416, "", "bytes */10")
    assert ask("bytes=-0") == (416, "", "bytes */10")
    for ignored in ("bytes=5-2", "bytes=-", "lines=0-1", "bytes=0-1,3-4", "bytes=x-y"):
        assert ask(ignored) == (200, "abcdefghij", None)
    modified = http.head("/files?path=letters").headers["last-modified"]
    assert ask("bytes=0-0", **{"If-Range": modified}) == (206, "a", "bytes 0-0/10")
    assert ask("bytes=0-0", **{"If-Range": "Thu, 01 Jan 1970 00:00:00 GMT"})[0] == 200


def test_what_the_client_has_already(box: Sandbox, http: httpx.Client) -> None:
    box.files.write("known", "x")
    modified = http.get("/files?path=known").headers["last-modified"]
    answer = http.get("/files?path=known", headers={"If-Modified-Since": modified})
    assert (answer.status_code, answer.content) == (304, b"")
    old = {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
    assert http.get("/files?path=known", headers=old).text == "x"
    nonsense = {"If-Modified-Since": "yesterday"}
    assert http.get("/files?path=known", headers=nonsense).text == "x"


def test_a_look_ahead(box: Sandbox, http: httpx.Client) -> None:
    box.files.write("looked", "12345")
    answer = http.head("/files?path=looked")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "5"
    assert answer.headers["content-disposition"] == "inline"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate", None),
        ("gzip", "gzip"),
        ("identity;q=0, gzip;q=0.5", "gzip"),
        ("*;q=0, gzip", "gzip"),
        ("*", None),
        ("br", None),
        ("", None),
    ],
)
def test_codings(box: Sandbox, http: httpx.Client, accepted: str, coding: str | None) -> None:
    box.files.write("coded", "content " * 100)
    answer = http.get("/files?path=coded", headers={"Accept-Encoding": accepted})
    assert answer.text == "content " * 100
    assert answer.headers.get("content-encoding") == coding


def test_no_coding_left(box: Sandbox, http: httpx.Client) -> None:
    box.files.write("coded", "x")
    headers = {"Accept-Encoding": "br, identity;q=0"}
    status, message = refusal(http.get("/files?path=coded", headers=headers))
    assert status == 406
    assert "identity and gzip" in message


def test_a_file_that_shrinks_while_it_is_read(box: Sandbox, http: httpx.Client) -> None:
    box.commands.run("head -c 300000000 /dev/zero > shrinking")
    with http.stream("GET", "/files?path=shrinking") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        box.commands.run("truncate -s 1000 shrinking")
        with pytest.raises(httpx.RemoteProtocolError):  # never a body that is silently too short
            list(pieces)


# --- uploads ----------------------------------------------------------------------------


def test_the_answer(http: httpx.Client) -> None:
    answer = put(http, "up/load", b"x")
    assert answer.json() == [{"path": "/home/user/up/load", "name": "load", "type": "file"}]
    answer = put(http, "up/load", b"x", **{"X-Metadata-Key": "value"})
    assert answer.json()[0]["metadata"] == {"key": "value"}


def test_a_field_without_a_file_name(box: Sandbox, http: httpx.Client) -> None:
    part = 'Content-Disposition: form-data; name="file"'
    body = f"--b\r\n{part}\r\n\r\nplain\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = http.post("/files", params={"path": "field"}, content=body, headers=headers)
    assert answer.status_code == 200
    assert box.files.read("field") == "plain"
    answer = http.post("/files", content=body, headers=headers)
    assert refusal(answer) == (400, "a part has no filename, and there is no parameter 'path'")


def test_other_fields_are_skipped(box: Sandbox, http: httpx.Client) -> None:
    data = {"before": "x" * 100_000, "file2": "y"}
    answer = http.post("/files", data=data, files={"file": ("skipped", b"z")})
    assert [info["name"] for info in answer.json()] == ["skipped"]
    assert box.files.read("skipped") == "z"


def test_several_files(box: Sandbox, http: httpx.Client) -> None:
    files = [("file", (f"many/{n}", b"x" * n)) for n in range(50)]
    assert len(http.post("/files", files=files).json()) == 50
    assert [entry.size for entry in box.files.list("many")] == sorted(range(50), key=str)


def test_one_path_twice(http: httpx.Client) -> None:
    files = [("file", ("twice", b"1")), ("file", ("./twice", b"2"))]
    status, message = refusal(http.post("/files", files=files))
    assert (status, message) == (400, "path '/home/user/twice' is uploaded twice in one request")


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        (None, b"x", "Content-Type must be multipart/form-data or application/octet-stream"),
        ("text/plain", b"x", "not 'text/plain'"),
        ("multipart/form-data", b"x", "has no boundary"),
        ("multipart/form-data; boundary=b", b"x", "multipart body"),
        ("multipart/form-data; boundary=b", b"", "ends before its last boundary"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", "no part called 'file'"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="cut"\r\n\r\nab',
            "ends before its last boundary",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            "Maximum header size exceeded",
        ),
    ],
)
def test_bodies_that_cannot_be_read(
    http: httpx.Client, kind: str | None, content: bytes, words: str
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = http.post("/files", content=content, headers=headers)
    status, message = refusal(answer)
    assert status == 400
    assert words in message


def test_octets_without_a_path(http: httpx.Client) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    status, message = refusal(http.post("/files", content=b"x", headers=headers))
    assert (status, "'path'" in message) == (400, True)


def test_compressed_uploads(box: Sandbox, http: httpx.Client) -> None:
    content = b"content " * 1_000_000
    packed = gzip.compress(content[:4_000_000]) + gzip.compress(content[4_000_000:])
    put(http, "packed", packed, **{"Content-Encoding": "gzip"}).raise_for_status()
    assert box.files.read("packed", format="bytes") == content
    for broken, words in ((packed[:-9], "ends too early"), (b"nonsense", "is not gzip")):
        answer = put(http, "packed", broken, **{"Content-Encoding": "gzip"})
        assert answer.status_code == 400
        assert words in answer.json()["message"]
    answer = put(http, "packed", b"x", **{"Content-Encoding": "br"})
    assert refusal(answer) == (400, "Content-Encoding 'br' is not known; there is gzip")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"X-Metadata-": "x"}, "has 0 bytes"),
        ({"X-Metadata-" + "k" * 247: "x"}, "has 247 bytes; 1 to 246"),
        ({"X-Metadata-k": "x" * 4096}, "at most 4096 bytes"),
        ({"X-Metadata-k": "ü".encode()}, "printable ASCII"),
        ({"X-Metadata-k": "a\tb"}, "printable ASCII"),
    ],
)
def test_metadata_that_cannot_be_kept(
    http: httpx.Client, headers: dict[str, Any], words: str
) -> None:
    answer = put(http, "meta", b"x", **headers)
    assert answer.status_code == 400
    assert words in answer.json()["message"]


def test_as_much_metadata_as_there_may_be(box: Sandbox, http: httpx.Client) -> None:
    key = "k" * 246
    answer = put(http, "meta", b"x", **{f"X-Metadata-{key}": "v" * 3000})
    assert answer.status_code == 200
    assert box.files.get_info("meta").metadata == {key: "v" * 3000}


# --- compose ----------------------------------------------------------------------------


def test_composing(box: Sandbox, http: httpx.Client) -> None:
    parts = [secrets.token_bytes(3_000_000) for _ in range(3)]
    for number, part in enumerate(parts):
        box.files.write(f"part{number}", part)
    body = {"source_paths": ["part0", "part1", "part2"], "destination": "whole/file"}
    answer = http.post("/files/compose", json=body)
    assert answer.json() == {"path": "/home/user/whole/file", "name": "file", "type": "file"}
    assert box.files.read("whole/file", format="bytes") == b"".join(parts)
    assert not any(box.files.exists(f"part{number}") for number in range(3))
    assert [entry.name for entry in box.files.list("whole")] == ["file"]


def test_composing_onto_a_source(box: Sandbox, http: httpx.Client) -> None:
    box.files.write_files([{"path": "c1", "data": "1"}, {"path": "c2", "data": "2"}])
    body = {"source_paths": ["c1", "c2", "c1"], "destination": "c1"}
    assert http.post("/files/compose", json=body).status_code == 200
    assert box.files.read("c1") == "121"
    assert not box.files.exists("c2")


def test_composing_what_is_not_there(box: Sandbox, http: httpx.Client) -> None:
    box.files.write("present", "x")
    body = {"source_paths": ["present", "absent"], "destination": "composed"}
    answer = http.post("/files/compose", json=body)
    assert refusal(answer) == (404, "path '/home/user/absent' does not exist")
    assert box.files.exists("present")
    assert not box.files.exists("composed")


@pytest.mark.parametrize(
    "body", ["", "{", "[]", '{"source_paths": "x"}', '{"source_paths": [], "destination": "x"}']
)
def test_composing_nonsense(http: httpx.Client, body: str) -> None:
    status, message = refusal(http.post("/files/compose", content=body))
    assert status == 400
    assert "source_paths" in message
