"""Answers and chunks match the OpenAPI document exactly: no field is undocumented, and none is documented in vain.

Those of responses and messages also are of the SDKs' types.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from openai.types.responses import InputTokenCountResponse, Response, ResponseItemList, ResponseStreamEvent
from pydantic import TypeAdapter

from server.api.messages.wire import EVENTS as MESSAGE_EVENTS
from server.api.responses.output.events import EVENTS
from server.settings import Settings
from tests.scripted import thinker
from tests.serving import Server, serving

REF = "#/components/schemas/"
Fields = set[tuple[str, str]]  # (schema, property)
SDK_TYPES: dict[str, tuple[Any, Any]] = {
    "post /v1/responses": (Response, ResponseStreamEvent),
    "get /v1/responses/{response_id}": (Response, ResponseStreamEvent),
    "get /v1/responses/{response_id}/input_items": (ResponseItemList, Any),
    "post /v1/responses/input_tokens": (InputTokenCountResponse, Any),
    "post /v1/messages": (Message, RawMessageStreamEvent),
    "post /v1/messages/count_tokens": (MessageTokensCount, Any),
}
"""The types of an answer and of a chunk by route."""

STREAM_OPTIONS = {"include_usage": True, "continuous_usage_stats": True}
DETAILS = {"logprobs": True, "top_logprobs": 2, "return_token_ids": True}
PING = {"name": "ping", "parameters": {"type": "object", "properties": {"host": {"type": "string"}}}}


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


CHATS: list[dict[str, Any]] = [
    {},
    {"messages": user("hello " * 100), "return_progress": True, "n": 2, **DETAILS},
    {"messages": user("function"), "tools": [{"type": "function", "function": PING}], **DETAILS},
    {"messages": user("custom"), "tools": [{"type": "custom", "custom": {"name": "shell"}}]},
    {"messages": user("function"), "functions": [PING]},
    {"max_completion_tokens": 3},
]
TEXTS: list[dict[str, Any]] = [
    {},
    {"echo": True, "logprobs": 2, "return_token_ids": True, "n": 2},
    {"echo": True, "max_tokens": 0},
]
CRM = {"type": "namespace", "name": "crm", "tools": [{"type": "function", **PING}, {"type": "custom", "name": "shell"}]}
RESPONSES: list[dict[str, Any]] = [
    {"metadata": {"a": "b"}, "include": ["reasoning.encrypted_content"]},
    {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "return_token_ids": True},
    {"input": "function", "tools": [{"type": "function", **PING}]},
    {"input": "custom", "tools": [{"type": "custom", "name": "shell"}]},
    {"input": "namespace", "tools": [CRM]},
    {"max_output_tokens": 3},
]
MESSAGES: list[dict[str, Any]] = [
    {"return_token_ids": True},
    {"messages": user("function"), "tools": [{"name": "ping", "input_schema": PING["parameters"]}]},
    {"stop_sequences": ["there"]},
]
ITEMS: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "function"},
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
    {"role": "assistant", "content": "Let me see."},
    {"type": "function_call", "call_id": "a", "name": "ping", "arguments": "{}"},
    {"type": "custom_tool_call", "call_id": "b", "name": "shell", "namespace": "crm", "input": "ls"},
    {"type": "function_call_output", "call_id": "a", "output": "pong"},
    {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "src"}]},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
]
STREAMS: list[dict[str, Any]] = [
    {"stream": True},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"stream": True, "stream_options": STREAM_OPTIONS},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scripts = [
        ("hello", "Hello there!"),
        ("hello " * 100, "So long!"),
        ("function", '<|tool_call_start|>[ping(host="here")]<|tool_call_end|>'),
        ("custom", '<|tool_call_start|>[shell(input="ls")]<|tool_call_end|>'),
        ("namespace", '<|tool_call_start|>[crm.ping(host="here"), crm.shell(input="ls")]<|tool_call_end|>'),
    ]
    model = thinker(tmp_path_factory.mktemp("models") / "scripted", scripts)
    with serving(Settings(model=str(model), threads=1)) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    """The server's document, with schemas that forbid undocumented fields."""
    document: dict[str, Any] = httpx.get(f"{server.url}/openapi.json", timeout=60).json()
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return document


