"""Limits and haste of user code."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, resource
from code_interpreter.guest.rlimits import come_after_supervisors
come_after_supervisors()
print(os.getpriority(os.PRIO_PROCESS, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""


@pytest.mark.parametrize(("host", "code"), [(0, 5), (3, 5), (15, 15), (19, 19)])
def test_user_code_is_never_hastier_than_its_host(host: int, code: int) -> None:
    """To be so is refused to all but root, and then nothing would start."""
    command = ["nice", "-n", str(host), sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"{code} 0 0\n"
