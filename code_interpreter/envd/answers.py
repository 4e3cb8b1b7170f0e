"""Plain HTTP answers of envd that are not what was asked for."""

from __future__ import annotations

from starlette.responses import JSONResponse


class Refused(Exception):
    """Becomes ``{"code": status, "message": …}`` with that status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def response(self) -> JSONResponse:
        return JSONResponse({"code": self.status, "message": self.message}, self.status)