class Observer:
    """Validates answers against `document` and the SDK's types; `seen` collects the fields that they have."""

    def __init__(self, document: dict[str, Any], path: str, method: str = "post") -> None:
        self._document = document
        self._content = document["paths"][path][method]["responses"]["200"]["content"]
        self._types = [TypeAdapter(kind) for kind in SDK_TYPES.get(f"{method} {path}", (Any, Any))]
        self.seen: Fields = set()

    def body(self, answer: Any) -> None:
        self._types[0].validate_json(json.dumps(answer), strict=True)
        self._observe(self._content["application/json"]["schema"], answer)

    def chunk(self, chunk: Any) -> None:
        if chunk.get("type") != "ping":  # the SDK drops pings
            self._types[1].validate_json(json.dumps(chunk), strict=True)
        data = self._content["text/event-stream"]["schema"]["properties"]["data"]
        data = data["anyOf"][-1] if "anyOf" in data else data
        self._observe(data["contentSchema"], chunk)

    def documented(self, *roots: str) -> Fields:
        """All fields of the schemas `roots` and of those that they refer to."""
        schemas, left, reached = self._document["components"]["schemas"], list(roots), set()
        while left:
            reached.add(name := left.pop())
            left += {ref.removeprefix(REF) for ref in _references(schemas[name])} - reached
        return {(name, field) for name in reached for field in schemas[name].get("properties", ())}

    def _observe(self, schema: dict[str, Any], value: Any) -> None:
        self._validator(schema).validate(value)
        self._collect(schema, value)

    def _collect(self, schema: dict[str, Any], value: Any) -> None:
        if "anyOf" in schema:
            schema = next(option for option in schema["anyOf"] if self._validator(option).is_valid(value))
        name = schema.get("$ref", "").removeprefix(REF)
        schema = self._document["components"]["schemas"][name] if name else schema
        if isinstance(value, list):
            for item in value:
                self._collect(schema["items"], item)
        elif isinstance(value, dict):
            for field in value.keys() & schema.get("properties", {}).keys():
                self.seen.add((name, field))
                self._collect(schema["properties"][field], value[field])

    def _validator(self, schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator({**schema, "components": self._document["components"]})


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def chunks(url: str, body: dict[str, Any]) -> list[Any]:
    answer = httpx.post(url, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    *events, last = answer.text.removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]


def post(url: str, body: dict[str, Any]) -> Any:
    answer = httpx.post(url, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_chat_answers_and_chunks_match_their_schemas(server: Server, document: dict[str, Any]) -> None:
    url = f"{server.url}/v1/chat/completions"
    observer = Observer(document, "/v1/chat/completions")
    for fields in CHATS:
        body = {"messages": user("hello"), "temperature": 0, **fields}
        observer.body(post(url, body))
        for options in STREAMS:
            for chunk in chunks(url, body | options):
                observer.chunk(chunk)
    assert observer.seen == observer.documented("ChatCompletion", "ChatCompletionChunk")


def test_responses_and_their_events_match_their_schemas(server: Server, document: dict[str, Any]) -> None:
    url = f"{server.url}/v1/responses"
    observer = Observer(document, "/v1/responses")
    for fields in RESPONSES:
        body = {"input": "hello", "temperature": 0, **fields}
        observer.body(post(url, body))
        for background in (False, True):
            answer = httpx.post(url, json=body | {"stream": True, "background": background}, timeout=60)
            for event in answer.text.removesuffix("\n\n").split("\n\n"):
                observer.chunk(json.loads(event.partition("data: ")[2]))
    failures = {("ResponseError", name) for name in ("code", "message")}
    failures |= observer.documented("ResponseErrorEvent")
    assert observer.seen == observer.documented("ResponseBody", *(event.__name__ for event in EVENTS)) - failures


def test_messages_and_their_events_match_their_schemas(server: Server, document: dict[str, Any]) -> None:
    url = f"{server.url}/v1/messages"
    observer = Observer(document, "/v1/messages")
    for fields in MESSAGES:
        body = {"messages": user("hello"), "max_tokens": 100, "temperature": 0, **fields}
        observer.body(post(url, body))
        answer = httpx.post(url, json=body | {"stream": True}, timeout=60)
        for event in answer.text.removesuffix("\n\n").split("\n\n"):
            observer.chunk(json.loads(event.partition("data: ")[2]))
    observer.chunk({"type": "ping"})
    documented = observer.documented("AnthropicMessage", *(event.__name__ for event in MESSAGE_EVENTS))
    assert observer.seen == documented
    counter = Observer(document, "/v1/messages/count_tokens")
    counter.body(post(f"{url}/count_tokens", {"messages": user("hello")}))
    assert counter.seen == counter.documented("TokenCount")


def test_stored_responses_match_their_schemas(server: Server, document: dict[str, Any]) -> None:
    url = f"{server.url}/v1/responses"
    stored = f"{url}/{post(url, {'input': ITEMS})['id']}"
    Observer(document, "/v1/responses/{response_id}", "get").body(httpx.get(stored).json())
    for path, method, answer, schema in (
        ("/v1/responses/{response_id}/input_items", "get", httpx.get(f"{stored}/input_items"), "ResponseItemList"),
        (
            "/v1/responses/input_tokens",
            "post",
            httpx.post(f"{url}/input_tokens", json={"input": "a"}),
            "InputTokenCount",
        ),
        ("/v1/responses/{response_id}", "delete", httpx.delete(stored), "DeletedResponse"),
    ):
        observer = Observer(document, path, method)
        observer.body(answer.json())
        assert observer.seen == observer.documented(schema)


def test_text_completions_and_their_chunks_match_their_schema(server: Server, document: dict[str, Any]) -> None:
    url = f"{server.url}/v1/completions"
    observer = Observer(document, "/v1/completions")
    for fields in TEXTS:
        body = {"prompt": "Once upon", "max_tokens": 4, **fields}
        observer.body(post(url, body))
        for options in STREAMS:
            for chunk in chunks(url, body | options):
                observer.chunk(chunk)
    assert observer.seen == observer.documented("TextCompletion")


def test_other_answers_match_their_schemas(server: Server, document: dict[str, Any]) -> None:
    for path, body, schema in (
        ("/tokenize", {"prompt": "hello", "return_token_strs": True}, "TokenizeResponse"),
        ("/detokenize", {"tokens": [1, 2]}, "DetokenizeResponse"),
    ):
        observer = Observer(document, path)
        observer.body(post(server.url + path, body))
        assert observer.seen == observer.documented(schema)
    for path, schema in (
        ("/v1/models", "ModelList"),
        ("/v1/models/{name}", "ModelDetails"),
        ("/health", "HealthStatus"),
        ("/ready", "HealthStatus"),
        ("/version", "ServerVersion"),
    ):
        observer = Observer(document, path, "get")
        observer.body(httpx.get(server.url + path.replace("{name}", "scripted")).json())
        assert observer.seen == observer.documented(schema)
    for path, schema in (("/v1/models", "AnthropicModelList"), ("/v1/models/{name}", "AnthropicModel")):
        observer = Observer(document, path, "get")
        headers = {"anthropic-version": "2023-06-01"}
        observer.body(httpx.get(server.url + path.replace("{name}", "scripted"), headers=headers).json())
        assert observer.seen == observer.documented(schema)
