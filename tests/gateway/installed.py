"""Which of the languages this machine has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

_NEEDS = {
    "java": (shutil.which("javac"), "needs a JDK (apt-get install default-jdk-headless)"),
    "r": (
        Path("/usr/lib/R/site-library/IRkernel").exists(),
        "needs IRkernel (apt-get install r-cran-irkernel)",
    ),
}


def needs(language: str) -> pytest.MarkDecorator:
    """Skips where the language's kernel cannot run, and says what would have to be installed."""
    there, reason = _NEEDS.get(language, (True, ""))
    return pytest.mark.skipif(not there, reason=reason)
