"""Every error that a chat can cause, with its message, in OpenAI's shape; single fields are in test_fields."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.chats import HELLO
from tests.errors import error_of
from tests.serving import Server, StartServer

UNENFORCEABLE = {"type": "object", "propertyNames": {"pattern": "^(?!a)"}}
TOOL = {"type": "function", "function": {"name": "f"}}


def user(**message: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "u"}, message]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "messages", "`messages` is required."),
        ({"messages": []}, "messages", "Invalid value for `messages`: []. List should have at least 1 item"),
        ({"messages": "hi"}, "messages", "Invalid value for `messages`: 'hi'. Input should be a valid list."),
        ({"messages": ["hi"]}, "messages[0]", "Invalid value for `messages[0]`: 'hi'."),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "`messages[0].role` is required."),
        ({"messages": user(role="robot", content="x")}, "messages[1].role", "'robot'. Input should be 'system',"),
        ({"messages": user(role="user")}, "messages[1].content", "A message with role user requires content."),
        ({"messages": user(role="tool")}, "messages[1].content", "A message with role tool requires content."),
        ({"messages": user(role="user", content=3)}, "messages[1].content", "3. Input should be a valid string"),
        (
            {"messages": user(role="user", content=[{"type": "image_url", "image_url": {"url": "x"}}])},
            "messages[1].content[0].type",
            "Content parts must have type text, the only type that this model supports; got 'image_url'.",
        ),
        (
            {"messages": user(role="user", content=[{"type": "text"}])},
            "messages[1].content[0].text",
            "A content part of type text requires the string field text.",
        ),
        (
            {"messages": user(role="user", content="x", tool_calls=[{"function": {"name": "f", "arguments": "{}"}}])},
            "messages[1].tool_calls",
            "Only assistant messages may have tool_calls; the role of this message is user.",
        ),
        (
            {"messages": user(role="assistant", tool_calls=[{"function": {"name": "f", "arguments": "no"}}])},
            "messages[1].tool_calls[0].function.arguments",
            "The arguments of f must be a JSON object as a string; got 'no'.",
        ),
        (
            {"messages": user(role="assistant", tool_calls=[{"function": {"name": "f", "arguments": {}}}])},
            "messages[1].tool_calls[0].function.arguments",
            "{}. Input should be a valid string",
        ),
        ({"temperature": 3}, "temperature", "`temperature`: 3. Input should be less than or equal to 2."),
        ({"temperature": "hot"}, "temperature", "`temperature`: 'hot'. Input should be a valid number."),
        ({"repetition_penalty": 1e-65}, "repetition_penalty", "greater than or equal to 0.01"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", "9999' is not a token ID."),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", "1.5"),
        ({"n": 9}, "n", "n must be at most 8 on this server (--max-n); got 9."),
        ({"stop": ["a"] * 5}, "stop", "at most 4 items"),
        ({"stop": 3}, "stop", "valid list"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7", "less than or equal to 100"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "99999 is not a token id of this model: ids go from 0 to 1023."),
        ({"top_logprobs": 2}, "top_logprobs", "top_logprobs requires logprobs: true."),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'xml'"),
        (
            {"tools": [{"type": "function"}]},
            "tools[0].function",
            "An object of type function requires the field `function`.",
        ),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name", "at least 1 character"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice.type", "'sometimes'"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            "tool_choice names the unknown tool 'g'. The request's tools are: f.",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function"}},
            "tool_choice.function",
            "An object of type function requires the field `function`.",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
            "tool_choice.allowed_tools.tools",
            "at least 1 item",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "match pattern"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "c", "format": {"type": "image"}}}]},
            "tools[0].custom.format.type",
            "Input should be 'text' or 'grammar'",
        ),
        (
            {"tools": [{"type": "custom", "custom": {"name": "c", "format": {"type": "grammar"}}}]},
            "tools[0].custom.format.grammar",
            "requires the field `grammar`",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": UNENFORCEABLE}}]},
            "tools[0].function.parameters",
            "cannot be enforced",
        ),
        ({"tools": [TOOL], "functions": [{"name": "f"}]}, "functions", "functions is the deprecated form of tools"),
        (
            {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
            "function_call",
            "function_call names the unknown tool 'g'",
        ),
        ({"functions": [{"name": "f"}], "function_call": {}}, "function_call", 'must be "none", "auto" or'),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "requires the field `json_schema`",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
            "match pattern",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": UNENFORCEABLE}}},
            "response_format.json_schema.schema",
            "cannot be enforced",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "strange"}}}},
            "response_format.json_schema.schema",
            "strange",
        ),
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
            "continue_final_message and add_generation_prompt cannot both be true",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    tiny: Server, body: dict[str, Any], param: str, message: str
) -> None:
    complete = body if not body or "messages" in body else {"messages": HELLO} | body
    error = error_of(tiny.chat(**complete), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "The request's body is not valid JSON: EOF"),
        (b"", "The request's body is not valid JSON: EOF"),
        (b"\xff", "The request's body is not valid JSON"),
        (b'{"messages": NaN}', "The request's body is not valid JSON"),
        (b'{"a": "\\ud800"}', "The request's body is not valid JSON"),
        (b"[" * 100_000, "The request's body is not valid JSON: recursion limit"),
    ],
)
def test_a_body_that_is_not_json_is_refused(tiny: Server, content: bytes, message: str) -> None:
    error = error_of(httpx.post(f"{tiny.url}/v1/chat/completions", content=content), 400)
    assert error["code"] == "invalid_json"
    assert error["message"].startswith(message)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null"])
def test_json_other_than_an_object_is_refused(tiny: Server, content: bytes) -> None:
    error = error_of(httpx.post(f"{tiny.url}/v1/chat/completions", content=content), 400)
    assert error["message"].startswith("The request's body must be a JSON object")


def test_a_body_is_json_whatever_its_content_type_says(tiny: Server) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}'
    assert httpx.post(f"{tiny.url}/v1/chat/completions", content=body, headers=headers).status_code == 200


def test_a_byte_order_mark_before_a_body_is_ignored(tiny: Server) -> None:
    body = '{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}'.encode("utf-8-sig")
    assert httpx.post(f"{tiny.url}/v1/chat/completions", content=body).status_code == 200


def test_a_body_that_is_too_large_is_refused(tiny: Server) -> None:
    error = error_of(tiny.chat(messages=[{"role": "user", "content": "x" * 2**21}]), 413)
    assert error["code"] == "request_too_large"
    assert error["message"] == "The request body is too large: the limit is 2,097,152 bytes."


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(tiny: Server, stream: bool) -> None:
    answer = tiny.chat(messages=[{"role": "user", "content": "1" * 5000}], stream=stream)
    error = error_of(answer, 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert error["message"] == (
        "This model's maximum context length is 4096 tokens, and your prompt has 5009 tokens. Please shorten the "
        "prompt: the answer needs at least one token."
    )


def test_a_max_tokens_that_does_not_fit_is_served_up_to_the_contexts_end(start_server: StartServer) -> None:
    server = start_server(max_model_len=64)
    answer = server.chat(
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=10_000,
        logit_bias={"7": -100},
    ).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 64


def test_a_model_that_is_not_served_is_not_found(tiny: Server) -> None:
    error = error_of(tiny.chat(model="gpt-4o", messages=HELLO), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert error["message"] == "The model `gpt-4o` does not exist. This server serves: tiny-model."
    assert error_of(httpx.get(f"{tiny.url}/v1/models/gpt-4o"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/nothing", 404, "Unknown URL: GET /v1/nothing. See /docs."),
        ("POST", "/v1", 404, "Unknown URL: POST /v1. See /docs."),
        ("POST", "//v1/chat/completions", 404, "Unknown URL: POST //v1/chat/completions. See /docs."),
        ("POST", "/", 405, "POST is not allowed for /; allowed: GET."),
        ("GET", "/v1/chat/completions", 405, "GET is not allowed for /v1/chat/completions; allowed: POST."),
        ("DELETE", "/health", 405, "DELETE is not allowed for /health; allowed: GET."),
    ],
)
def test_an_unknown_route_or_method_is_named(tiny: Server, method: str, path: str, status: int, message: str) -> None:
    error = error_of(httpx.request(method, tiny.url + path), status)
    assert (error["type"], error["message"]) == ("invalid_request_error", message)


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-1:2", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("", False)]
)
def test_a_valid_request_id_is_returned_and_others_are_replaced(tiny: Server, sent: str, kept: bool) -> None:
    answer = httpx.get(f"{tiny.url}/health", headers={"X-Request-Id": sent})
    assert (answer.headers["x-request-id"] == sent) == kept
