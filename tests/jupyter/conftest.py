"""A sandbox whose agent has left something behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from code_interpreter import Sandbox
from tests.service import Service


@pytest.fixture(scope="module")
def sandbox(service: Service) -> Iterator[Sandbox]:
    made = Sandbox.create(**service.options)
    made.run_code("made_by_agent = 41")
    yield made
    made.kill()


@pytest.fixture
def context_id(sandbox: Sandbox) -> str:
    """Of the context that the agent uses."""
    return next(each.id for each in sandbox.list_code_contexts() if each.language == "python")
