"""The parts of a Messages request's fields: blocks of the history, tools, and what of them is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http.field_tables import ODD, serving_random_weights
from tests.http.messages_route import CACHED, PING, SEARCH, Route, assistant, error_of, text, user

THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "any"}
CALL = {"type": "tool_use", "id": "c", "name": "ping", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "c"}


def without(block: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != name}


@pytest.fixture(scope="module")
def route(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Route]:
    with serving_random_weights(tiny_model, tmp_path_factory.mktemp("templates")) as running:
        yield Route(running)


def test_a_history_with_every_kind_of_block_gives_the_chats_prompt(route: Route) -> None:
    hidden = {"type": "redacted_thinking", "data": "?"}
    messages = [
        user([text("a"), {**text("b"), **CACHED}]),
        assistant([THINKING, hidden, text("c"), {**CALL, **CACHED}, {**CALL, "id": "d"}]),
        user(
            [
                {**RESULT, "content": "e", **CACHED},
                {**RESULT, "tool_use_id": "d", "content": [{**text("f"), **CACHED}], "is_error": True},
            ]
        ),
        {"role": "system", "content": [text("g")]},
        user("h"),
    ]
    calls = [{"id": id, "type": "function", "function": {"name": "ping", "arguments": "{}"}} for id in "cd"]
    chat = [
        user("a\nb"),
        {**assistant("c"), "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "e"},
        {"role": "tool", "tool_call_id": "d", "content": "Error: f"},
        {"role": "system", "content": "g"},
        user("h"),
    ]
    answer = route.server.chat(messages=chat, max_tokens=1, return_token_ids=True)
    assert route.prompt(messages=messages, max_tokens=1) == answer.json()["prompt_token_ids"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [user([{"type": "image", "source": {}}])]}, "reads text only: blocks of type image"),
        ({"messages": [user([{"type": "document", "source": {}}])]}, "reads text only: blocks of type document"),
        ({"messages": [user([{**RESULT, "content": [{"type": "image"}]}])]}, "must have type text; got 'image'"),
        ({"messages": [assistant([{"type": "server_tool_use"}])]}, "blocks of type server_tool_use are not supported"),
        ({"messages": [user([THINKING])]}, "role user cannot have blocks of type thinking; allowed: text, tool_result"),
        ({"messages": [assistant([RESULT])]}, "role assistant cannot have blocks of type tool_result"),
        ({"messages": [user([{"type": "text"}])]}, "`messages[0].content[0].text` is required"),
        ({"messages": [user([{"text": "a"}])]}, "blocks of type None are not supported"),
        ({"messages": [assistant([without(CALL, "id")])]}, "`messages[0].content[0].id` is required"),
        ({"messages": [assistant([without(CALL, "name")])]}, "`messages[0].content[0].name` is required"),
        ({"messages": [assistant([{**CALL, "input": "{}"}])]}, "messages[0].content[0].input"),
        ({"messages": [user([without(RESULT, "tool_use_id")])]}, "`messages[0].content[0].tool_use_id` is required"),
        ({"messages": [user([{**RESULT, "is_error": "no"}])]}, "messages[0].content[0].is_error"),
        ({"messages": [assistant([without(THINKING, "thinking")])]}, "`messages[0].content[0].thinking` is required"),
        ({"messages": [assistant([{**THINKING, "signature": 3}])]}, "messages[0].content[0].signature"),
        ({"messages": [assistant([{"type": "redacted_thinking", "data": 3}])]}, "messages[0].content[0].data"),
        ({"system": [{"type": "text"}]}, "A text block requires the string field text"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "Input should be 'user', 'assistant' or 'system'"),
        ({"messages": [{"role": "user"}]}, "`messages[0].content` is required"),
        ({"messages": [user("a")] * 5001}, "at most 5,000 items"),
        ({"max_tokens": None}, "`max_tokens`"),
        ({"stop_sequences": ["a"] * 5}, "at most 4 items"),
        ({"thinking": {"type": "enabled", "budget_tokens": 20}}, "must be less than max_tokens, which is 20; got 20"),
        ({"thinking": {"type": "sometimes"}}, "Input should be"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "greater than or equal to 0"),
        ({"thinking": {"type": "adaptive", "display": "some"}}, "Input should be"),
        ({"tools": [PING], "tool_choice": {"type": "required"}}, "Input should be"),
        ({"tools": [PING], "tool_choice": {"type": "any", "disable_parallel_tool_use": "no"}}, "valid boolean"),
        ({"tools": [PING], "tool_choice": {"type": "tool"}}, "type tool requires the field `name`"),
        ({"tools": [PING], "tool_choice": {"type": "tool", "name": "f"}}, "unknown tool 'f'; known: ping"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "does not have: web_search"),
        ({"tools": [PING, SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}}, "does not have: web_search"),
        ({"tools": [{"input_schema": {}}]}, "A tool requires the field `name`"),
        ({"tools": [{**PING, "strict": True, "input_schema": {"not": {"type": 3}}}]}, "tools[0].input_schema"),
        ({"tools": [{**PING, "strict": "no"}]}, "tools[0].strict"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "`output_config.format.schema` is required"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": 3}}}}, "output_config.format.schema"),
    ],
)
def test_a_wrong_part_of_a_field_is_refused(route: Route, fields: dict[str, Any], message: str) -> None:
    error = error_of(route.post(**fields), 400)
    assert error["type"] == "invalid_request_error"
    assert message in error["message"]


def test_a_schema_that_cannot_be_enforced_is_warned_of_unless_the_tool_is_strict(route: Route) -> None:
    tool = {**PING, "input_schema": ODD}
    assert route.post(tools=[tool]).headers["x-lfm-unenforced"].startswith("tools[0].input_schema")
    assert "tools[0].input_schema" in error_of(route.post(tools=[{**tool, "strict": True}]), 400)["message"]


def test_tools_of_anthropics_are_left_out_with_a_warning(route: Route) -> None:
    tools = [SEARCH, {"type": "computer_toolset_20260801"}, PING, SEARCH]
    for stream in (False, True):
        answer = route.post(tools=tools, stream=stream)
        assert answer.headers["x-lfm-dropped-tools"] == "web_search_20250305, computer_toolset_20260801"
    assert "x-lfm-dropped-tools" not in route.post(tools=[PING]).headers
