"""LiteLLM, through its `openai/` provider: whole answers, streams, tools, structured output, its own error classes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.story import (
    ADA,
    GREETING,
    HELLO,
    KEY,
    MODEL,
    PERSON,
    TOO_LONG,
    TOOL_CASES,
    Person,
    user,
    weather,
)
from tests.serving import Server

litellm = pytest.importorskip("litellm", reason="not installed (requirements/clients.txt)")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of its own making

WEATHER_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)


def options(server: Server, messages: Any, **more: Any) -> dict[str, Any]:
    messages = user(messages) if isinstance(messages, str) else messages
    given = {"model": f"openai/{MODEL}", "api_base": f"{server.url}/v1", "api_key": KEY, "max_retries": 0}
    return given | {"messages": messages} | more


def ask(server: Server, messages: Any, **more: Any) -> Any:
    return litellm.completion(**options(server, messages, **more))


def test_a_chat_is_answered(server: Server) -> None:
    answer = ask(server, HELLO)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (GREETING, "stop")
    assert answer.usage.completion_tokens > 0


async def test_a_stream_gives_the_answer_and_its_usage(server: Server) -> None:
    more: Any = {"stream": True, "stream_options": {"include_usage": True}}
    stream = await litellm.acompletion(**options(server, HELLO, **more))
    chunks = [chunk async for chunk in stream]
    whole = litellm.stream_chunk_builder(chunks)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (GREETING, "stop")
    assert whole.usage.completion_tokens == ask(server, HELLO).usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("question", "report"), TOOL_CASES)
def test_tools_are_called_and_their_results_reported(server: Server, question: str, report: str, stream: bool) -> None:
    answer = ask(server, question, tools=[WEATHER_TOOL], stream=stream)
    (choice,) = (litellm.stream_chunk_builder(list(answer)) if stream else answer).choices
    assert choice.finish_reason == "tool_calls"
    history: list[Any] = [*user(question), choice.message]
    for call in choice.message.tool_calls:
        result = weather(**json.loads(call.function.arguments))
        history.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert ask(server, history, tools=[WEATHER_TOOL]).choices[0].message.content == report


def test_json_schema_gives_the_class(server: Server) -> None:
    content = ask(server, PERSON, response_format=Person).choices[0].message.content
    assert Person.model_validate_json(content) == ADA


@pytest.mark.parametrize("seed", range(3))
def test_random_weights_are_held_to_the_class_and_to_the_tool(random_server: Server, seed: int) -> None:
    more: Any = {"model": "openai/random", "temperature": 1.5, "max_tokens": 1000, "seed": seed}
    Person.model_validate_json(ask(random_server, HELLO, response_format=Person, **more).choices[0].message.content)
    tool = {"type": "function", "function": {"name": "person", "parameters": Person.model_json_schema()}}
    answer = ask(random_server, HELLO, tools=[tool], tool_choice="required", parallel_tool_calls=False, **more)
    (call,) = answer.choices[0].message.tool_calls
    Person.model_validate_json(call.function.arguments)


@pytest.mark.parametrize(
    ("more", "question", "error"),
    [
        ({"api_key": "wrong"}, HELLO, "AuthenticationError"),
        ({"model": "openai/gpt-9"}, HELLO, "NotFoundError"),
        ({}, TOO_LONG, "ContextWindowExceededError"),
        ({"stream": True}, TOO_LONG, "ContextWindowExceededError"),
    ],
)
def test_an_error_is_of_the_class_that_litellm_has_for_it(
    server: Server, more: dict[str, Any], question: str, error: str
) -> None:
    with pytest.raises(getattr(litellm, error)):
        ask(server, question, **more)
