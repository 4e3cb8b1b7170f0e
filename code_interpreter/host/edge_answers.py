"""The edge's own answers, with E2B's wording where its clients look for it."""

from __future__ import annotations

import json
from http import HTTPStatus


class Refused(Exception):
    """The request goes no further; ``body`` says why, as JSON or as plain text."""

    def __init__(
        self, status: int, body: str | dict[str, object], retry_after: int | None = None
    ) -> None:
        super().__init__(body)
        self.status = status
        self._retry_after = retry_after
        self._body = body

    def response(self, *, close: bool, to_head: bool = False) -> bytes:
        """The whole HTTP/1.1 response; without its body if it answers a HEAD request."""
        as_json = isinstance(self._body, dict)
        text = json.dumps(self._body) if as_json else str(self._body)
        body = text.encode()
        wait = "" if self._retry_after is None else f"retry-after: {self._retry_after}\r\n"
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            f"content-type: {'application/json' if as_json else 'text/plain; charset=utf-8'}\r\n"
            f"content-length: {len(body)}\r\n"
            f"{wait}{'connection: close' if close else 'connection: keep-alive'}\r\n\r\n"
        )
        return head.encode() + (b"" if to_head else body)


def _json(status: int, message: str, *, retry_after: int | None = None, **more: object) -> Refused:
    return Refused(status, {**more, "message": message, "code": status}, retry_after)


def malformed(reason: str, status: int) -> Refused:
    return Refused(status, reason)


def head_too_slow(seconds: float) -> Refused:
    return Refused(408, f"the head of the request was not complete after {seconds:g} seconds")


def sandbox_not_found(sandbox_id: str) -> Refused:
    """Clients search for "was not found": the sandbox is dead to them."""
    return _json(502, "The sandbox was not found", sandboxId=sandbox_id)


def sandbox_paused(sandbox_id: str) -> Refused:
    """To E2B's clients it is not found; ``state`` is for ours."""
    return _json(502, "The sandbox was not found", sandboxId=sandbox_id, state="paused")


def port_not_open(sandbox_id: str, port: int) -> Refused:
    """Clients search for "port is not open"."""
    message = "The sandbox is running but port is not open"
    return _json(502, message, sandboxId=sandbox_id, port=port)


def no_answer(sandbox_id: str, port: int, reason: str) -> Refused:
    message = f"The server on port {port} of the sandbox did not answer: {reason}"
    return _json(502, message, sandboxId=sandbox_id, port=port)


def hung(sandbox_id: str, port: int) -> Refused:
    return no_answer(sandbox_id, port, "it hangs, though it is running")


def api_unavailable(reason: str) -> Refused:
    return _json(502, f"The control plane did not answer: {reason}")


def traffic_token_needed(sandbox_id: str) -> Refused:
    message = (
        "This sandbox takes no public traffic: send its token in the header "
        "E2B-Traffic-Access-Token"
    )
    return _json(403, message, sandboxId=sandbox_id)


def jupyter_token_needed(sandbox_id: str) -> Refused:
    message = (
        "The sandbox's token is missing or wrong: send 'Authorization: token …' or '?token=…', "
        "or the cookie of /login, and then the header X-XSRFToken with what changes something"
    )
    return _json(403, message, sandboxId=sandbox_id)


def resume_denied(sandbox_id: str) -> Refused:
    message = (
        "The sandbox is paused, and only a request with its access token in the header "
        "X-Access-Token resumes it"
    )
    return _json(403, message, sandboxId=sandbox_id)


def still_transitioning(sandbox_id: str, reason: str) -> Refused:
    return _json(409, f"The sandbox is still transitioning: {reason}", sandboxId=sandbox_id)


def overloaded(reason: str) -> Refused:
    return _json(503, f"The host cannot open another connection: {reason}", retry_after=1)


def crowded() -> Refused:
    return _json(503, "Too many connections are open; close some, or try again", retry_after=1)


def too_many_for_one(sandbox_id: str, most: int) -> Refused:
    message = (
        f"{most} requests and WebSockets are under way for this sandbox, which is the limit; "
        "end some, or try again"
    )
    return _json(429, message, retry_after=1, sandboxId=sandbox_id)


def stopping() -> Refused:
    return _json(503, "This host is stopping", retry_after=1)


def failed() -> Refused:
    return _json(500, "The host failed to connect this request; its log says why")


def path_not_found() -> Refused:
    return _json(404, "There is nothing at this path")


def unknown_signature() -> Refused:
    return _json(401, "invalid signature: no running sandbox has made it")


def foreign_host(name: str) -> Refused:
    message = (
        f"The host name {name!r} is not served here; use localhost, an IP address or the "
        "domain this host was started with (CODE_INTERPRETER_DOMAIN)"
    )
    return _json(403, message)


def foreign_origin(origin: str) -> Refused:
    return _json(403, f"Pages of {origin!r} may not use this host")
