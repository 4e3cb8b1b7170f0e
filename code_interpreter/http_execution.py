"""A cell over ``POST /execute``, for servers without our WebSocket: E2B's cloud."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import httpx

from code_interpreter.cell import Cell
from code_interpreter.collector import Callbacks, Collector, settle
from code_interpreter.errors import (
    ExecutionTimeoutException,
    RequestTimeoutException,
    SandboxException,
    from_status,
)
from code_interpreter.link import Link
from code_interpreter.models import Execution


class Lines:
    """Bytes in, one JSON object a line out. Only a line feed ends a line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return _parse(lines)

    def end(self) -> Iterator[dict[str, Any]]:
        """The last line, if it was not ended."""
        return _parse([self._rest])


def _parse(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise SandboxException(f"The sandbox sent what cannot be read: {error}") from error


def read_lines(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    lines = Lines()
    for chunk in chunks:
        yield from lines.feed(chunk)
    yield from lines.end()


async def read_lines_async(chunks: AsyncIterable[bytes]) -> AsyncIterator[dict[str, Any]]:
    lines = Lines()
    async for chunk in chunks:
        for line in lines.feed(chunk):
            yield line
    for line in lines.end():
        yield line


def _limits(cell: Cell, connect: float | None) -> httpx.Timeout:
    """The transport of the E2B SDK takes read plus write as the limit of the whole request."""
    if cell.timeout is None:
        return httpx.Timeout(None)
    return httpx.Timeout(connect=connect, read=cell.timeout, write=0.0, pool=connect)


def run_over_http(
    client: httpx.Client, link: Link, cell: Cell, callbacks: Callbacks, connect: float | None
) -> Execution:
    """Run a cell. ``connect`` is seconds. Raises httpx's errors if the connection breaks."""
    collector = Collector(callbacks)
    try:
        with client.stream(
            "POST",
            f"{link.url}/execute",
            json=cell.http_body(),
            headers=link.headers(),
            timeout=_limits(cell, connect),
        ) as response:
            if not response.is_success:
                response.read()
                raise from_status(response.status_code, response.text)
            for line in read_lines(response.iter_bytes()):
                call = collector.take_line(line)
                if call is not None:
                    call[0](call[1])
    except httpx.ReadTimeout as late:
        raise ExecutionTimeoutException(collector.execution, cell.timeout) from late
    except httpx.TimeoutException as late:
        raise RequestTimeoutException from late
    return collector.execution


async def run_over_http_async(
    client: httpx.AsyncClient, link: Link, cell: Cell, callbacks: Callbacks, connect: float | None
) -> Execution:
    """`run_over_http`, with callbacks that may be coroutine functions."""
    collector = Collector(callbacks)
    try:
        async with client.stream(
            "POST",
            f"{link.url}/execute",
            json=cell.http_body(),
            headers=link.headers(),
            timeout=_limits(cell, connect),
        ) as response:
            if not response.is_success:
                await response.aread()
                raise from_status(response.status_code, response.text)
            async for line in read_lines_async(response.aiter_bytes()):
                call = collector.take_line(line)
                if call is not None:
                    await settle(call[0](call[1]))
    except httpx.ReadTimeout as late:
        raise ExecutionTimeoutException(collector.execution, cell.timeout) from late
    except httpx.TimeoutException as late:
        raise RequestTimeoutException from late
    return collector.execution
