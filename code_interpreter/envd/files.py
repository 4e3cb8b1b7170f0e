"""``/files``: the contents of files, down and up, with flat memory."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import gzip
import os
import re
import stat
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from code_interpreter.envd.answers import Refused
from code_interpreter.envd.entries import replace_metadata
from code_interpreter.envd.paths import BadPath, make_parents, resolve
from code_interpreter.envd.state import SignatureRefused, State, user_name
from code_interpreter.guest.users import UnknownUser, User

CHUNK = 1024 * 1024
SPOOLED = 256 * 1024
"""Bytes of an upload that are gathered before they are written: one thread hop a piece."""
METADATA_HEADER = "x-metadata-"
LONGEST_KEY, LONGEST_METADATA = 246, 4096
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Files:
    """The handlers of ``/files`` and ``/files/compose``."""

    def __init__(self, state: State) -> None:
        self._state = state

    # --- who, and which file --------------------------------------------------------------

    def _authorize(self, request: Request, operation: str) -> User:
        query, state = request.query_params, self._state
        name = query.get("username")
        if (signature := query.get("signature")) is not None:
            expiration = query.get("signature_expiration")
            try:
                path = query.get("path", "")
                state.check_signature(path, operation, name or "", signature, expiration)
            except SignatureRefused as error:
                raise Refused(401, str(error)) from error
        elif not state.may_enter(request.headers.get("x-access-token")):
            raise Refused(401, "the access token is missing or wrong (header X-Access-Token)")
        try:
            return state.user(name or user_name(request.headers.get("authorization")))
        except UnknownUser as error:
            raise Refused(401, str(error)) from error

    def resolve(self, path: str, user: User) -> str:
        try:
            return resolve(path, user)
        except BadPath as error:
            raise Refused(400, str(error)) from error

    # --- down -----------------------------------------------------------------------------

    async def download(self, request: Request) -> Response:
        user = self._authorize(request, "read")
        given = request.query_params.get("path", "")
        path = self.resolve(given, user)
        coding = _coding(request.headers.get("accept-encoding"))
        descriptor, status = await asyncio.to_thread(_open_to_read, path)
        headers = {
            "Content-Disposition": "inline",
            "Accept-Ranges": "bytes",
            "Last-Modified": email.utils.formatdate(status.st_mtime, usegmt=True),
            "Vary": "Accept-Encoding",
        }
        if coding == "gzip":
            headers["Content-Encoding"] = "gzip"
            return _stream(_gzipped(_contents(descriptor)), 200, headers)
        # Files of procfs say they are empty; only reading tells.
        size = status.st_size
        if size == 0:
            return _stream(_contents(descriptor), 200, headers)
        span = _span(request.headers.get("range"), size)
        if span is None:
            headers["Content-Length"] = str(size)
            return _stream(_contents(descriptor, size), 200, headers)
        first, last = span
        if first > last:
            os.close(descriptor)
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        os.lseek(descriptor, first, os.SEEK_SET)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        headers["Content-Length"] = str(last - first + 1)
        return _stream(_contents(descriptor, last - first + 1), 206, headers)

    # --- up -------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        user = self._authorize(request, "write")
        target = request.query_params.get("path")
        kind, options = parse_options_header(request.headers.get("content-type") or "")
        metadata = _metadata(request)
        body = _decoded(request)
        if kind == b"multipart/form-data":
            boundary = options.get(b"boundary")
            if not boundary:
                raise Refused(400, "the multipart body's Content-Type has no boundary")
            uploads = _Uploads(self, user, target, metadata)
            written = await uploads.receive(body, boundary)
        elif kind == b"application/octet-stream":
            if not target:
                raise Refused(400, "an octet-stream upload needs the query parameter 'path'")
            sink = await self.open_to_write(target, user, metadata)
            async with sink:
                async for piece in body:
                    await sink.write(piece)
            written = [sink]
        else:
            raise Refused(
                400,
                "Content-Type must be multipart/form-data or application/octet-stream, "
                f"not {kind.decode(errors='replace') or 'absent'}",
            )
        return JSONResponse([sink.describe() for sink in written])

    async def open_to_write(self, path: str, user: User, metadata: dict[str, str]) -> Sink:
        resolved = self.resolve(path, user)
        own = self._state.config.isolated
        descriptor = await asyncio.to_thread(_open_to_write, resolved, user, own)
        return Sink(resolved, descriptor, metadata)

    async def compose(self, request: Request) -> Response:
        """Put files together into one and remove them."""
        user = self._authorize(request, "write")
        try:
            body: Any = await request.json()
            sources, destination = body["source_paths"], body["destination"]
            name = body.get("username")
            assert isinstance(destination, str)
            assert all(isinstance(source, str) for source in sources)
        except (ValueError, KeyError, TypeError, AssertionError, AttributeError) as error:
            raise Refused(400, "expected {source_paths: [string], destination: string}") from error
        if name:
            try:
                user = self._state.user(name)
            except UnknownUser as error:
                raise Refused(401, str(error)) from error
        paths = [self.resolve(source, user) for source in sources]
        sink = await self.open_to_write(destination, user, {})
        async with sink:
            for path in paths:
                descriptor, _ = await asyncio.to_thread(_open_to_read, path)
                async for piece in _contents(descriptor):
                    await sink.write(piece)
        for path in paths:
            if path != sink.path:
                await asyncio.to_thread(os.unlink, path)
        return JSONResponse(sink.describe())


# --- reading ----------------------------------------------------------------------------


def _open_to_read(path: str) -> tuple[int, os.stat_result]:
    """Never blocks: a FIFO or a device is refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise Refused(404, f"path '{path}' does not exist") from error
    except OSError as error:
        raise _refused(path, error) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
    raise Refused(400, f"path '{path}' is {what}")


