"""How fast a host and its sandboxes answer while something goes on."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from code_interpreter import Sandbox
from tests.service import Service

PAUSE = 0.01
"""Seconds between two questions."""
Question = Callable[[], None]


@dataclass
class Latencies:
    """Seconds that each question took, by name."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    def p99(self, name: str) -> float:
        """One in a hundred took longer."""
        values = sorted(self.taken[name])
        return values[max(0, math.ceil(len(values) * 0.99) - 1)]


@contextmanager
def watching(questions: Mapping[str, Question]) -> Iterator[Latencies]:
    """Ask every question again and again, each in a thread of its own."""
    found, stop, failures = Latencies(), threading.Event(), []

    def ask(name: str, question: Question) -> None:
        while not stop.wait(PAUSE):
            began = time.monotonic()
            try:
                question()
            except BaseException as error:
                failures.append((name, error))
                return
            found.taken[name].append(time.monotonic() - began)

    threads = []
    for name, question in questions.items():
        found.taken[name] = []
        threads.append(threading.Thread(target=ask, args=(name, question), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    for name, error in failures:
        raise AssertionError(f"{name} went wrong") from error


def health(service: Service, client: httpx.Client) -> Question:
    """Of the host."""

    def ask() -> None:
        assert client.get(f"{service.url}/health").status_code == 204

    return ask


def ping(service: Service, client: httpx.Client, sandbox: Sandbox, port: int) -> Question:
    """Of envd (49983) or the gateway (49999) of a sandbox."""
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}

    def ask() -> None:
        answer = client.get(f"{service.url}/health", headers=headers)
        assert answer.status_code in (200, 204), answer.text

    return ask


def cell(sandbox: Sandbox) -> Question:
    def ask() -> None:
        answer = sandbox.run_code("1 + 1", timeout=20)
        assert answer.text == "2", answer

    return ask
