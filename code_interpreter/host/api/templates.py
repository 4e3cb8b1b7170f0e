"""Templates that sandboxes can be made from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Path
from pydantic import AfterValidator
from starlette.responses import Response

from code_interpreter.host.api.views import Views, answer
from code_interpreter.host.boxes import Templates, check_template
from code_interpreter.protocol.control import Template, TemplateAlias

Name = Annotated[str, Path(), AfterValidator(unquote)]


def template_routes(templates: Templates, views: Views) -> APIRouter:
    router = APIRouter()
    known_since = datetime.now(UTC)

    @router.get("/templates", response_model=list[Template])
    async def list_templates() -> Response:
        """All templates of this host."""
        listed = [views.template(name, known_since) for name in sorted(templates.names())]
        body = ",".join(item.model_dump_json(by_alias=True) for item in listed)
        return Response(f"[{body}]", media_type="application/json")

    @router.get("/templates/aliases/{alias}", response_model=TemplateAlias)
    async def find_template(alias: Name) -> Response:
        """Whether there is a template of this name."""
        return answer(TemplateAlias(template_id=check_template(templates, alias)))

    return router
