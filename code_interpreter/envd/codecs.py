"""Messages that cannot be read are the client's mistake, not envd's."""

from __future__ import annotations

import re
from typing import Any

from connectrpc.code import Code
from connectrpc.codec import Codec, proto_binary_codec, proto_json_codec
from connectrpc.errors import ConnectError

DEEPEST = 100
"""Levels of JSON. The decoder recurses without a limit, until the process is gone."""
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class CarefulCodec:
    """A codec that answers what it cannot decode with ``invalid_argument``."""

    def __init__(self, codec: Codec[Any, Any]) -> None:
        self._codec = codec
        self.name = codec.name
        self.encode = codec.encode

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Any:
        if self.name() == "json" and is_too_deep(data):
            raise ConnectError(
                Code.INVALID_ARGUMENT, f"the message has more than {DEEPEST} levels of JSON"
            )
        try:
            return self._codec.decode(data, message_class)
        except Exception as error:  # of many kinds, and all of them are about ``data``
            raise ConnectError(
                Code.INVALID_ARGUMENT, f"the message is no {message_class.__name__}: {error}"
            ) from error


def is_too_deep(data: bytes | bytearray) -> bool:
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            return True
    return False


def codecs() -> list[Codec[Any, Any]]:
    return [CarefulCodec(proto_json_codec()), CarefulCodec(proto_binary_codec())]
