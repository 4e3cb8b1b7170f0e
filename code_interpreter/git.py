"""``sandbox.git``: E2B's, with credentials that stand in no command line and no file.

E2B's client writes a user name and a password into the remote's URL while its command runs:
into arguments that every process of the sandbox can read, and, for a push or a pull, into
``.git/config``. Here git asks a credential helper (gitcredentials(7)), which finds them in
the environment of that one command, and is asked for that one host alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import e2b.sandbox_async.git as asynchronous
import e2b.sandbox_sync.git as synchronous
from e2b import CommandResult, GitUpstreamException, InvalidArgumentException

_USERNAME, _PASSWORD = "CODE_INTERPRETER_GIT_USERNAME", "CODE_INTERPRETER_GIT_PASSWORD"
_INPUT = "CODE_INTERPRETER_GIT_CREDENTIAL"
_HELPER = f"""!f() {{ test "$1" = get && printf 'username=%s\\npassword=%s\\n' \
"${_USERNAME}" "${_PASSWORD}"; }}; f"""
NO_UPSTREAM = (
    "the branch has no upstream to pull from: name remote and branch, or push it with set_upstream"
)
_APPROVE = f'printf "%s\\n" "${_INPUT}" | git credential approve'


def with_helper(
    envs: Mapping[str, str] | None, url: str, username: str, password: str
) -> dict[str, str]:
    """Variables of a git command that may use these credentials for the host of ``url`` alone.

    Raises `InvalidArgumentException`.
    """
    host = urlsplit(url)
    if host.scheme not in ("http", "https"):
        raise InvalidArgumentException(
            f"a user name and a password are for http and https remotes, not for '{url}'"
        )
    _require_lines(username, password)
    place = f"credential.{host.scheme}://{host.netloc.rpartition('@')[2]}.helper"
    given = dict(envs or {})
    first = _number(given.get("GIT_CONFIG_COUNT", "0"))
    settings = ((place, ""), (place, _HELPER))  # nothing that is set up already is asked, or told
    for number, (key, value) in enumerate(settings, first):
        given |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return given | {
        "GIT_CONFIG_COUNT": str(first + len(settings)),
        _USERNAME: username,
        _PASSWORD: password,
    }


def credential(username: str, password: str, host: str, protocol: str) -> dict[str, str]:
    """The variable that `_APPROVE` reads. Raises `InvalidArgumentException`."""
    if not username or not password:
        raise InvalidArgumentException("git is authenticated with a user name and a password")
    place = (protocol.strip() or "https", host.strip() or "github.com")
    _require_lines(*place, username, password)
    names = ("protocol", "host", "username", "password")
    lines = zip(names, (*place, username, password), strict=True)
    return {_INPUT: "".join(f"{name}={value}\n" for name, value in lines)}


def _number(count: str) -> int:
    if not count.isdecimal():
        raise InvalidArgumentException(f"GIT_CONFIG_COUNT is a number, not '{count}'")
    return int(count)


def _require_lines(*texts: str) -> None:
    if any(set(text) & set("\n\r\0") for text in texts):
        raise InvalidArgumentException(
            "a user name and a password for git have no line breaks and no NUL"
        )


class Git(synchronous.Git):
    """E2B's calls for git, with credentials that stay out of command lines and files."""

    def clone(
        self,
        url: str,
        path: str | None = None,
        branch: str | None = None,
        depth: int | None = None,
        username: str | None = None,
        password: str | None = None,
        envs: dict[str, str] | None = None,
        user: str | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
        dangerously_store_credentials: bool = False,
    ) -> CommandResult:
        """As E2B's; only credentials that are to be stored go the way of the URL."""
        if username and password and not dangerously_store_credentials:
            envs = with_helper(envs, url, username, password)
            username = password = None
        done: CommandResult = super().clone(
            url,
            path,
            branch,
            depth,
            username,
            password,
            envs,
            user,
            cwd,
            timeout,
            request_timeout,
            dangerously_store_credentials,
        )
        return done

    def push(
        self,
        path: str,
        remote: str | None = None,
        branch: str | None = None,
        set_upstream: bool = True,
        username: str | None = None,
        password: str | None = None,
        envs: dict[str, str] | None = None,
        user: str | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
    ) -> CommandResult:
        """As E2B's. Raises `GitAuthException` for wrong credentials too."""
        options = (user, cwd, timeout, request_timeout)
        if username and password:
            remote = self._resolve_remote_name(path, remote, envs, *options)
            url = self._get_remote_url(path, remote, envs, *options)
            envs = with_helper(envs, url, username, password)
            username = password = None
        done: CommandResult = super().push(
            path, remote, branch, set_upstream, username, password, envs, *options
        )
        return done

    def pull(
        self,
        path: str,
        remote: str | None = None,
        branch: str | None = None,
        username: str | None = None,
        password: str | None = None,
        envs: dict[str, str] | None = None,
        user: str | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
    ) -> CommandResult:
        """As E2B's. Raises `GitAuthException` for wrong credentials too."""
        options = (user, cwd, timeout, request_timeout)
        if username and password:
            if not (remote or branch or self._has_upstream(path, envs, *options)):
                raise GitUpstreamException(NO_UPSTREAM)
            remote = self._resolve_remote_name(path, remote, envs, *options)
            url = self._get_remote_url(path, remote, envs, *options)
            envs = with_helper(envs, url, username, password)
            username = password = None
        done: CommandResult = super().pull(path, remote, branch, username, password, envs, *options)
        return done

    def dangerously_authenticate(
        self,
        username: str,
        password: str,
        host: str = "github.com",
        protocol: str = "https",
        envs: dict[str, str] | None = None,
        user: str | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
    ) -> CommandResult:
        """As E2B's: git keeps them in the user's home; on the way they stand nowhere else."""
        given = credential(username, password, host, protocol)
        options = (user, cwd, timeout, request_timeout)
        self.set_config("credential.helper", "store", "global", None, envs, *options)
        done: CommandResult = self._run_shell(_APPROVE, {**(envs or {}), **given}, *options)
        return done


