"""Tool calls: as calls with `tools`, as text without, and in a round trip."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.http.chat_completions.scripts import SCRIPTS, WEATHER, Ask
from tests.serving import Server


def test_a_call_comes_as_a_call_and_the_text_around_it_as_content(ask: Ask) -> None:
    (choice,) = ask("weather", tools=[WEATHER]).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.id.startswith("call_")
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Oslo", "days": 3})


def test_a_call_alone_leaves_content_null(ask: Ask) -> None:
    message = ask("both", tools=[WEATHER]).choices[0].message
    assert message.content is None
    calls = message.tool_calls or []
    assert [call.function.arguments for call in calls] == ['{"city": "Oslo"}', '{"city": "Rome"}']  # type: ignore[union-attr]
    assert calls[0].id != calls[1].id


@pytest.mark.parametrize("content", ["broken", "unknown"])
def test_an_invalid_unconstrained_call_is_text_without_markers(free_server: Server, content: str) -> None:
    messages: Any = [{"role": "user", "content": content}]
    answer = free_server.client.chat.completions.create(
        model="scripted", messages=messages, tools=[WEATHER], temperature=0
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert choice.message.tool_calls is None
    said = dict(script for script in SCRIPTS if len(script) == 2)[content]
    assert choice.message.content == said.replace("<|tool_call_start|>", "").replace("<|tool_call_end|>", "")


@pytest.mark.parametrize("options", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_without_tools_a_call_is_text(ask: Ask, options: dict[str, Any]) -> None:
    message = ask("weather", **options).choices[0].message
    assert message.tool_calls is None
    assert message.content == '[get_weather(city="Oslo", days=3)]Let me look.'


def test_tool_choice_none_lists_the_same_tools(ask: Ask) -> None:
    plain, none = ask("hello"), ask("hello", tools=[WEATHER], tool_choice="none")
    listed = ask("hello", tools=[WEATHER])
    usages = [answer.usage.prompt_tokens for answer in (plain, none, listed) if answer.usage]
    assert usages[0] < usages[1] == usages[2]


def test_a_tool_round_trip_ends_in_an_answer(server: Server, ask: Ask) -> None:
    messages: list[Any] = [{"role": "user", "content": "weather"}]
    message = ask("", messages=messages, tools=[WEATHER]).choices[0].message
    assert message.tool_calls is not None
    messages += [message]
    messages += [{"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"temperature": 21}'}]
    assert ask("", messages=messages, tools=[WEATHER]).choices[0].message.content == "It is 21 degrees."
