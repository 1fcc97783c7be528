"""The OpenAPI document behind /docs: what FastAPI knows of the routes, with bodies that the routes read themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from server.api.response_schemas import ErrorBody

REF = "#/components/schemas/{model}"
JSON = "application/json"
STREAM = "text/event-stream"

DESCRIPTION = """OpenAI's chat API for LiquidAI's LFM2 models in ONNX.

Any program written for OpenAI's API works: give its client `http://HOST:PORT/v1` as the base URL. A field that is null
counts as absent, one that is not known is ignored. Errors have OpenAI's shape, and every answer the header
`x-request-id`, which repeats the request's own.
"""

TAGS = [
    {"name": "chat", "description": "Chats with tools, structured output and thoughts."},
    {"name": "completions", "description": "Plain texts continued, and how likely they are."},
    {"name": "models", "description": "What is served."},
    {"name": "tokens", "description": "Texts and chats to token ids, and back."},
    {"name": "health", "description": "Whether it runs and takes requests. These need no key."},
]

RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}

_ERRORS: dict[int, dict[str, Any]] = {
    400: {"description": "The request cannot be taken: `param` names the field."},
    401: {"description": "The server was started with an API key, and this is not it."},
    404: {"description": "No such model is served, or there is no such path."},
    408: {"description": "The body takes too long to arrive."},
    413: {"description": "The body is too large."},
    429: {"description": "Too many requests wait already, or the key has used what it may.", "headers": RETRY},
    500: {"description": "The server failed on this request; its log says more."},
    503: {
        "description": "The model is still loading, or the server is stopping or overloaded.",
        "headers": RETRY,
    },
    504: {"description": "The request took longer than it may."},
}

GENERATING = tuple(_ERRORS)
"""The statuses of routes that generate."""

Responses = dict[int | str, dict[str, Any]]


def answers(model: type[BaseModel], *errors: int, description: str = "The answer.") -> Responses:
    """A route's answers: `model` where it goes well, else one of the statuses `errors`."""
    told: Responses = {200: {"model": model, "description": description}}
    return told | {status: {"model": ErrorBody, **_ERRORS[status]} for status in errors}


def streamed(responses: Responses, chunk: type[BaseModel], example: str) -> Responses:
    """The same for a route that may answer with a stream of `chunk`s, too."""
    data = {
        "type": "string",
        "description": "More of the answer, or what has gone wrong since.",
        "contentMediaType": JSON,
        "contentSchema": {
            "anyOf": [chunk.model_json_schema(ref_template=REF), {"$ref": REF.format(model="ErrorBody")}]
        },
    }
    last = {"const": "[DONE]", "description": "After the last one."}
    event = {"type": "object", "properties": {"data": {"anyOf": [last, data]}}, "required": ["data"]}
    return responses | {200: responses[200] | {"content": {STREAM: {"schema": event, "example": example}}}}


def request_body(*models: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """A route's `openapi_extra`: its body is one of `models`; `examples` are whole ones by their summaries."""
    schemas = [model.model_json_schema(ref_template=REF) for model in models]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    shown = {summary: {"summary": summary, "value": value} for summary, value in examples.items()}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema, "examples": shown}}}}


def install(app: FastAPI) -> None:
    """Make `app` tell this document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=TAGS)
    schemas = document["components"]["schemas"]
    for operation in _operations(document):
        operation["responses"].pop("422", None)  # FastAPI's own way to refuse, which is not ours
        if "401" in operation["responses"]:
            operation["security"] = [{"key": []}, {}]
        if body := operation.get("requestBody"):
            body["content"][JSON]["schema"] = _moved(body["content"][JSON]["schema"], schemas)
        if stream := operation["responses"]["200"]["content"].get(STREAM):
            *_, data = stream["schema"]["properties"]["data"]["anyOf"]
            data["contentSchema"] = _moved(data["contentSchema"], schemas)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "Where the server was started with --api-key."}
    }
    return document


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _moved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to `schema`, which goes to the components with its definitions: its references point there."""
    if "$ref" in schema:
        return schema
    if "anyOf" in schema:
        return {"anyOf": [_moved(one, schemas) for one in schema["anyOf"]]}
    schema = dict(schema)
    schemas.update(schema.pop("$defs", {}))
    schemas[schema["title"]] = schema
    return {"$ref": REF.format(model=schema["title"])}
