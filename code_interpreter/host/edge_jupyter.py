"""How a request shows that it may use a sandbox's Jupyter server: jupyter-server's rules.

A token, in the header ``Authorization`` or in the query; or the cookie that `/login` gives
for it. Browsers send cookies unasked, so a request that would change something with the
cookie alone has to repeat the cookie ``_xsrf`` where no other site can put it.
https://jupyter-server.readthedocs.io/en/latest/operators/security.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from code_interpreter.host.edge_http import RequestHead

LOGIN_PATH = "/login"
XSRF_COOKIE = "_xsrf"
_TOKEN = re.compile(r"(?:token|bearer) +(\S+)", re.IGNORECASE)
_HARMLESS = frozenset({b"GET", b"HEAD", b"OPTIONS"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows."""

    token: str | None
    login: str | None
    """The value of the cookie that `login_cookie` names."""
    is_own: bool
    """No page of another site can have made it: it is harmless, or repeats ``_xsrf``."""

    def prove(self, sandbox_id: str, tokens: Iterable[str]) -> bool:
        """Whether they are those of this sandbox, one of whose tokens is needed."""
        return any(self._prove(sandbox_id, token) for token in tokens)

    def _prove(self, sandbox_id: str, token: str) -> bool:
        if self.token is not None:
            return same(self.token, token)
        return self.is_own and same(self.login, login_value(sandbox_id, token))


def credentials(head: RequestHead, query: str, sandbox_id: str) -> Credentials:
    """``query`` without its question mark."""
    fields = parse_qs(query)
    cookies = cookies_of(_text(head, b"cookie"))
    token = _TOKEN.fullmatch(_text(head, b"authorization"))
    repeated = _text(head, b"x-xsrftoken") or _text(head, b"x-csrftoken")
    repeated = repeated or fields.get(XSRF_COOKIE, [""])[0]
    return Credentials(
        token=token[1] if token else fields.get("token", [None])[0],
        login=cookies.get(login_cookie(sandbox_id)),
        is_own=head.method in _HARMLESS or is_repeated(cookies, repeated),
    )


def cookies_of(header: str) -> dict[str, str]:
    """The cookies of a ``Cookie`` header; none if it cannot be read."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def is_repeated(cookies: dict[str, str], repeated: str) -> bool:
    return bool(repeated) and same(cookies.get(XSRF_COOKIE), repeated)


def login_cookie(sandbox_id: str) -> str:
    """Its name."""
    return f"jupyter-{sandbox_id}"


def login_value(sandbox_id: str, token: str) -> str:
    """Nobody can make it without the token, nor the token of it."""
    return hmac.new(token.encode(), f"login:{sandbox_id}".encode(), hashlib.sha256).hexdigest()


def same(shown: str | None, secret: str) -> bool:
    """Compared in a time that tells nothing."""
    return shown is not None and hmac.compare_digest(shown.encode(), secret.encode())


def _text(head: RequestHead, name: bytes) -> str:
    """A header; empty if it is missing or given more than once."""
    values = head.values(name)
    return values[0].decode("latin-1") if len(values) == 1 else ""
