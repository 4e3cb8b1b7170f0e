"""Memory that a large execution needed goes back to the system soon after it."""

from __future__ import annotations

import asyncio
import ctypes

SECONDS = 3.0
"""After the last execution that was large; until then it would be needed again."""
LARGE_BYTES = 1 << 20


class Relief:
    """glibc keeps what was freed; see malloc_trim(3). Elsewhere this does nothing."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._timer: asyncio.TimerHandle | None = None

    def after(self, size: int) -> None:
        """An execution that wrote ``size`` bytes has ended."""
        if self._trim is None or size < LARGE_BYTES:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._trim, 0)
