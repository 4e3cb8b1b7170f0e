"""What goes wrong, in the two languages that clients speak: Connect codes and HTTP statuses."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from code_interpreter.envd.paths import BadPath
from code_interpreter.envd.process_messages import BadCommand
from code_interpreter.envd.streams import InputRefused
from code_interpreter.envd.watching import WatchRefused
from code_interpreter.guest.users import UnknownUser
from code_interpreter.guest.variables import BadVariables

_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
    errno.ENOTDIR: Code.INVALID_ARGUMENT,
    errno.EISDIR: Code.INVALID_ARGUMENT,
    errno.EEXIST: Code.INVALID_ARGUMENT,
    errno.ELOOP: Code.INVALID_ARGUMENT,
    errno.EINVAL: Code.INVALID_ARGUMENT,
    errno.ENXIO: Code.INVALID_ARGUMENT,
    errno.ENAMETOOLONG: Code.INVALID_ARGUMENT,
    errno.EBUSY: Code.FAILED_PRECONDITION,
    errno.ENOTEMPTY: Code.FAILED_PRECONDITION,
}
_STATUSES = {
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 409,
}


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Within it, what a client did wrong becomes a `ConnectError`."""
    try:
        yield
    except (InputRefused, WatchRefused) as error:
        raise ConnectError(Code.FAILED_PRECONDITION, str(error)) from error
    except (BadPath, BadCommand, BadVariables) as error:
        raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error
    except UnknownUser as error:
        raise ConnectError(Code.UNAUTHENTICATED, str(error)) from error
    except TimeoutError as error:
        raise ConnectError(Code.DEADLINE_EXCEEDED, "the process does not read its input") from error
    except OSError as error:
        failure = describe(error)
        raise ConnectError(failure.code, failure.message) from error
    except ValueError as error:
        raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error


@dataclass(frozen=True, slots=True)
class Failure:
    """Of a call to the kernel."""

    code: Code
    status: int
    message: str


def describe(error: OSError) -> Failure:
    """In words for clients; the error's file name is the path that they named."""
    code = _CODES.get(error.errno or 0, Code.INTERNAL)
    path = f"path '{_text(error.filename)}'"
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.ENOENT:
        return Failure(code, 404, f"{path} does not exist")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(code, 507, f"not enough disk space available for {path}")
    if error.errno == errno.EISDIR:
        return Failure(code, 400, f"{path} is a directory")
    if error.errno == errno.ENOTDIR:
        return Failure(code, 400, f"{path} is not a directory")
    return Failure(code, _STATUSES.get(code, 500), f"{path}: {reason}")


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
