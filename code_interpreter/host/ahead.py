"""How many sandboxes are made ahead, where the settings leave it to the machine."""

from __future__ import annotations

import psutil

from code_interpreter.host.settings import Settings

BURST = 20
"""As many at once are reckoned with; more are not kept, however large the machine is."""
LEAST_POOLED = 8
"""As many are kept ready on any machine, while they are asked for that fast."""
BYTES = 28 * 1024 * 1024
"""What one takes, ready or half made."""
PART_OF_MACHINE = 40
"""What is made ahead takes no more than this part of the machine's memory."""


def most_pooled(settings: Settings) -> int:
    """How many may be kept ready."""
    if settings.pool_max is not None:
        return max(settings.pool_size, settings.pool_max)
    return max(settings.pool_size, LEAST_POOLED, _by_memory())


def most_furnished(settings: Settings) -> int:
    """How many are kept half made, together with those that are ready."""
    return _by_memory() if settings.furnished_max is None else settings.furnished_max


def _by_memory() -> int:
    return min(BURST, psutil.virtual_memory().total // PART_OF_MACHINE // BYTES)
