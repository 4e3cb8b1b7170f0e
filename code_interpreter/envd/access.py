"""Who may read and write files over HTTP, and as whom."""

from __future__ import annotations

from starlette.requests import Request

from code_interpreter.envd.answers import Refused
from code_interpreter.envd.state import State, user_name
from code_interpreter.guest.users import User


def user_with_token(state: State, request: Request) -> User:
    """Raises `Refused`, `UnknownUser`."""
    if not state.may_enter(request.headers.get("x-access-token")):
        raise Refused(401, "the access token is missing or wrong (header X-Access-Token)")
    name = request.query_params.get("username")
    return state.user(name or user_name(request.headers.get("authorization")))


def user_with_token_or_signature(state: State, request: Request, operation: str) -> User:
    """A signature is good for one path, one user, and ``operation`` (read or write) alone.

    Raises `Refused`, `SignatureRefused`, `UnknownUser`.
    """
    query = request.query_params
    signature = query.get("signature")
    if signature is None or state.access_token is None:
        return user_with_token(state, request)
    name = query.get("username", "")
    expiration = query.get("signature_expiration")
    state.check_signature(query.get("path", ""), operation, name, signature, expiration)
    return state.user(name or None)
