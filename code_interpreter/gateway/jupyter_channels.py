"""A kernel's channels on one WebSocket, as Jupyter's clients use them.

Both forms: with the subprotocol ``v1.kernel.websocket.jupyter.org`` (offsets, then channel
and message parts as they are), and without one (JSON, buffers in a binary frame).
https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
"""

from __future__ import annotations

import itertools
import json
import struct
from dataclasses import replace

from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from code_interpreter.gateway.context import Context
from code_interpreter.gateway.gateway import Gateway, Refusal
from code_interpreter.gateway.listeners import ClientMessage
from code_interpreter.gateway.live_kernels import LiveKernels
from code_interpreter.gateway.message import KernelMessage
from code_interpreter.protocol.executions import TABLE_MIME

V1 = "v1.kernel.websocket.jupyter.org"
_MISREAD = (ValueError, LookupError, TypeError, AttributeError, struct.error)
_DISPLAYS = frozenset({"display_data", "execute_result", "update_display_data"})
_OURS = frozenset({"e2b/data", "e2b/chart", TABLE_MIME})
_CHANNELS = ("shell", "control", "stdin")


class Channels(WebSocketHandler):
    def initialize(self, gateway: Gateway, live: LiveKernels) -> None:
        self._live = live
        self._context: Context | None = None
        self._is_v1 = False
        self._session = ""

    def prepare(self) -> None:
        try:
            self._context = self._live.find(str(self.path_args[0]))
        except Refusal as refusal:
            raise HTTPError(404, reason=str(refusal)) from refusal

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return V1 if V1 in subprotocols else None

    def open(self, kernel_id: str) -> None:
        assert self._context is not None
        self._is_v1 = self.selected_subprotocol == V1  # which cannot be asked once it is closed
        self._context.prepare()
        self._session = self.get_query_argument("session_id", "")
        self._context.listeners.add(self, self._session)

    def on_message(self, message: str | bytes) -> None:
        try:
            read = self._read(message)
        except (*_MISREAD, RecursionError) as error:
            self.close(1003, f"message not understood: {error}"[:120])
            return
        if read.channel in _CHANNELS and self._context is not None:
            self._context.pass_on(self, read)

    def hear(self, channel: str, message: KernelMessage) -> None:
        """A message of the kernel for this client."""
        message = _as_plain_jupyter(message)
        try:
            if self._is_v1:
                self.write_message(_to_v1(channel, message), binary=True)
            else:
                data = _to_json(channel, message)
                self.write_message(data, binary=isinstance(data, bytes))
        except WebSocketClosedError:
            return

    def on_close(self) -> None:
        if self._context is not None:
            self._context.listeners.remove(self, self._session)

    def _read(self, message: str | bytes) -> ClientMessage:
        if self._is_v1:
            return _from_v1(message.encode() if isinstance(message, str) else message)
        return _from_json(message)


def _as_plain_jupyter(message: KernelMessage) -> KernelMessage:
    """Without the formats that only our clients know: others print them, or keep them in files."""
    data = message.content.get("data") if message.type in _DISPLAYS else None
    if not isinstance(data, dict) or _OURS.isdisjoint(data):
        return message
    plain = {mime: value for mime, value in data.items() if mime not in _OURS}
    content = {**message.content, "data": plain}
    return replace(message, content=content, raw=(*message.raw[:3], json.dumps(content).encode()))


# --- v1 ----------------------------------------------------------------------------------


def _from_v1(data: bytes) -> ClientMessage:
    (count,) = struct.unpack_from("<Q", data)
    if not 6 <= count <= 4096:
        raise ValueError(f"{count} offsets")
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    channel, *parts = [data[start:end] for start, end in itertools.pairwise(offsets)]
    header, parent, metadata, content = (json.loads(part) for part in parts[:4])
    return ClientMessage(channel.decode(), header, parent, metadata, content, tuple(parts[4:]))


def _to_v1(channel: str, message: KernelMessage) -> bytes:
    parts = [channel.encode(), *message.raw, *message.buffers]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


# --- JSON --------------------------------------------------------------------------------


def _from_json(data: str | bytes) -> ClientMessage:
    buffers: tuple[bytes, ...] = ()
    if isinstance(data, bytes):
        (count,) = struct.unpack_from("!I", data)
        offsets = [*struct.unpack_from(f"!{count}I", data, 4), len(data)]
        pieces = [data[a:b] for a, b in itertools.pairwise(offsets)]
        data, buffers = pieces[0].decode(), tuple(pieces[1:])
    message = json.loads(data)
    return ClientMessage(
        str(message.get("channel") or "shell"),
        message["header"],
        message.get("parent_header") or {},
        message.get("metadata") or {},
        message.get("content") or {},
        buffers,
    )


def _to_json(channel: str, message: KernelMessage) -> str | bytes:
    text = json.dumps(
        {
            "channel": channel,
            "header": message.header,
            "msg_id": message.header.get("msg_id"),
            "msg_type": message.type,
            "parent_header": message.parent,
            "metadata": message.metadata,
            "content": message.content,
            "buffers": [],
        }
    )
    if not message.buffers:
        return text
    pieces = [text.encode(), *message.buffers]
    offsets = [4 * (len(pieces) + 1)]
    for piece in pieces[:-1]:
        offsets.append(offsets[-1] + len(piece))
    return struct.pack(f"!{len(offsets) + 1}I", len(offsets), *offsets) + b"".join(pieces)
