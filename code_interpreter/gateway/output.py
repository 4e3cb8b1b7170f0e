"""How much of a stream is sent inline: its head and its tail, with exact counts. No I/O."""

from __future__ import annotations

from collections import deque

from code_interpreter.protocol.executions import OutputReceipt

HEAD_BYTES = 16 << 20
TAIL_BYTES = 256 << 10
PIECE_CHARACTERS = 1 << 18
"""A longer text goes out as several events."""


class BoundedStream:
    """Takes the text of one stream and gives back what is to be sent now."""

    def __init__(self, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
        self._head_left = head_bytes
        self._tail_bytes = tail_bytes
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self.total_bytes = 0
        self.omitted_bytes = 0
        self._sent_tail = False

    def take(self, text: str) -> list[str]:
        """The part of ``text`` to send, in pieces; what comes after the head is kept back."""
        size = _size(text)
        self.total_bytes += size
        if self._tail_size or self.omitted_bytes or size > self._head_left:
            inline, rest = _split(text, self._head_left)
            self._head_left = 0
            self._keep(rest)
            return _pieces(inline)
        self._head_left -= size
        return _pieces(text)

    def close(self) -> None:
        """Keep back all that comes from now on."""
        self._head_left = 0

    def _keep(self, text: str) -> None:
        for piece in _pieces(text):
            self._tail.append(piece)
            self._tail_size += _size(piece)
        while self._tail and self._tail_size - self._first_size() >= self._tail_bytes:
            size = self._first_size()
            self._tail.popleft()
            self._tail_size -= size
            self.omitted_bytes += size

    def _first_size(self) -> int:
        return _size(self._tail[0])

    def end(self, path: str | None) -> list[str]:
        """The kept tail, with a line before it that says what is missing."""
        if not self._tail:
            return []
        text = "".join(self._tail)
        self._tail.clear()
        tail = _last_bytes(text, self._tail_bytes) if self.omitted_bytes else text
        self.omitted_bytes += _size(text) - _size(tail)
        self._tail_size = 0
        if not self.omitted_bytes:
            return _pieces(tail)
        where = f"; all of it is in {path}" if path else ""
        return [f"\n[… {self.omitted_bytes} bytes left out here{where} …]\n", *_pieces(tail)]

    def receipt(self, path: str | None) -> OutputReceipt:
        return OutputReceipt(
            total_bytes=self.total_bytes,
            omitted_bytes=self.omitted_bytes,
            path=path if self.omitted_bytes else None,
        )


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _split(text: str, size: int) -> tuple[str, str]:
    """``text`` in two, the first of at most ``size`` bytes and not within a character."""
    if size <= 0:
        return "", text
    head = text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
    return head, text[len(head) :]


def _last_bytes(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[-size:].decode("utf-8", "ignore")


def _pieces(text: str) -> list[str]:
    if len(text) <= PIECE_CHARACTERS:
        return [text] if text else []
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]
