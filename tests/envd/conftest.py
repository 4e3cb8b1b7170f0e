"""E2B's base client, unmodified, against the real host with its default runtime."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from e2b import AsyncSandbox, Sandbox

from tests.service import Service


@pytest.fixture
def sandbox(service: Service) -> Iterator[Sandbox]:
    made = Sandbox.create(timeout=300, **service.options)
    yield made
    made.kill()


@pytest.fixture
async def async_sandbox(service: Service) -> AsyncIterator[AsyncSandbox]:
    made = await AsyncSandbox.create(timeout=300, **service.options)
    yield made
    await made.kill()


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    """One for all tests of a module, which leave it as they found it or use a `place`."""
    made = Sandbox.create(
        timeout=600, envs={"GLOBAL": "global", "BOTH": "global"}, **service.options
    )
    yield made
    made.kill()


@pytest.fixture
def place(box: Sandbox) -> str:
    """A new directory."""
    path = f"/home/user/{secrets.token_hex(4)}"
    box.files.make_dir(path)
    return path


@pytest.fixture
def anonymous(service: Service, box: Sandbox) -> Iterator[httpx.Client]:
    """Reaches envd, but has no token."""
    headers = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49983"}
    with httpx.Client(base_url=service.url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def http(anonymous: httpx.Client, box: Sandbox) -> httpx.Client:
    token = box._envd_access_token
    assert token is not None
    anonymous.headers["X-Access-Token"] = token
    return anonymous
