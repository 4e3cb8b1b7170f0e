"""Clients find the host as users have them find it: by the variables that it prints."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service import Service


@pytest.fixture(autouse=True)
def environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What ``code-interpreter serve`` printed, exported."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    return service.environment


@pytest.fixture(params=["code_interpreter", "e2b_code_interpreter"])
def package(request: pytest.FixtureRequest) -> Any:
    """Our client, and E2B's unmodified one: a program changes its import line only."""
    return importlib.import_module(request.param)


@pytest.fixture
def sandbox(package: Any) -> Iterator[Any]:
    sandbox = package.Sandbox.create()
    yield sandbox
    sandbox.kill()
