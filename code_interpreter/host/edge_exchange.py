"""One request on its way to a server, and the response on its way back."""

from __future__ import annotations

from dataclasses import dataclass, field

from code_interpreter.host.edge_http import Framing, RequestHead, ResponseHead
from code_interpreter.host.edge_switchboard import Destination
from code_interpreter.host.edge_upstream import Upstream

_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})


@dataclass(slots=True, eq=False)
class Exchange:
    """What is known of a request and its response; bytes of the request wait here."""

    head: RequestHead
    ended: bool = False
    """The request was read to its end."""
    unsent: list[bytes] = field(default_factory=list)
    unsent_bytes: int = 0
    destination: Destination | None = None
    share: str | None = None
    """The sandbox that this counts for (`edge_crowd.Shares`)."""
    upstream: Upstream | None = None
    answer: Framing | None = None
    """How the response goes to the client; None before its head came."""
    answer_until_close: bool = False
    """The server ends its response by closing."""
    close: bool = False
    """The client was told that its connection closes after this response."""
    waiting_since: float | None = None
    """When the server last gave a sign of life, or was first asked for one."""

    @property
    def repeatable(self) -> bool:
        """The request may be sent again if a reused connection turns out to be dead."""
        return self.ended and self.head.method in _REPEATABLE and self.head.framing is Framing.NONE

    @property
    def last_on_connection(self) -> bool:
        """A response that comes before the end of its request may be a refusal to read it."""
        return self.head.version == "1.0" or not self.head.keep_alive or not self.ended

    def add_body(self, data: bytes) -> None:
        framed = self.head.framing.frame(data)
        self.unsent.append(framed)
        self.unsent_bytes += len(framed)

    def end(self) -> None:
        """The request is complete."""
        self.unsent.append(self.head.framing.end)
        self.ended = True

    def send_on(self) -> None:
        """Send the server what waits for it."""
        if self.upstream is None or not self.unsent or self.upstream.closed:
            return
        data = b"".join(self.unsent)
        self.unsent, self.unsent_bytes = [], 0
        if data:
            self.upstream.transport.write(data)

    def begin_answer(self, head: ResponseHead) -> bytes:
        """The response's head for the client; the framing of what follows is settled here."""
        ancient = self.head.version == "1.0"
        if head.informational:
            return b"" if ancient else head.serialize(Framing.NONE, close=False)
        framing = head.framing
        self.answer_until_close = framing is Framing.UNTIL_CLOSE
        if ancient and framing is Framing.CHUNKED:
            framing = Framing.UNTIL_CLOSE
        elif framing is Framing.UNTIL_CLOSE and not ancient:
            framing = Framing.CHUNKED
        self.answer = framing
        self.close = self.last_on_connection
        return head.serialize(framing, close=self.close)
