"""Durations of one thing, and the line that they make in the table."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """Milliseconds; ``ratio`` and ``added`` compare the medians with a baseline of the same run.

    ``failed`` attempts are not among the ``count`` that was measured.
    """

    name: str
    count: int
    p50: float
    p95: float
    p99: float
    ratio: float | None = None
    added: float | None = None
    target: str = ""
    failed: int = 0


@dataclass
class Samples:
    name: str
    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def add(self, seconds: float) -> None:
        self.seconds.append(seconds)

    @property
    def p50(self) -> float:
        return statistics.median(self.seconds) * 1000

    def percentile(self, percent: int) -> float:
        """In milliseconds, by the nearest rank."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000

    def row(self, *, baseline: Samples | None = None, target: str = "") -> Row:
        return Row(
            name=self.name,
            count=len(self.seconds),
            p50=self.p50,
            p95=self.percentile(95),
            p99=self.percentile(99),
            ratio=self.p50 / baseline.p50 if baseline else None,
            added=self.p50 - baseline.p50 if baseline else None,
            target=target,
            failed=self.failed,
        )


def time_of(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def show(rows: Iterable[Row]) -> None:
    """A table for people, then one line of JSON for machines."""
    rows = list(rows)
    table = Table("", "n", "p50 ms", "p95 ms", "p99 ms", "ratio", "+ ms", "target", "ok %")
    for row in rows:
        table.add_row(
            row.name,
            str(row.count),
            f"{row.p50:.3f}",
            f"{row.p95:.3f}",
            f"{row.p99:.3f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.added is None else f"{row.added:.3f}",
            row.target,
            f"{100 * row.count / (row.count + row.failed):.4g}",
        )
    Console(width=130).print(table)
    print(json.dumps([asdict(row) for row in rows]))