class AsyncGit(asynchronous.Git):
    """As `Git`, for asyncio."""

    async def clone(
        self,
        url: str,
        path: str | None = None,
        branch: str | None = None,
        depth: int | None = None,
        username: str | None = None,
        password: str | None = None,
        envs: dict[str, str] | None = None,
        user: str | None = None,
        cwd: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - E2B's name
        request_timeout: float | None = None,
        dangerously_store_credentials: bool = False,
    ) -> CommandResult:
        """As E2B's; only credentials that are to be stored go the way of the URL."""
        if username and password and not dangerously_store_credentials:
            envs = with_helper(envs, url, username, password)
            username = password = None
        done: CommandResult = await super().clone(
            url,
            path,
            branch,
            depth,
            username,
            password,
            envs,
            user,
            cwd,
            timeout,
            request_timeout,
            dangerously_store_credentials,
        )
        return done

    async def push(
        self,
        path: str,
        remote: str | None = None,
        branch: str | None = None,
        set_upstream: bool = True,
        username: str | None = None,
        password: str | None = None,
        envs: dict[str, str] | None = None,
        user: str | None = None,
        cwd: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - E2B's name
        request_timeout: float | None = None,
    ) -> CommandResult:
        """As E2B's. Raises `GitAuthException` for wrong credentials too."""
        options = (user, cwd, timeout, request_timeout)
        if username and password:
            remote = await self._resolve_remote_name(path, remote, envs, *options)
            url = await self._get_remote_url(path, remote, envs, *options)
            envs = with_helper(envs, url, username, password)
            username = password = None
        done: CommandResult = await super().push(
            path, remote, branch, set_upstream, username, password, envs, *options
        )
        return done

    async def pull(
        self,
        path: str,
        remote: str | None = None,
        branch: str | None = None,
        username: str | None = None,
        password: str | None = None,
        envs: dict[str, str] | None = None,
        user: str | None = None,
        cwd: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - E2B's name
        request_timeout: float | None = None,
    ) -> CommandResult:
        """As E2B's. Raises `GitAuthException` for wrong credentials too."""
        options = (user, cwd, timeout, request_timeout)
        if username and password:
            if not (remote or branch or await self._has_upstream(path, envs, *options)):
                raise GitUpstreamException(NO_UPSTREAM)
            remote = await self._resolve_remote_name(path, remote, envs, *options)
            url = await self._get_remote_url(path, remote, envs, *options)
            envs = with_helper(envs, url, username, password)
            username = password = None
        done: CommandResult = await super().pull(
            path, remote, branch, username, password, envs, *options
        )
        return done

    async def dangerously_authenticate(
        self,
        username: str,
        password: str,
        host: str = "github.com",
        protocol: str = "https",
        envs: dict[str, str] | None = None,
        user: str | None = None,
        cwd: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - E2B's name
        request_timeout: float | None = None,
    ) -> CommandResult:
        """As E2B's: git keeps them in the user's home; on the way they stand nowhere else."""
        given = credential(username, password, host, protocol)
        options = (user, cwd, timeout, request_timeout)
        await self.set_config("credential.helper", "store", "global", None, envs, *options)
        done: CommandResult = await self._run_shell(_APPROVE, {**(envs or {}), **given}, *options)
        return done
