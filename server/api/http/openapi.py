"""Builds the OpenAPI document of /docs.

Adds the request bodies, which FastAPI does not know because the routes parse them on their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from server.api.http.api_error import ErrorBody

REF = "#/components/schemas/{model}"
JSON = "application/json"
STREAM = "text/event-stream"

DESCRIPTION = """OpenAI's API for LiquidAI's LFM2 models in ONNX.

Programs written for OpenAI's API work unchanged: set the client's base URL to `http://HOST:PORT/v1`. A null field
counts as absent; unknown fields are ignored. Errors have OpenAI's format, and on `/v1/messages` Anthropic's. Every
response has the header `x-request-id`. It repeats the request's own `x-request-id` if the client sent one.
"""

TAGS = [
    {"name": "chat", "description": "Chat with tools, structured output and reasoning."},
    {"name": "messages", "description": "Chat over Anthropic's Messages API."},
    {"name": "responses", "description": "Chat in OpenAI's newer form, with responses that the server keeps."},
    {"name": "completions", "description": "Text continuation and log-probabilities."},
    {"name": "models", "description": "The served models."},
    {"name": "tokens", "description": "Conversion between text and token IDs."},
    {"name": "health", "description": "Liveness, readiness and version. No key required."},
]

RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}

_ERRORS: dict[int, dict[str, Any]] = {
    400: {"description": "Invalid request; `param` names the field."},
    401: {"description": "Missing or wrong API key."},
    404: {"description": "Unknown model, response or path."},
    408: {"description": "The body took too long to arrive."},
    413: {"description": "The body is too large."},
    415: {"description": "The body is compressed; the server decodes no content encoding."},
    429: {"description": "The queue is full, or the key has reached its rate limit.", "headers": RETRY},
    500: {"description": "Internal error; see the server's log."},
    503: {
        "description": "The model is loading, or the server is stopping or overloaded.",
        "headers": RETRY,
    },
    504: {"description": "The request exceeded its time limit."},
    529: {"description": "The queue is full.", "headers": RETRY},
}

GENERATING = (400, 401, 404, 408, 413, 415, 429, 500, 503, 504)
"""Error statuses of the routes that generate text."""

Responses = dict[int | str, dict[str, Any]]

_referenced: dict[str, type[Any]] = {}  # types by name; their schemas are slow to build and needed only for /docs


def answers(model: type[Any], *errors: int, error: type[Any] = ErrorBody) -> Responses:
    """Return a value for `responses=` in route decorators.

    model: TypedDict of a successful body.
    errors: HTTP statuses of the route's errors.
    error: TypedDict of an error body.
    """
    responses: Responses = {200: {"description": "Success.", "content": _json(model)}}
    return responses | {status: {"content": _json(error), **_ERRORS[status]} for status in errors}


def either(first: Responses, second: Responses) -> Responses:
    """Return responses whose bodies have the form of either `first` or `second`.

    Both must have the same statuses.
    """
    return {
        status: {
            **response,
            "content": {
                JSON: {"schema": {"anyOf": [one["content"][JSON]["schema"] for one in (response, second[status])]}}
            },
        }
        for status, response in first.items()
    }


def streamed(
    responses: Responses, *chunks: type[Any], example: str, named: bool = False, error: type[Any] = ErrorBody
) -> Responses:
    """Return `responses` with an event stream as an alternative to the JSON body.

    chunks: TypedDicts of the stream's chunks.
    example: text of an example stream.
    named: whether events have names. A stream of named events has no `[DONE]`.
    error: TypedDict of the event that ends a failed stream.
    """
    data: dict[str, Any] = {
        "type": "string",
        "description": "A chunk, or an error that ends the stream.",
        "contentMediaType": JSON,
        "contentSchema": {"anyOf": [_reference(chunk) for chunk in (*chunks, error)]},
    }
    event: dict[str, Any] = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    if named:
        event["properties"]["event"] = {"type": "string", "description": "The `type` of the data."}
    else:
        last = {"const": "[DONE]", "description": "End of the stream."}
        event["properties"]["data"] = {"anyOf": [last, data]}
    content = responses[200]["content"] | {STREAM: {"schema": event, "example": example}}
    return responses | {200: responses[200] | {"content": content}}


def request_body(*models: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for `openapi_extra=` in route decorators.

    models: accepted types of the body.
    examples: example bodies by title.
    """
    references = [_reference(model) for model in models]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    shown = {summary: {"summary": summary, "value": value} for summary, value in examples.items()}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema, "examples": shown}}}}


def install(app: FastAPI) -> None:
    """Make `app` serve the OpenAPI document that this module builds."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _json(model: type[Any]) -> dict[str, Any]:
    return {JSON: {"schema": _reference(model)}}


def _reference(model: type[Any]) -> dict[str, Any]:
    _referenced[model.__name__] = model
    return {"$ref": REF.format(model=model.__name__)}


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=TAGS)
    for operation in _operations(document):
        operation["responses"].pop("422", None)  # FastAPI's own validation error; ours is a 400
        if "401" in operation["responses"]:
            operation["security"] = [{"key": []}, {"anthropic_key": []}, {}]
    required = "Required if the server has API keys."
    keys = {
        "key": {"type": "http", "scheme": "bearer", "description": required},
        "anthropic_key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": required},
    }
    document["components"] = {"schemas": _schemas(), "securitySchemes": keys}
    return document


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _schemas() -> dict[str, Any]:
    """Return the JSON schemas of all types in `_referenced`, by name."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (name, "validation", TypeAdapter(model)) for name, model in sorted(_referenced.items())
    ]
    _, schemas = TypeAdapter.json_schemas(inputs, ref_template=REF)
    definitions: dict[str, Any] = jsonable_encoder(schemas["$defs"], exclude_none=True)  # leaves out null defaults
    return definitions
