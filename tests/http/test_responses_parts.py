"""The parts of a response request's fields: items of the input, formats, tools, and what of them is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.errors import error_of
from tests.http.field_tables import ALWAYS_CALLS, ODD, Check, changes_nothing, serving_random_weights
from tests.http.responses_route import AB, PING, SHELL, Route

PONG = {"type": "function", "name": "pong"}
CRM = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [PING, SHELL]}
CALL = {"type": "function_call", "call_id": "c", "name": "ping", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "pong"}
RUN = {"type": "custom_tool_call", "call_id": "d", "name": "shell", "input": "ls"}
BYE = {"role": "user", "content": "bye"}


def text(value: str, kind: str = "input_text") -> dict[str, Any]:
    return {"type": kind, "text": value}


@pytest.fixture(scope="module")
def route(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Route]:
    with serving_random_weights(tiny_model, tmp_path_factory.mktemp("templates")) as running:
        yield Route(running)


def test_a_history_with_every_kind_of_item_gives_the_chats_prompt(route: Route) -> None:
    items = [
        {"role": "system", "content": "a"},
        {"type": "message", "role": "developer", "content": [text("b"), text("c", "text")]},
        {"role": "user", "content": [text("d")]},
        {"type": "reasoning", "summary": [text("Hm.", "summary_text")]},
        {"role": "assistant", "content": [text("e", "output_text")]},
        CALL,
        {**RUN, "status": "completed"},
        {**RESULT, "output": [text("f"), text("g")]},
        {"type": "custom_tool_call_output", "call_id": "d", "output": [text("h")]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        BYE,
    ]
    calls = [
        {"id": "c", "type": "function", "function": {"name": "ping", "arguments": "{}"}},
        {"id": "d", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
    ]
    chat = [
        {"role": "system", "content": "a"},
        {"role": "system", "content": "b\nc"},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "f\ng"},
        {"role": "tool", "tool_call_id": "d", "content": "h"},
        {"role": "assistant", "content": "No."},
        BYE,
    ]
    answer = route.server.chat(messages=chat, max_tokens=1, return_token_ids=True)
    assert route.prompt(input=items, max_output_tokens=1) == answer.json()["prompt_token_ids"]


def test_an_item_with_null_as_its_type_is_a_message(route: Route) -> None:
    assert route.prompt(input=[{**BYE, "type": None}]) == route.prompt(input=[BYE])


def test_tools_of_a_namespace_are_in_the_prompt_by_their_full_names(route: Route) -> None:
    named = {"tools": [{**PING, "name": "crm.ping"}, {**SHELL, "name": "crm.shell"}]}
    items = [BYE, CALL, RUN, RESULT, {**RESULT, "type": "custom_tool_call_output", "call_id": "d"}]
    inside = [{**item, "namespace": "crm"} if "name" in item else item for item in items]
    flat = [{**item, "name": f"crm.{item['name']}"} if "name" in item else item for item in items]
    assert route.prompt(input=inside, tools=[CRM]) == route.prompt(input=flat, **named)
    first = route.ask(input=inside, tools=[CRM])
    then = {"input": [BYE], "previous_response_id": first["id"]}
    said = [{key: item[key] for key in ("role", "content")} for item in first["output"]]
    assert route.prompt(**then, tools=[CRM]) == route.prompt(input=[*flat, *said, BYE], **named)


def calls(*names: str, **fields: Any) -> Check:
    """Return a check that the answer calls these tools, and no others."""
    return lambda route: tuple(route.called(tools=[PING, PONG, SHELL, {"type": "mcp"}], **fields)) == names


def allowed(mode: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {"tool_choice": {"type": "allowed_tools", "mode": mode, "tools": tools}}


def forgets(*items: Any) -> Check:
    """Return a check that a prompt drops these items: a call, and a result that is too long for the context."""
    fields: dict[str, Any] = {"truncation": "auto", "instructions": "Be brief."}
    return lambda route: route.prompt(input=[*items, BYE], **fields) == route.prompt(input=[BYE], **fields)


def warns_unless_strict(route: Route) -> bool:
    tool = {**PING, "parameters": ODD}
    assert route.post(tools=[tool]).headers["x-lfm-unenforced"].startswith("tools[0].parameters")
    return route.post(tools=[{**tool, "strict": True}]).status_code == 400


ONE = {"parallel_tool_calls": False}
LONG_RESULT = {**RESULT, "output": "pong " * 5000}
EFFECTS: dict[str, Check] = {
    "text.format text": changes_nothing("text", {"format": {"type": "text"}}),
    "text.format json_object": lambda r: r.said(text={"format": {"type": "json_object"}}).startswith("{"),
    "text.verbosity": changes_nothing("text", {"verbosity": "low"}),
    "reasoning.summary": changes_nothing("reasoning", {"summary": "auto"}),
    "tool_choice auto": calls("ping", **ALWAYS_CALLS, **ONE, tool_choice="auto"),
    "tool_choice none": calls(**ALWAYS_CALLS, **ONE, tool_choice="none", max_output_tokens=20),
    "tool_choice custom": calls("shell", tool_choice={"type": "custom", "name": "shell"}),
    "tool_choice allowed_tools auto": calls("pong", **ALWAYS_CALLS, **ONE, **allowed("auto", PONG, {"type": "mcp"})),
    "tool_choice allowed_tools required": calls("pong", **ONE, **allowed("required", PONG)),
    "tool_choice of a namespace": lambda r: (
        r.called(tools=[CRM, PING], tool_choice={"type": "custom", "name": "crm.shell"}) == ["shell"]
    ),
    "tools custom format text": lambda r: (
        r.called(tools=[{**SHELL, "format": {"type": "text"}}], tool_choice="required", **ONE) == ["shell"]
    ),
    "tools strict": warns_unless_strict,
    "truncation of a pair": forgets(CALL, LONG_RESULT),
    "truncation of parallel calls": forgets(CALL, RUN, LONG_RESULT, {**RESULT, "call_id": "d"}),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_a_part_of_a_field_has_its_effect(route: Route, name: str) -> None:
    assert EFFECTS[name](route)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input": None}, "input", "`input` is required."),
        ({"input": []}, "input", "at least one message"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type", "text only"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type", "text only"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].type", "text only"),
        ({"input": [{"role": "user"}]}, "input[0].content", "requires the field `content`"),
        ({"input": [{"content": "a"}]}, "input[0].role", "requires the field `role`"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role", "Input should be"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type", "web_search_call are not supported"),
        ({"input": [{**CALL, "arguments": "[1]"}]}, "input[0].arguments", "must be a JSON object"),
        ({"input": [{**CALL, "call_id": None}]}, "input[0].call_id", "requires the field `call_id`"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c"}]},
            "input[0].output",
            "requires the field `output`",
        ),
        (
            {"input": [{"type": "reasoning", "encrypted_content": "?"}]},
            "input[0].encrypted_content",
            "encrypted_content",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
            "field `text`",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "refusal"}]}]},
            "input[0].content[0].refusal",
            "requires the field `refusal`",
        ),
        ({"input": [{**RESULT, "output": [{"type": "input_image"}]}]}, "input[0].output[0].type", "text only"),
        ({"input": [{**RUN, "input": None}]}, "input[0].input", "requires the field `input`"),
        (
            {"input": [{"type": "custom_tool_call_output", "call_id": "d"}]},
            "input[0].output",
            "requires the field `output`",
        ),
        ({"input": [{"type": "item_reference"}]}, "input[0].id", "requires the field `id`"),
        ({"reasoning": {"summary": 3}}, "reasoning.summary", "valid string"),
        ({"include": [3]}, "include[0]", "valid string"),
        ({"stream": True, "stream_options": {"include_obfuscation": "no"}}, "stream_options.include_obfuscation", ""),
        ({"tools": [{"type": "custom"}]}, "tools[0].name", "requires a name"),
        ({"tools": [{**SHELL, "format": {"type": "xml"}}]}, "tools[0].format.type", "Input should be"),
        ({"tools": [{**SHELL, "format": {"type": "grammar", "definition": "a"}}]}, "tools[0].format.syntax", "syntax"),
        ({"tools": [{"type": "namespace", "tools": []}]}, "tools[0].name", "requires a name"),
        ({"tools": [{"type": "namespace", "name": "a"}]}, "tools[0].tools", "requires the field `tools`"),
        ({"tools": [{**CRM, "tools": [PING, {"type": "mcp"}]}]}, "tools[0].tools[1].type", "function and custom only"),
        ({"tools": [{**CRM, "tools": [{**PING, "name": 3}]}]}, "tools[0].tools[0].name", "valid string"),
        (
            {"tools": [PING, {**CRM, "tools": [{**PING, "strict": True, "parameters": ODD}]}]},
            "tools[1].tools[0].parameters",
            "look-around",
        ),
        ({"tools": [{**CRM, "tools": [PING] * 501}] * 2}, "tools", "at most 1,000 items"),
        ({"tools": [CRM], "tool_choice": {"type": "function", "name": "ping"}}, "tool_choice", "known: crm.ping"),
        ({"tools": [PING], "tool_choice": {"type": "custom", "name": "f"}}, "tool_choice", "unknown tool 'f'"),
        ({"tools": [PING], "tool_choice": "never"}, "tool_choice.type", "never"),
        ({"tools": [PING], **allowed("auto", PONG)}, "tool_choice", "unknown tool 'pong'"),
        ({"tools": [PING], **allowed("auto")}, "tool_choice.tools", "requires tools"),
        ({"tools": [PING], **allowed("never", PING)}, "tool_choice.mode", "Input should be"),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format.name", "pattern"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": 3}}}}, "text.format.schema", "JSON type"),
        ({"input": [{**RESULT, "output": "pong " * 5000}], "truncation": "auto"}, "input", "maximum context length"),
        ({"tools": [PING], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "unknown tool 'f'"),
        ({"tools": [PING], "tool_choice": {"type": "function"}}, "tool_choice.name", "requires a name"),
        ({"tools": [PING], "tool_choice": {"type": "web_search"}}, "tool_choice.type", "built-in tool web_search"),
        ({"tools": [{"type": "mcp"}], "tool_choice": "required"}, "tool_choice", "requires tools"),
        (
            {"tools": [PING], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}},
            "tool_choice.tools",
            "only built-in tools",
        ),
        ({"tools": [{**PING, "strict": True, "parameters": {"not": {"type": 3}}}]}, "tools[0].parameters", "JSON type"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a"}}},
            "text.format.schema",
            "requires the field `schema`",
        ),
        ({"text": {"verbosity": "loud"}}, "text.verbosity", "Input should be"),
        ({"text": AB, "guided_regex": "a"}, "guided_regex", "only one of them"),
        ({"background": True, "store": False}, "background", "cannot be combined"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "at most 16 items"),
        ({"input": [{"role": "user", "content": "a"}] * 5001}, "input", "at most 5,000 items"),
    ],
)
def test_a_wrong_part_of_a_field_is_refused_by_its_path(
    route: Route, fields: dict[str, Any], param: str, message: str
) -> None:
    error = error_of(route.post(**fields), 400)
    assert error["param"] == param
    assert message in error["message"]
