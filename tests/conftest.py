"""What tests of several rooms share."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from code_interpreter.host.templates import TemplateStore


@pytest.fixture(scope="session")
def prepared_templates() -> Path:
    """A directory with the sandbox template in it; kept, because making it takes a minute."""
    chosen = os.environ.get("CODE_INTERPRETER_TEMPLATES_DIR")
    default = Path(tempfile.gettempdir(), f"code-interpreter-templates-{os.getuid()}")
    directory = Path(chosen) if chosen else default
    asyncio.run(TemplateStore(directory).prepare("code-interpreter-v1", print))
    return directory
