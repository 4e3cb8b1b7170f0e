"""Signed URLs of files: what they are good for, and what they are not."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

import httpx
from e2b import Sandbox


def token_of(box: Sandbox) -> str:
    token = box._envd_access_token
    assert token is not None
    return token


def refusal(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["code"] == answer.status_code
    return answer.status_code, body["message"]


def signed(box: Sandbox, path: str, operation: str, user: str = "", expiration: int = 0) -> Any:
    parts = [path, operation, user, token_of(box)] + ([str(expiration)] if expiration else [])
    digest = hashlib.sha256(":".join(parts).encode()).digest()
    query = {"path": path, "signature": "v1_" + base64.b64encode(digest).decode().rstrip("=")}
    if user:
        query["username"] = user
    if expiration:
        query["signature_expiration"] = str(expiration)
    return query


def test_the_clients_urls(box: Sandbox) -> None:
    url = box.upload_url("signed file.txt", use_signature_expiration=60)
    answer = httpx.post(url, files={"file": b"content"}, trust_env=False)
    assert answer.json() == [
        {"path": "/home/user/signed file.txt", "name": "signed file.txt", "type": "file"}
    ]
    for url in (
        box.download_url("signed file.txt"),
        box.download_url("signed file.txt", user="user", use_signature_expiration=60),
    ):
        assert httpx.get(url, trust_env=False).text == "content"


def test_a_signature_is_good_for_what_was_signed_alone(
    box: Sandbox, anonymous: httpx.Client
) -> None:
    box.files.write("one", "1")
    box.files.write("two", "2")
    query = signed(box, "one", "read")
    assert anonymous.get("/files", params=query).text == "1"
    for wrong in (
        {**query, "path": "two"},
        {**query, "path": "/home/user/one"},
        {**query, "username": "root"},
        {**query, "username": "user"},
        {**query, "signature": query["signature"].swapcase()},
        {**query, "signature": ""},
        {**query, "signature_expiration": str(int(time.time()) + 100)},
        signed(box, "one", "write"),
    ):
        answer = anonymous.get("/files", params=wrong)
        assert refusal(answer) == (401, "invalid signature")
    answer = anonymous.post("/files", params=query, files={"file": b"x"})
    assert refusal(answer) == (401, "invalid signature")
    body = {"source_paths": ["one"], "destination": "two"}
    answer = anonymous.post("/files/compose", params=signed(box, "one", "write"), json=body)
    assert answer.status_code == 401
    assert box.files.read("two") == "2"


def test_an_expired_signature(box: Sandbox, anonymous: httpx.Client) -> None:
    query = signed(box, "one", "read", expiration=int(time.time()) - 1)
    answer = anonymous.get("/files", params=query)
    assert answer.status_code == 401
    assert answer.json() == {"code": 401, "message": "signature is already expired"}


def test_a_user_in_a_signature(box: Sandbox, anonymous: httpx.Client) -> None:
    box.files.write("of-root", "r", user="root")
    assert anonymous.get("/files", params=signed(box, "of-root", "read", "root")).text == "r"
