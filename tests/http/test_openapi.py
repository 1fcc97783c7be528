"""The OpenAPI document is complete: every reference has a target and every field a description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from tests.serving import Server

POSTS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/completions",
    "/tokenize",
    "/detokenize",
)
ERRORS = {"400", "401", "404", "413", "500", "503"}


@pytest.fixture(scope="module")
def document(demo: Server) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{demo.url}/openapi.json", timeout=60).json()
    return answer


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


def test_every_reference_has_a_target(document: dict[str, Any]) -> None:
    references = [node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)]
    assert len(references) > 50
    known = document["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= known.keys()
    assert not [node for node in nodes(document) if "$defs" in node]


def test_every_schema_is_valid(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_field_of_a_request_has_a_description(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    reached, left = set(), ["ChatCompletionRequest", "CompletionRequest", "TokenizeText", "TokenizeChat"]
    left += ["DetokenizeRequest", "ResponseRequest", "MessagesRequest", "CountTokensRequest"]
    while left:
        name = left.pop()
        reached.add(name)
        assert schemas[name].get("description"), name
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description"), f"{name}.{field}"
        inner = {node["$ref"].rpartition("/")[2] for node in nodes(schemas[name]) if "$ref" in node}
        left += inner - reached
    assert "ToolDefinition" in reached


def test_every_error_is_listed_with_the_shape_of_its_protocol(document: dict[str, Any]) -> None:
    for path in POSTS:
        responses = document["paths"][path]["post"]["responses"]
        assert responses.keys() >= ERRORS
        assert "422" not in responses
        for status in responses.keys() - {"200"}:
            schema = responses[status]["content"]["application/json"]["schema"]
            shape = "AnthropicErrorBody" if path.startswith("/v1/messages") else "ErrorBody"
            assert schema == {"$ref": f"#/components/schemas/{shape}"}
        assert ("529" in responses) == path.startswith("/v1/messages")
    assert "429" in document["paths"]["/v1/chat/completions"]["post"]["responses"]


@pytest.mark.parametrize("path", POSTS)
def test_the_answers_to_the_examples_match_their_schemas(demo: Server, document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    told = operation["responses"]["200"]["content"]["application/json"]["schema"]
    body = operation["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        validator(document, body["schema"]).validate(example["value"])
        answer = httpx.post(demo.url + path, json=example["value"], timeout=60)
        assert answer.status_code == 200, answer.text
        if not example["value"].get("stream"):
            validator(document, told).validate(answer.json())


def test_the_answers_to_get_match_their_schemas(demo: Server, document: dict[str, Any]) -> None:
    for path in ("/v1/models", "/v1/models/lfm2-demo", "/health", "/ready", "/version"):
        operation = document["paths"][path.replace("lfm2-demo", "{name}")]["get"]
        told = operation["responses"]["200"]["content"]["application/json"]["schema"]
        validator(document, told).validate(httpx.get(demo.url + path).json())
        validator(document, told).validate(httpx.get(demo.url + path, headers={"anthropic-version": "any"}).json())


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_pages_need_no_other_host(demo: Server, page: str) -> None:
    answer = httpx.get(f"{demo.url}{page}")
    assert answer.status_code == 200
    assert "//" not in re.sub(r"^ *//.*$|<!--.*?-->", "", answer.text, flags=re.MULTILINE)
    linked = re.findall(r"""(?:src|href|spec-url|url)[=:] ?["']([^"']+)["']""", answer.text)
    assert "/openapi.json" in linked
    assert [path for path in linked if path.endswith(".js")]
    for path in linked:
        assert httpx.get(f"{demo.url}{path}").status_code == 200, path


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
