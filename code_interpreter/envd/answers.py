"""Plain HTTP answers of envd that are not what was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from code_interpreter.envd.metadata import BadMetadata
from code_interpreter.envd.paths import BadPath
from code_interpreter.envd.refusals import describe
from code_interpreter.envd.state import SignatureRefused
from code_interpreter.guest.users import UnknownUser

Handler = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """Becomes ``{"code": status, "message": …}`` with that status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def response(self) -> JSONResponse:
        return JSONResponse({"code": self.status, "message": self.message}, self.status)


@contextlib.contextmanager
def http_refusals() -> Iterator[None]:
    """Within it, what a client did wrong becomes `Refused`."""
    try:
        yield
    except (BadPath, BadMetadata) as error:
        raise Refused(400, str(error)) from error
    except (UnknownUser, SignatureRefused) as error:
        raise Refused(401, str(error)) from error
    except OSError as error:
        failure = describe(error)
        raise Refused(failure.status, failure.message) from error


def answering(handler: Handler) -> Handler:
    """The handler, with its refusals answered."""

    async def handle(request: Request) -> Response:
        try:
            with http_refusals():
                return await handler(request)
        except Refused as refusal:
            return refusal.response()
        except ClientDisconnect:
            return Response(status_code=499)

    return handle
