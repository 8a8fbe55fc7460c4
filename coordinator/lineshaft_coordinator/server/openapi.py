"""`/api/v1/openapi.json`: the document of the REST interface, made when it is first asked for.

It is open: it holds nothing but what the sources say.
"""

import json
import re

from pydantic import BaseModel, JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lineshaft_coordinator.server.admission import Door
from lineshaft_protocol.version import __version__

PATH = "/api/v1/openapi.json"
_TEXTS = {
    400: "the question is wrong",
    401: "no token, or one that is not known",
    403: "this token may not do it",
    404: "nobody knows it",
    409: "it cannot be done as things are",
    410: "its content is gone",
    500: "the store failed",
    503: "try later",
    507: "the disk is full",
}


class OpenApiRoutes:
    """Serves the document."""

    def __init__(self) -> None:
        self._text: bytes | None = None

    def routes(self) -> list[Route]:
        """The one endpoint."""
        return [Route(PATH, self._document)]

    def doors(self) -> list[Door]:
        """No WebSocket."""
        return []

    async def _document(self, request: Request) -> Response:
        del request
        if self._text is None:
            self._text = json.dumps(document(), separators=(",", ":")).encode()
        return Response(self._text, media_type="application/json")


def document() -> dict[str, JsonValue]:
    """Make the document, of OpenAPI 3.1."""
    # Its models cost memory that only who asks for it shall pay.
    from lineshaft_coordinator.server.api_answers import Problem  # noqa: PLC0415
    from lineshaft_coordinator.server.api_table import (  # noqa: PLC0415
        OPERATIONS,
        PARAMETERS,
        Operation,
    )

    schemas: dict[str, JsonValue] = {}
    problem = _schema(Problem, schemas)

    def told(operation: Operation) -> dict[str, JsonValue]:
        parameters: list[JsonValue] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", operation.path)
        ]
        for name in operation.query:
            kind, text = PARAMETERS[name]
            schema: JsonValue = {"type": kind}
            parameters.append({"name": name, "in": "query", "description": text, "schema": schema})
        errors = (400, *(() if operation.is_open else (401, 403)), *operation.errors)
        responses: dict[str, JsonValue] = {
            "200": _answer(operation.answer, schemas, is_list=operation.is_list)
        }
        for status in errors:
            content: JsonValue = {"application/json": {"schema": problem}}
            responses[str(status)] = {"description": _TEXTS[status], "content": content}
        security: list[JsonValue] = [] if operation.is_open else [{"token": []}, {"query": []}]
        return {
            "operationId": _name(operation.method, operation.path),
            "summary": operation.summary,
            "parameters": parameters,
            "responses": responses,
            "security": security,
        }

    paths: dict[str, JsonValue] = {}
    for operation in OPERATIONS:
        methods = paths.setdefault(operation.path, {})
        assert isinstance(methods, dict), "a path has methods"
        methods[operation.method] = told(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lineshaft", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _schemes()},
    }


def _schemes() -> JsonValue:
    return {
        "token": {"type": "http", "scheme": "bearer"},
        "query": {"type": "apiKey", "in": "query", "name": "token"},
    }


def _answer(
    answer: type[BaseModel] | str | None, schemas: dict[str, JsonValue], *, is_list: bool
) -> JsonValue:
    if isinstance(answer, str):
        schema: JsonValue = {"type": "string"}
        return {"description": "the content", "content": {answer: {"schema": schema}}}
    one: JsonValue = {} if answer is None else _schema(answer, schemas)
    shown: JsonValue = {"type": "array", "items": one} if is_list else one
    return {"description": "the answer", "content": {"application/json": {"schema": shown}}}


def _schema(model: type[BaseModel], schemas: dict[str, JsonValue]) -> JsonValue:
    """Keep a model's schema, and those it needs, among the components; returns a reference."""
    found = model.model_json_schema(
        mode="serialization", ref_template="#/components/schemas/{model}"
    )
    schemas.update(found.pop("$defs", {}))
    schemas[model.__name__] = found
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _name(method: str, path: str) -> str:
    words = re.sub(r"[{}]", "", path.removeprefix("/api/v1/")).replace(".", "/").split("/")
    return method + "".join(word.title().replace("_", "") for word in words)
