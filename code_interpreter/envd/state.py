"""What envd was told about the sandbox that it serves, and whose word counts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from code_interpreter.guest.config import GuestConfig
from code_interpreter.guest.users import ROOT, UnknownUser, User, current_user, find_user
from code_interpreter.guest.variables import check_variables
from code_interpreter.protocol.boxes import TEAM_ID

PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class InitBody(BaseModel):
    """Body of ``POST /init``. The last one counts."""

    model_config = ConfigDict(extra="ignore")

    env_vars: dict[str, str] = Field(default_factory=dict, alias="envVars")
    access_token: str | None = Field(default=None, alias="accessToken")
    default_user: str | None = Field(default=None, alias="defaultUser")
    default_workdir: str | None = Field(default=None, alias="defaultWorkdir")
    sandbox_id: str = Field(default="", alias="sandboxId")
    template_id: str = Field(default="", alias="templateId")

    @field_validator("env_vars")
    @classmethod
    def _check(cls, value: dict[str, str]) -> dict[str, str]:
        check_variables(value)
        return value


class SignatureRefused(Exception):
    """The signature of a file's URL is not valid, or not any more."""


@dataclass(slots=True)
class State:
    """One a server; changed by `initialise` alone."""

    config: GuestConfig
    env_vars: dict[str, str] = field(default_factory=dict)
    access_token: str | None = field(default=None, repr=False)
    default_user: str = "user"
    default_workdir: str | None = None
    sandbox_id: str = ""
    template_id: str = ""

    def initialise(self, body: InitBody) -> None:
        """A token, once there, is replaced but never taken away."""
        self.env_vars = dict(body.env_vars)
        self.access_token = body.access_token or self.access_token
        self.default_user = body.default_user or self.default_user
        self.default_workdir = body.default_workdir or self.default_workdir
        self.sandbox_id, self.template_id = body.sandbox_id, body.template_id

    def as_body(self) -> InitBody:
        """What would make another state the same."""
        return InitBody(
            envVars=self.env_vars,
            accessToken=self.access_token,
            defaultUser=self.default_user,
            defaultWorkdir=self.default_workdir,
            sandboxId=self.sandbox_id,
            templateId=self.template_id,
        )

    # --- users ----------------------------------------------------------------------------

    def user(self, name: str | None) -> User:
        """The account of this name, or the default one. Raises `UnknownUser`.

        Without isolation there is one account, which the default user's name means too.
        """
        if self.config.isolated:
            return find_user(name or self.default_user)
        account = current_user(Path(self.config.home))
        if name not in (None, self.default_user, account.name):
            raise UnknownUser(str(name))
        return account

    def superuser(self) -> User:
        """Who may do everything that user code may."""
        if not self.config.isolated:
            return current_user(Path(self.config.home))
        return ROOT

    def user_of(self, authorization: str | None) -> User:
        """The user of a Basic authorization header. Raises `UnknownUser`."""
        return self.user(user_name(authorization))

    def environment(self, user: User) -> dict[str, str]:
        """What every process starts with; a request's own variables come on top."""
        return {
            "PATH": self.path,
            "HOME": str(user.home),
            "USER": user.name,
            "LOGNAME": user.name,
            "E2B_SANDBOX": "true",
            "E2B_SANDBOX_ID": self.sandbox_id,
            "E2B_TEAM_ID": TEAM_ID,
            "E2B_TEMPLATE_ID": self.template_id,
            **self.env_vars,
        }

    @property
    def path(self) -> str:
        return PROGRAMS if self.config.isolated else os.environ.get("PATH", PROGRAMS)

    # --- tokens ---------------------------------------------------------------------------

    def may_enter(self, token: str | None) -> bool:
        """Whether a request with this ``X-Access-Token`` is let in; all are before `initialise`."""
        if self.access_token is None:
            return True
        return hmac.compare_digest((token or "").encode(), self.access_token.encode())

    def check_signature(
        self, path: str, operation: str, user: str, signature: str, expiration: str | None
    ) -> None:
        """Of a file's URL, as E2B's clients make it. Raises `SignatureRefused`."""
        parts = [path, operation, user, self.access_token or ""]
        if expiration is not None:
            parts.append(expiration)
        digest = hashlib.sha256(":".join(parts).encode(errors="replace")).digest()
        expected = "v1_" + base64.b64encode(digest).decode().rstrip("=")
        if not hmac.compare_digest(signature.encode(errors="replace"), expected.encode()):
            raise SignatureRefused("invalid signature")
        if expiration is not None and _is_past(expiration):
            raise SignatureRefused("signature is already expired")


def _is_past(expiration: str) -> bool:
    try:
        return int(expiration) < time.time()
    except ValueError:
        return True


def user_name(authorization: str | None) -> str | None:
    """The user in a Basic authorization header; None if there is no such header.

    Raises `UnknownUser` for one that cannot be read.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[0] or None
    except (binascii.Error, UnicodeDecodeError) as error:
        raise UnknownUser(encoded[:100]) from error
