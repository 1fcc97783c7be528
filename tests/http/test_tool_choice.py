"""Calls that cannot be wrong: random weights at a high temperature are held to the tools they are given.

So is a model that first thinks, of a call that it does not make, and is as random from there on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from server.settings import Settings
from tests.scripted import thinker
from tests.serving import Server, serving

HOT: dict[str, Any] = {"temperature": 1.5, "extra_body": {"min_p": 0, "repetition_penalty": 1}, "max_tokens": 2000}
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "alerts": {"type": ["boolean", "null"]},
        "point": {
            "type": "object",
            "properties": {
                "lat": {"type": "number"},
                "tags": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3},
            },
            "required": ["lat"],
            "additionalProperties": False,
        },
    },
    "required": ["city", "point"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["plain", "thinking"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "plain":
        yield request.getfixturevalue("tiny")
        return
    folder = thinker(tmp_path_factory.mktemp("models") / "tiny-model", [("hello", "")])
    with serving(Settings(model=str(folder), max_seqs=4, max_waiting=8, threads=1)) as running:
        yield running


def function(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


WEATHER = function("get-weather.v2", PARAMETERS)
PING = function("ping")


def ask(server: Server, seed: int = 0, **options: Any) -> ChatCompletion:
    messages: Any = [{"role": "user", "content": "hello"}]
    given = {"messages": messages, "seed": seed} | HOT | options
    return server.client.chat.completions.create(model="tiny-model", **given)


def calls_of(answer: ChatCompletion) -> list[tuple[str, Any]]:
    calls = answer.choices[0].message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(8))
def test_required_gives_calls_that_match_their_schemas(server: Server, seed: int) -> None:
    answer = ask(server, seed, tools=[WEATHER, PING], tool_choice="required")
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    calls = calls_of(answer)
    assert calls
    for name, arguments in calls:
        assert name in ("get-weather.v2", "ping")
        jsonschema.validate(arguments, PARAMETERS if name == "get-weather.v2" else {"maxProperties": 0})


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "ping"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "ping"}}]},
        },
    ],
)
def test_a_named_tool_and_no_other_is_called(server: Server, choice: Any) -> None:
    for seed in range(4):
        calls = calls_of(ask(server, seed, tools=[WEATHER, PING], tool_choice=choice))
        assert {name for name, _ in calls} == {"ping"}


def test_without_parallel_calls_there_is_one(server: Server) -> None:
    options: dict[str, Any] = {"tools": [PING], "tool_choice": "required"}
    assert any(len(calls_of(ask(server, seed, **options))) > 1 for seed in range(8))
    assert all(len(calls_of(ask(server, seed, parallel_tool_calls=False, **options))) == 1 for seed in range(8))


@pytest.mark.parametrize("seed", range(4))
def test_under_auto_a_call_once_opened_matches_its_schema(server: Server, seed: int) -> None:
    opening = {"10": 100}  # <|tool_call_start|>
    answer = ask(server, seed, tools=[WEATHER], tool_choice="auto", logit_bias=opening, parallel_tool_calls=False)
    (call,) = calls_of(answer)
    jsonschema.validate(call[1], PARAMETERS)


@pytest.mark.parametrize("seed", range(4))
def test_a_streamed_call_is_the_bodys(server: Server, seed: int) -> None:
    options: dict[str, Any] = {"tools": [WEATHER, PING], "tool_choice": "required"}
    body = ask(server, seed, **options).choices[0].message.tool_calls or []
    streamed: dict[int, list[str]] = {}
    for chunk in ask(server, seed, stream=True, **options):  # type: ignore[attr-defined]
        for call in chunk.choices[0].delta.tool_calls or []:  # type: ignore[union-attr]
            pieces = streamed.setdefault(call.index, [])
            assert (call.id is not None) == (not pieces)
            pieces.append(call.function.arguments)
    assert ["".join(streamed[i]) for i in sorted(streamed)] == [call.function.arguments for call in body]  # type: ignore[union-attr]


LONG = {"type": "object", "properties": {"text": {"type": "string", "minLength": 2000}}, "required": ["text"]}


def test_a_long_argument_arrives_in_pieces(server: Server) -> None:
    options: dict[str, Any] = {"tools": [function("write", LONG)], "tool_choice": "required", "max_tokens": 600}
    pieces = [
        call.function.arguments
        for chunk in ask(server, stream=True, **options)  # type: ignore[attr-defined]
        for call in chunk.choices[0].delta.tool_calls or []  # type: ignore[union-attr]
    ]
    assert len(pieces) > 100


def test_a_call_that_max_tokens_cuts_ends_with_length_and_what_was_certain(server: Server) -> None:
    (choice,) = ask(server, tools=[function("write", LONG)], tool_choice="required", max_tokens=60).choices
    assert choice.finish_reason == "length"
    (call,) = choice.message.tool_calls or []
    assert call.function.name == "write"  # type: ignore[union-attr]
    assert call.function.arguments.startswith('{"text": "')  # type: ignore[union-attr]


def test_a_schema_that_auto_cannot_enforce_is_loosened_and_reported(server: Server) -> None:
    odd = {"type": "object", "properties": {"x": {"type": "object", "propertyNames": {"pattern": "^(?!a)"}}}}
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    answer = server.chat(tools=[PING, function("odd", odd)], **body)
    assert answer.status_code == 200
    assert "tools[1].function.parameters.properties.x: look-around" in answer.headers["x-lfm-unenforced"]
    assert "x-lfm-unenforced" not in server.chat(tools=[PING], **body).headers


def test_a_custom_tool_takes_text(server: Server) -> None:
    tools = [{"type": "custom", "custom": {"name": "shell", "description": "Runs a command"}}]
    choice = {"type": "custom", "custom": {"name": "shell"}}
    answer = ask(server, 1, tools=tools, tool_choice=choice, parallel_tool_calls=False)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "custom"
    assert call.custom.name == "shell"
    history: Any = [{"role": "user", "content": "hi"}, answer.choices[0].message]
    history += [{"role": "tool", "tool_call_id": call.id, "content": "done"}]
    assert ask(server, messages=history, tools=tools, max_tokens=3).choices


def test_the_old_functions_answer_in_the_old_form(server: Server) -> None:
    old: dict[str, Any] = {"functions": [{"name": "ping"}], "function_call": {"name": "ping"}}
    (choice,) = ask(server, **old).choices
    assert choice.finish_reason == "function_call"
    assert choice.message.tool_calls is None
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("ping", "{}")
    chunks = list(ask(server, stream=True, **old))  # type: ignore[call-overload]
    deltas = [chunk.choices[0].delta.function_call for chunk in chunks if chunk.choices[0].delta.function_call]
    assert deltas[0].name == "ping"
    assert "".join(delta.arguments for delta in deltas) == "{}"
    assert chunks[-1].choices[0].finish_reason == "function_call"
    history: Any = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "ping", "arguments": "{}"}},
        {"role": "function", "name": "ping", "content": "pong"},
    ]
    assert ask(server, messages=history, max_tokens=3).choices


class Step(BaseModel):
    name: str
    done: bool
    size: int


class Plan(BaseModel):
    title: str
    steps: list[Step]


@pytest.mark.parametrize("seed", range(4))
def test_json_schema_gives_what_the_sdk_parses(server: Server, seed: int) -> None:
    class Small(BaseModel):
        done: bool
        size: int

    messages: Any = [{"role": "user", "content": "hello"}]
    answer = server.client.chat.completions.parse(
        model="tiny-model", messages=messages, response_format=Small, seed=seed, **HOT
    )
    assert isinstance(answer.choices[0].message.parsed, Small)


def test_json_that_max_tokens_cuts_is_a_valid_beginning(server: Server) -> None:
    schema = Plan.model_json_schema()
    form = {"type": "json_schema", "json_schema": {"name": "plan", "schema": schema}}
    (choice,) = ask(server, response_format=form, max_tokens=60).choices
    assert choice.finish_reason == "length"
    assert (choice.message.content or "").startswith("{")


@pytest.mark.parametrize("seed", range(3))
def test_json_object_gives_an_object(server: Server, seed: int) -> None:
    (choice,) = ask(server, seed, response_format={"type": "json_object"}).choices
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content or ""), dict)


@pytest.mark.parametrize("seed", range(6))
def test_tools_and_a_schema_give_a_call_or_text_of_the_schema(server: Server, seed: int) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer", "maximum": 99}}}
    answer = ask(server, seed, tools=[PING], response_format=form)
    (choice,) = answer.choices
    if choice.finish_reason == "tool_calls":
        assert {name for name, _ in calls_of(answer)} == {"ping"}
    else:
        assert int(choice.message.content or "") <= 99


@pytest.mark.parametrize("seed", range(4))
def test_a_required_call_is_made_whatever_form_text_would_have(server: Server, seed: int) -> None:
    form = {"type": "json_object"}
    answer = ask(server, seed, tools=[PING], tool_choice="required", parallel_tool_calls=False, response_format=form)
    assert calls_of(answer) == [("ping", {})]


async def test_the_sdks_stream_helper_reads_it_all(server: Server) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    async with server.async_client as client, client.chat.completions.stream(
        model="tiny-model", messages=messages, tools=[WEATHER], tool_choice="required", seed=1, **HOT
    ) as stream:  # fmt: skip
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("tools", [[], [PING]])
def test_a_marker_inside_a_json_string_is_text(server: Server, tools: list[Any]) -> None:
    text = "<|tool_call_start|>[ping()]<|tool_call_end|>"
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": {"say": text}}}}
    options: dict[str, Any] = {"tools": tools, "logit_bias": {"10": -100}} if tools else {}
    (choice,) = ask(server, response_format=form, **options).choices
    assert choice.finish_reason == "stop"
    assert json.loads(choice.message.content or "") == {"say": text}