async def _contents(descriptor: int, most: int | None = None) -> AsyncIterator[bytes]:
    """To the end of the file, or ``most`` bytes. Closes the descriptor."""
    try:
        while most is None or most > 0:
            wanted = CHUNK if most is None else min(CHUNK, most)
            piece = await asyncio.to_thread(os.read, descriptor, wanted)
            if not piece:
                return
            if most is not None:
                most -= len(piece)
            yield piece
    finally:
        os.close(descriptor)


async def _gzipped(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    compressor = zlib.compressobj(wbits=31)
    async for piece in pieces:
        if compressed := await asyncio.to_thread(compressor.compress, piece):
            yield compressed
    yield compressor.flush()


def _stream(pieces: AsyncIterator[bytes], status: int, headers: dict[str, str]) -> Response:
    media = "application/octet-stream"
    return StreamingResponse(pieces, status, headers, media_type=media)


def _coding(accepted: str | None) -> str:
    """``identity`` wherever the client takes it, else ``gzip``. Refuses what is neither."""
    qualities: dict[str, float] = {}
    for item in (accepted or "identity").lower().split(","):
        name, _, parameters = item.strip().partition(";")
        _, _, quality = parameters.replace(" ", "").partition("q=")
        with contextlib.suppress(ValueError):
            qualities[name.strip()] = float(quality) if quality else 1.0
    anything = qualities.get("*")
    gzip_quality = qualities.get("gzip", anything or 0)
    identity_quality = qualities.get("identity", anything)
    only_gzip = set(qualities) == {"gzip"} and gzip_quality > 0
    if only_gzip or (identity_quality == 0 and gzip_quality > 0):
        return "gzip"
    if identity_quality == 0 or (
        identity_quality is None and qualities and not gzip_quality and "deflate" not in qualities
    ):
        raise Refused(406, f"no acceptable encoding in '{accepted}'; there are identity and gzip")
    return "identity"


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range; None for all of it. First > last: there is none."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if first:
        return int(first), min(int(last) if last else size - 1, size - 1)
    return (max(0, size - int(last)), size - 1) if last else None


# --- writing ----------------------------------------------------------------------------


def _open_to_write(path: str, user: User, own: bool) -> int:
    try:
        make_parents(path, user, own=own)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(path, flags, 0o666 & ~_umask())
    except OSError as error:
        raise _refused(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(400, f"path '{path}' is not a regular file")
        if own:
            os.fchown(descriptor, user.uid, user.gid)
        if os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _umask() -> int:
    return 0o022


def _refused(path: str, error: OSError) -> Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, f"not enough disk space to write '{path}'")
    if error.errno == errno.EISDIR:
        return Refused(400, f"path '{path}' is a directory")
    status = 403 if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else 400
    return Refused(status, f"path '{path}': {(error.strerror or str(error)).lower()}")


@dataclass(slots=True)
class Sink:
    """A file that is being written."""

    path: str
    descriptor: int
    metadata: dict[str, str]
    _buffer: bytearray = field(default_factory=bytearray)

    async def __aenter__(self) -> Sink:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def write(self, piece: bytes) -> None:
        self._buffer += piece
        if len(self._buffer) >= SPOOLED:
            await self._flush()

    async def _flush(self) -> None:
        if not self._buffer:
            return
        piece, self._buffer = self._buffer, bytearray()
        try:
            await asyncio.to_thread(_write_all, self.descriptor, piece)
        except OSError as error:
            raise _refused(self.path, error) from error

    async def close(self) -> None:
        if self.descriptor < 0:
            return
        try:
            await self._flush()
            replace_metadata(self.descriptor, self.metadata)
        except OSError as error:
            raise _refused(self.path, error) from error
        finally:
            os.close(self.descriptor)
            self.descriptor = -1

    def describe(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "path": self.path,
            "name": os.path.basename(self.path),
            "type": "file",
        }
        return entry | ({"metadata": self.metadata} if self.metadata else {})


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _metadata(request: Request) -> dict[str, str]:
    found = {
        name.removeprefix(METADATA_HEADER): value
        for name, value in request.headers.items()
        if name.startswith(METADATA_HEADER)
    }
    for name, value in found.items():
        if not name or len(name) > LONGEST_KEY or not (name + value).isprintable():
            raise Refused(400, f"metadata key '{name[:50]}' is empty, too long or not printable")
        if not (name + value).isascii():
            raise Refused(400, f"metadata '{name[:50]}' must be ASCII")
    if sum(len(name) + len(value) for name, value in found.items()) > LONGEST_METADATA:
        raise Refused(400, f"metadata has at most {LONGEST_METADATA} bytes in all")
    return found


async def _decoded(request: Request) -> AsyncIterator[bytes]:
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding == "identity":
        async for piece in request.stream():
            yield piece
        return
    if coding != "gzip":
        raise Refused(415, f"Content-Encoding '{coding}' is not known; there is gzip")
    decompressor = zlib.decompressobj(wbits=31)
    try:
        async for piece in request.stream():
            while piece:
                yield decompressor.decompress(piece, CHUNK)
                piece = decompressor.unconsumed_tail
        yield decompressor.flush()
    except (zlib.error, gzip.BadGzipFile) as error:
        raise Refused(400, f"the body is not gzip: {error}") from error


class _Uploads:
    """Writes the parts of a multipart body to their files, as they arrive."""

    def __init__(
        self, files: Files, user: User, target: str | None, metadata: dict[str, str]
    ) -> None:
        self._files = files
        self._user = user
        self._target = target
        self._metadata = metadata
        self._events: list[tuple[str, bytes]] = []
        self._sinks: list[Sink] = []
        self._current: Sink | None = None
        self._headers: dict[str, str] = {}
        self._name = b""
        self._value = b""

    async def receive(self, body: AsyncIterator[bytes], boundary: bytes) -> list[Sink]:
        def on(event: str) -> Any:
            return lambda data, start, end: self._events.append((event, bytes(data[start:end])))

        def at(event: str) -> Any:
            return lambda: self._events.append((event, b""))

        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": at("begin"),
                "on_header_field": on("field"),
                "on_header_value": on("value"),
                "on_header_end": at("header"),
                "on_headers_finished": at("headers"),
                "on_part_data": on("data"),
                "on_part_end": at("end"),
            },
        )
        try:
            async for piece in body:
                parser.write(piece)
                await self._handle()
            parser.finalize()
            await self._handle()
        except ValueError as error:  # python_multipart's errors
            raise Refused(400, f"the multipart body is broken: {error}") from error
        finally:
            for sink in self._sinks:
                await sink.close()
        if not self._sinks:
            raise Refused(400, "the multipart body holds no part called 'file'")
        return self._sinks

    async def _handle(self) -> None:
        events, self._events = self._events, []
        for event, data in events:
            match event:
                case "begin":
                    self._headers = {}
                case "field":
                    self._name += data
                case "value":
                    self._value += data
                case "header":
                    name = self._name.decode("latin-1").lower()
                    self._headers[name] = self._value.decode(errors="replace")
                    self._name = self._value = b""
                case "headers":
                    self._current = await self._open()
                case "data" if self._current is not None:
                    await self._current.write(data)
                case "end" if self._current is not None:
                    await self._current.close()

    async def _open(self) -> Sink | None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        if options.get(b"name") != b"file":
            return None
        filename = options.get(b"filename")
        path = self._target or unquote((filename or b"").decode(errors="replace"))
        if not path:
            raise Refused(400, "a part has no filename, and there is no query parameter 'path'")
        resolved = self._files.resolve(path, self._user)
        if any(sink.path == resolved for sink in self._sinks):
            raise Refused(400, f"path '{path}' is uploaded twice in one request")
        sink = await self._files.open_to_write(path, self._user, self._metadata)
        self._sinks.append(sink)
        return sink
