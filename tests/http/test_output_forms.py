"""Structured output on every route: the same fields, effects and errors for chats and texts."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.errors import error_of
from tests.http.test_errors import UNENFORCEABLE
from tests.serving import Server

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
}
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
HOT = {"temperature": 1.5, "min_p": 0, "repetition_penalty": 1, "max_tokens": 200}


def post(server: Server, route: str, **fields: Any) -> httpx.Response:
    return httpx.post(server.url + route, json=ROUTES[route] | HOT | fields, timeout=60)


def answers(server: Server, route: str, **fields: Any) -> list[str]:
    answer = post(server, route, **fields)
    assert answer.status_code == 200, answer.text
    return [choice["text"] if "text" in choice else choice["message"]["content"] for choice in answer.json()["choices"]]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"response_format": {"type": "json_object", "schema": json.dumps(SCHEMA)}},
        {"structured_outputs": {"json": SCHEMA}},
        {"guided_json": SCHEMA},
    ],
)
def test_a_schema_is_enforced_on_every_route(tiny: Server, route: str, fields: dict[str, Any]) -> None:
    for seed in range(3):
        (text,) = answers(tiny, route, seed=seed, **fields)
        assert json.loads(text) in ({"a": "x"}, {"a": "y"})


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"guided_regex": "[ab]{3}"}, "[ab]{3}"),
        ({"guided_grammar": 'start: "a" | "b"'}, "a|b"),
        ({"structured_outputs": {"regex": "[0-9]{2}"}}, "[0-9]{2}"),
    ],
)
def test_other_forms_are_enforced_on_every_route(
    tiny: Server, route: str, fields: dict[str, Any], pattern: str
) -> None:
    for text in answers(tiny, route, n=4, ignore_eos=True, **fields):
        assert re.fullmatch(pattern, text)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_json": UNENFORCEABLE}, "guided_json"),
        ({"response_format": {"type": "json_object", "schema": UNENFORCEABLE}}, "response_format.schema"),
        ({"guided_json": {}, "guided_choice": ["a"]}, "guided_choice"),
        ({"response_format": {"type": "text", "schema": SCHEMA}}, "response_format.schema"),
        (
            {"response_format": {"type": "json_schema", "schema": SCHEMA, "json_schema": {"name": "n"}}},
            "response_format.schema",
        ),
        ({"response_format": {"type": "json_object", "schema": [1]}}, "response_format.schema"),
        ({"typical_p": 0.9}, "typical_p"),
    ],
)
def test_a_form_that_cannot_be_enforced_is_an_error_on_every_route(
    tiny: Server, route: str, fields: dict[str, Any], param: str
) -> None:
    assert error_of(post(tiny, route, **fields), 400)["param"] == param


def test_an_echoed_prompt_is_not_part_of_the_form(tiny: Server) -> None:
    for text in answers(tiny, "/v1/completions", prompt=["a", "b"], echo=True, guided_choice=["yes", "no"]):
        assert re.fullmatch("[ab](yes|no)", text)


def test_a_stream_of_text_matches_the_form(tiny: Server) -> None:
    answer = post(tiny, "/v1/completions", stream=True, guided_choice=["yes", "no"])
    chunks = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) in ("yes", "no")
