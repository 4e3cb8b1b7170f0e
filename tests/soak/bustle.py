"""What goes on in a host while one of its processes is struck down."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import httpx
from e2b import SandboxException

from code_interpreter import Sandbox
from tests.soak.world import World

PATIENCE = 60.0
_EXPECTED = (SandboxException, httpx.HTTPError, OSError, httpx.StreamError)


class Bustle:
    """Makes, uses, pauses and ends sandboxes. They may fail; they may not answer wrongly."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._options = world.options
        self._ways = chance.sample([self._use, self._pause, self._make, self._end], 2)
        self._pool = ThreadPoolExecutor(2)
        self._under_way: list[Future[None]] = []
        self.outcomes: list[str] = []

    def __enter__(self) -> Self:
        self._under_way = [self._pool.submit(self._try, way) for way in self._ways]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for one in self._under_way:
                one.result(PATIENCE)
        finally:
            self._pool.shutdown(wait=False)

    def _try(self, way: Callable[[], None]) -> None:
        try:
            way()
        except _EXPECTED as error:
            self.outcomes.append(type(error).__name__)
        else:
            self.outcomes.append("done")

    def _create(self) -> Sandbox:
        sandbox: Sandbox = Sandbox.create(request_timeout=20, **self._options)
        return sandbox

    def _make(self) -> None:
        for _ in range(2):
            self._create()

    def _use(self) -> None:
        sandbox = self._create()
        for number in range(3):
            answer = sandbox.run_code(f"{number} + 1", timeout=20)
            assert answer.error is not None or answer.text == str(number + 1)

    def _pause(self) -> None:
        sandbox = self._create()
        sandbox.run_code("x = 1", timeout=20)
        for _ in range(2):
            sandbox.pause()
            sandbox.connect(timeout=600)

    def _end(self) -> None:
        self._create().kill()
