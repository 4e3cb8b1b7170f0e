"""A create that is sent twice makes one sandbox: ``Idempotency-Key`` on ``POST /v2/sandboxes``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from code_interpreter.host.errors import BadRequest, Conflict, IdempotencyMismatch
from code_interpreter.host.records import Record
from code_interpreter.host.wishes import Wish

KEPT = 10_000
"""Keys that are remembered; the oldest go first."""
_KEY = re.compile(r"[a-z0-9-]{1,255}")


def check_key(key: str | None) -> str | None:
    """Raises `BadRequest`."""
    if key is not None and not _KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must be 1 to 255 characters of a-z, 0-9 and '-'")
    return key


class OutcomeUnknown(Conflict):
    """The sandbox of this key has ended meanwhile."""

    error_code = "idempotency_outcome_unknown"


class Repetitions:
    """Remembers which key made which sandbox, as long as the host knows the sandbox."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[str | None, str]] = {}
        self._making: dict[str, tuple[str | None, asyncio.Future[None]]] = {}

    def remember(self, record: Record) -> None:
        if record.idempotency_key is None:
            return
        while len(self._made) >= KEPT:
            del self._made[next(iter(self._made))]
        self._made[record.idempotency_key] = (record.request_digest, record.sandbox_id)

    async def once(
        self,
        wish: Wish,
        create: Callable[[Wish], Awaitable[Record]],
        find: Callable[[str], Record | None],
    ) -> Record:
        """Create, or answer with what the same key has made; waits for one that is under way."""
        key = wish.idempotency_key
        assert key is not None
        while key in self._making:
            digest, done = self._making[key]
            _check_same(digest, wish)
            await asyncio.wait([done])
        if key in self._made:
            digest, sandbox_id = self._made[key]
            _check_same(digest, wish)
            record = find(sandbox_id)
            if record is None:
                raise OutcomeUnknown(f"the sandbox made with this key, {sandbox_id}, has ended")
            return record
        return await self._create(key, wish, create)

    async def _create(
        self, key: str, wish: Wish, create: Callable[[Wish], Awaitable[Record]]
    ) -> Record:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._making[key] = (wish.digest, done)
        try:
            record = await create(wish)
            self.remember(record)
            return record
        finally:
            del self._making[key]
            done.set_result(None)


def _check_same(digest: str | None, wish: Wish) -> None:
    if digest != wish.digest:
        raise IdempotencyMismatch(
            "this Idempotency-Key came before with another request: use a new key"
        )
