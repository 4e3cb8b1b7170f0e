"""A host that is reached as one on a server of its own is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integrations.tls import service_behind_tls


@pytest.fixture(scope="session")
def behind_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What to tell programs with E2B's oldest clients."""
    with service_behind_tls(tmp_path_factory.mktemp("tls")) as told:
        yield told
