"""From a request's head to a connection with the server it is for."""

from __future__ import annotations

import asyncio
import hmac
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from code_interpreter.host import edge_answers as answers
from code_interpreter.host.edge_address import (
    ENVD_PORT,
    GATEWAY_PORT,
    AddressBook,
    Api,
    JupyterServer,
    SandboxPort,
    SignedFile,
    TokenHolder,
)
from code_interpreter.host.edge_http import RequestHead
from code_interpreter.host.edge_routes import Route, Routes, WakeRefused
from code_interpreter.host.edge_upstream import (
    Key,
    PortClosed,
    Upstream,
    UpstreamPool,
    open_sandbox_port,
    open_unix,
)
from code_interpreter.host.edge_vigil import Vigil

WAKE_SECONDS = 60.0
TRAFFIC_TOKEN = b"e2b-traffic-access-token"

_API_KEY: Key = ("", 0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an admitted request goes."""

    key: Key
    route: Route | None
    """None for the control plane."""
    target: bytes | None = None
    """Path and query for the server, where they are not those that were sent."""


class Switchboard:
    """Decides on requests, and connects those that may pass."""

    def __init__(self, routes: Routes, api_socket: Path, domain: str | None, vigil: Vigil) -> None:
        self.pool = UpstreamPool()
        self.vigil = vigil
        self.stopping = False
        """Whether nobody is let in any more."""
        self._routes = routes
        self._api_socket = api_socket
        self._addresses = AddressBook(domain)

    def resolve(self, head: RequestHead) -> Destination:
        """Where the request goes. Raises `answers.Refused`."""
        if self.stopping:
            raise answers.stopping()
        target = self._addresses.target(head)
        if isinstance(target, Api):
            return Destination(_API_KEY, None)
        if isinstance(target, JupyterServer):
            return self._jupyter(target)
        if isinstance(target, SandboxPort):
            route, port = self._live(target.sandbox_id), target.port
        else:
            route, port = self._holder(target), ENVD_PORT
        _admit(head, route, port)
        return self._unless_hung(Destination((route.sandbox_id, port), route))

    def head_for(self, destination: Destination, head: RequestHead) -> bytes:
        """The head as the server shall see it: some secrets are for the edge alone."""
        route, port = destination.route, destination.key[1]
        secret: tuple[bytes, ...] = (TRAFFIC_TOKEN,)
        if destination.target is not None:
            head, secret = replace(head, target=destination.target), (*secret, b"cookie")
        if route is None:
            return head.serialize({})
        if route.mask_request_host is None or port == ENVD_PORT:
            return head.serialize({}, dropped=secret)
        masked = route.mask_request_host.replace("${PORT}", str(port)).encode()
        original = head.values(b"host")[0]
        replaced = {b"host": masked, b"x-forwarded-host": original}
        return head.serialize(replaced, dropped=secret)

    def take(self, destination: Destination) -> Upstream | None:
        """A connection that waits idle; None if one has to be opened."""
        if destination.route is not None and destination.route.paused:
            return None
        return self.pool.take(destination.key)

    async def open(self, destination: Destination) -> Upstream:
        """A new connection, to a sandbox that was woken for it. Raises `answers.Refused`."""
        if destination.route is None:
            return await self._open_api()
        route, (sandbox_id, port) = destination.route, destination.key
        if route.paused:
            route = await self._wake(sandbox_id)
        try:
            return await open_sandbox_port(route.run_directory, destination.key)
        except PortClosed:
            raise answers.port_not_open(sandbox_id, port) from None
        except TimeoutError:
            raise answers.no_answer(sandbox_id, port, "it takes no connection") from None
        except (FileNotFoundError, ConnectionError) as error:
            _log.info("sandbox %s is not reachable: %s", sandbox_id, error)
            raise answers.sandbox_not_found(sandbox_id) from None
        except OSError as error:
            _log.error("no connection to sandbox %s: %s", sandbox_id, error)
            raise answers.overloaded(str(error)) from None

    def lost(self, destination: Destination, reason: str) -> answers.Refused:
        """What to say if the server hung up before it answered."""
        if destination.route is None:
            return self._no_api(reason)
        sandbox_id, port = destination.key
        if self._routes.find(sandbox_id) is None:
            return answers.sandbox_not_found(sandbox_id)
        return answers.no_answer(sandbox_id, port, reason)

    async def _open_api(self) -> Upstream:
        try:
            return await open_unix(self._api_socket, _API_KEY)
        except OSError as error:  # TimeoutError is one
            raise self._no_api(str(error)) from None

    def _no_api(self, reason: str) -> answers.Refused:
        return answers.stopping() if self.stopping else answers.api_unavailable(reason)

    async def _wake(self, sandbox_id: str) -> Route:
        try:
            async with asyncio.timeout(WAKE_SECONDS):
                await self._routes.wake(sandbox_id)
        except (WakeRefused, TimeoutError) as error:
            raise answers.still_transitioning(sandbox_id, str(error) or "no answer yet") from None
        route = self._routes.find(sandbox_id)
        if route is None:
            raise answers.sandbox_not_found(sandbox_id)
        return route

    def _jupyter(self, target: JupyterServer) -> Destination:
        """Whoever has a token of the sandbox may use its kernels, and wake it."""
        route = self._live(target.sandbox_id)
        tokens = [token for token in (route.access_token, route.traffic_token) if token]
        if tokens and not target.credentials.prove(route.sandbox_id, tokens):
            raise answers.jupyter_token_needed(target.sandbox_id)
        if route.paused and not route.auto_resume:
            raise answers.sandbox_not_found(target.sandbox_id)
        key = (route.sandbox_id, GATEWAY_PORT)
        return self._unless_hung(Destination(key, route, target.target.encode("latin-1")))

    def _unless_hung(self, destination: Destination) -> Destination:
        if self.vigil.is_hung(destination.key):
            raise answers.hung(*destination.key)
        return destination

    def _live(self, sandbox_id: str) -> Route:
        route = self._routes.find(sandbox_id)
        if route is None:
            raise answers.sandbox_not_found(sandbox_id)
        return route

    def _holder(self, target: SignedFile | TokenHolder) -> Route:
        """The sandbox whose token it is that was shown, or that made the signature."""
        if isinstance(target, SignedFile):
            return self._signed(target)
        route = self._routes.find_by_access_token(target.token)
        if route is None:
            raise answers.sandbox_not_found("")
        return route

    def _signed(self, target: SignedFile) -> Route:
        route = self._routes.find_by_signature(
            target.path, target.username, target.signature, target.expiration, target.operation
        )
        if route is None:
            raise answers.unknown_signature()
        return route


def _admit(head: RequestHead, route: Route, port: int) -> None:
    """Whether the sender may reach this port of this sandbox, and may wake it."""
    sandbox_id = route.sandbox_id
    if port != ENVD_PORT and not _shows(head, TRAFFIC_TOKEN, route.traffic_token):
        raise answers.traffic_token_needed(sandbox_id)
    if not route.paused:
        return
    if not route.auto_resume:
        raise answers.sandbox_paused(sandbox_id)
    if port == ENVD_PORT and not _shows(head, b"x-access-token", route.access_token):
        raise answers.resume_denied(sandbox_id)


def _shows(head: RequestHead, name: bytes, token: str | None) -> bool:
    if token is None:
        return True
    values = head.values(name)
    return len(values) == 1 and hmac.compare_digest(values[0], token.encode())
