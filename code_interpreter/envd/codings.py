"""Content codings of HTTP: identity and gzip."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from code_interpreter.envd.answers import Refused

_GZIP = 31
"""``wbits`` of zlib for gzip's own header."""
MOST_AT_ONCE = 1024 * 1024
"""Bytes that a piece of a compressed body may grow to before it is passed on."""


def choose_coding(accepted: str | None) -> str:
    """``identity`` wherever the client takes it, else ``gzip``; of an Accept-Encoding header.

    Compressing costs more than a socket of this machine does, so it is done only for who
    asks for nothing else. Raises `Refused` (406).
    """
    qualities = _qualities(accepted or "identity")
    anything = qualities.get("*")
    identity = qualities.get("identity", 0.0 if anything == 0 else 1.0)
    gzip = qualities.get("gzip", anything or 0.0)
    if gzip > 0 and (identity == 0 or set(qualities) == {"gzip"}):
        return "gzip"
    if identity > 0:
        return "identity"
    raise Refused(406, f"no acceptable encoding in '{accepted}'; there are identity and gzip")


def _qualities(header: str) -> dict[str, float]:
    found = {}
    for item in header.lower().split(","):
        name, _, parameters = item.partition(";")
        _, _, quality = parameters.replace(" ", "").partition("q=")
        try:
            found[name.strip()] = float(quality) if quality else 1.0
        except ValueError:
            found[name.strip()] = 0.0
    return found


async def compressed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """As gzip."""
    compressor = zlib.compressobj(wbits=_GZIP)
    async for piece in pieces:
        if ready := await asyncio.to_thread(compressor.compress, piece):
            yield ready
    yield compressor.flush()


async def decoded(pieces: AsyncIterator[bytes], coding: str | None) -> AsyncIterator[bytes]:
    """Of a request's Content-Encoding. Raises `Refused`."""
    match (coding or "identity").strip().lower():
        case "identity":
            async for piece in pieces:
                yield piece
        case "gzip":
            async for piece in _decompressed(pieces):
                yield piece
        case _:
            raise Refused(400, f"Content-Encoding '{coding}' is not known; there is gzip")


async def _decompressed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    decompressor = zlib.decompressobj(wbits=_GZIP)
    try:
        async for piece in pieces:
            rest = piece
            while rest:
                if decompressor.eof:  # a file of several gzip members
                    decompressor = zlib.decompressobj(wbits=_GZIP)
                yield decompressor.decompress(rest, MOST_AT_ONCE)
                rest = decompressor.unconsumed_tail or decompressor.unused_data
        if not decompressor.eof:
            raise Refused(400, "the gzip body ends too early")
    except zlib.error as error:
        raise Refused(400, f"the body is not gzip: {error}") from error
