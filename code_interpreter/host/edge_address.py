"""Whom a request is for, and whether its sender may ask at all."""

from __future__ import annotations

import ipaddress
import posixpath
import re
import socket
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from code_interpreter.host import edge_answers as answers
from code_interpreter.host.edge_http import RequestHead
from code_interpreter.host.edge_jupyter import LOGIN_PATH, Credentials, credentials

ENVD_PORT = 49983
GATEWAY_PORT = 49999

_INTERNAL_PATHS = {
    ENVD_PORT: frozenset(
        f"/{name}"
        for name in ("init", "freeze", "unfreeze", "collapse", "fsfreeze", "fsthaw", "upgrade")
    ),
    GATEWAY_PORT: frozenset({"/init", "/freeze", "/unused", "/settled"}),
}
_ENVD_PATHS = ("/files", "/health", "/filesystem.Filesystem/", "/process.Process/")
_JUPYTER_PATH = re.compile(r"/jupyter/([^/?]*)(/[^?]*)?(\?.*)?")
_SANDBOX_LABEL = re.compile(r"(\d+)-([^.]*)\..+")
_SANDBOX_ID = re.compile(r"([a-z0-9]{1,64})(?:-[a-z0-9-]{0,64})?")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Api:
    """The control plane."""


@dataclass(frozen=True, slots=True)
class SandboxPort:
    sandbox_id: str
    port: int


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A file in the sandbox whose token made the signature."""

    path: str
    username: str | None
    signature: str
    expiration: int | None
    operation: Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """envd of the sandbox that has this access token."""

    token: str


@dataclass(frozen=True, slots=True)
class JupyterServer:
    """The gateway of a sandbox as a Jupyter server at ``/jupyter/<id>/`` of the host.

    Jupyter's clients take a URL and a token, and nothing that could name a sandbox besides.
    """

    sandbox_id: str
    target: str
    """Path and query without the prefix."""
    credentials: Credentials


Target: TypeAlias = Api | SandboxPort | SignedFile | TokenHolder | JupyterServer


class AddressBook:
    """Reads addresses, knowing the names this host goes by.

    Names that nobody outside can make point here are needed against DNS rebinding: to a
    browser, a page of evil.example that resolves to 127.0.0.1 is of the same origin.
    """

    def __init__(self, domain: str | None) -> None:
        names = {socket.gethostname().lower()}
        if domain is not None:
            own = host_name(domain)
            names |= {own, f"api.{own}", f"sandbox.{own}"}
        self._names = names

    def target(self, head: RequestHead) -> Target:
        """Whom the request is for. Raises `answers.Refused`."""
        host = _text(head.values(b"host")[0])
        name = host_name(host)
        target = self._from_label(name) or self._from_headers(head, name)
        _check_origin(head, name, target)
        if isinstance(target, SandboxPort):
            _check_path(_text(head.target), target.port)
        elif isinstance(target, JupyterServer):
            _check_path(target.target, GATEWAY_PORT)
        return target

    def _from_label(self, name: str) -> SandboxPort | None:
        """``<port>-<id>.<domain>``. The id is the secret here, so any domain will do."""
        match = _SANDBOX_LABEL.fullmatch(name)
        if match is None:
            return None
        return SandboxPort(_sandbox_id(match[2]), _port(match[1]))

    def _from_headers(self, head: RequestHead, name: str) -> Target:
        if not self._is_own(name):
            raise answers.foreign_host(name)
        sandbox_id = _single(head, "E2b-Sandbox-Id")
        port = _single(head, "E2b-Sandbox-Port")
        if sandbox_id is not None and port is not None:
            if _port(port) == ENVD_PORT and _is_for_api(head):
                return Api()
            return SandboxPort(_sandbox_id(sandbox_id), _port(port))
        if sandbox_id is not None or port is not None:
            missing = "E2b-Sandbox-Id" if sandbox_id is None else "E2b-Sandbox-Port"
            raise answers.malformed(f"the header {missing} is missing", 400)
        return _jupyter_server(head) or _signed_file(head) or _token_holder(head) or Api()

    def _is_own(self, name: str) -> bool:
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def host_name(host: str) -> str:
    """The name in ``name``, ``name:port`` or ``[address]:port``, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _single(head: RequestHead, name: str) -> str | None:
    values = head.values(name.lower().encode())
    if len(values) > 1:
        raise answers.malformed(f"the header {name} is given more than once", 400)
    return _text(values[0]) if values else None


def _sandbox_id(text: str) -> str:
    match = _SANDBOX_ID.fullmatch(text)
    if match is None:
        raise answers.malformed(f"{text!r} is not a sandbox id: those are of a-z and 0-9", 400)
    return match[1]


def _port(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) and 0 < int(text) < 65536:
        return int(text)
    raise answers.malformed(f"{text!r} is not a port: those are numbers from 1 to 65535", 400)


def _check_path(target: str, port: int) -> None:
    """What the host alone may ask of a sandbox's servers, in any spelling, is not there."""
    internal = _INTERNAL_PATHS.get(port)
    if internal is None:
        return
    path = _text(unquote_to_bytes(target.partition("?")[0].partition("#")[0]))
    if posixpath.normpath("/" + path.lstrip("/")).lower() in internal:
        raise answers.path_not_found()


def _check_origin(head: RequestHead, name: str, target: Target) -> None:
    """Web pages of others may not drive the API, nor hold a WebSocket to the gateway."""
    origin = _single(head, "Origin")
    if origin is None or not _is_guarded(head, target):
        return
    page = _host_of_page(origin)
    if page not in _LOOPBACK_NAMES and page != name:
        raise answers.foreign_origin(origin)


def _host_of_page(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None


def _is_for_api(head: RequestHead) -> bool:
    """Python clients up to 2.3x name the sandbox also when they ask the API to connect."""
    return bool(head.values(b"x-api-key")) and head.target.startswith(b"/sandboxes/")


def _is_guarded(head: RequestHead, target: Target) -> bool:
    if isinstance(target, SandboxPort):
        return target.port == GATEWAY_PORT and head.upgrade
    return isinstance(target, (Api, JupyterServer))


def _jupyter_server(head: RequestHead) -> JupyterServer | Api | None:
    match = _JUPYTER_PATH.fullmatch(_text(head.target))
    if match is None:
        return None
    sandbox_id, query = _sandbox_id(match[1]), match[3] or ""
    path = "/" + (match[2] or "").lstrip("/")  # some clients join with one slash too many
    if path == LOGIN_PATH:
        return Api()
    return JupyterServer(sandbox_id, path + query, credentials(head, query[1:], sandbox_id))


def _signed_file(head: RequestHead) -> SignedFile | None:
    path, _, query = _text(head.target).partition("?")
    if path != "/files" or "signature=" not in query:
        return None
    fields = parse_qs(query, keep_blank_values=True)
    if "signature" not in fields or "path" not in fields:
        return None
    return SignedFile(
        path=fields["path"][0],
        username=fields.get("username", [None])[0],
        signature=fields["signature"][0],
        expiration=_expiration(fields.get("signature_expiration", [""])[0]),
        operation="read" if head.method in (b"GET", b"HEAD") else "write",
    )


def _token_holder(head: RequestHead) -> TokenHolder | None:
    """Older clients send envd's token and name no sandbox, as each has its own host name."""
    token = _single(head, "X-Access-Token")
    path = _text(head.target).partition("?")[0]
    return TokenHolder(token) if token and path.startswith(_ENVD_PATHS) else None


def _expiration(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise answers.malformed(f"signature_expiration={text!r} is not in unix seconds", 400)
    return int(text)
