"""langchain-anthropic: `ChatAnthropic` with messages, streams, bound tools and structured output."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.story import ADA, GREETING, HELLO, KEY, MODEL, PERSON, TOO_LONG, TOOL_CASES, Choice, Person, weather
from tests.serving import Server

langchain_anthropic = pytest.importorskip("langchain_anthropic", reason="not installed (requirements/clients.txt)")
messages = pytest.importorskip("langchain_core.messages")
tools = pytest.importorskip("langchain_core.tools")
anthropic = pytest.importorskip("anthropic")


@pytest.fixture
def tool() -> Any:
    return tools.tool("get_weather", description="The weather of the next days")(weather)


def chat_model(server: Server, **options: Any) -> Any:
    given = {"model": MODEL, "api_key": KEY, "max_retries": 0, "max_tokens": 1000} | options
    return langchain_anthropic.ChatAnthropic(base_url=server.url, **given)


@pytest.fixture
def chat(server: Server) -> Any:
    return chat_model(server)


def test_a_chat_is_answered(chat: Any) -> None:
    answer = chat.invoke(HELLO)
    assert answer.content == GREETING
    assert answer.response_metadata["stop_reason"] == "end_turn"
    assert answer.usage_metadata["output_tokens"] > 0


async def test_a_stream_gives_the_answer_and_its_usage(chat: Any) -> None:
    chunks = [chunk async for chunk in chat.astream(HELLO)]
    assert "".join(chunk.text for chunk in chunks) == GREETING
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("question", "report"), TOOL_CASES)
def test_tools_are_called_and_their_results_reported(
    chat: Any, tool: Any, question: str, report: str, stream: bool
) -> None:
    bound = chat.bind_tools([tool])
    history = [messages.HumanMessage(question)]
    if stream:
        first, *rest = bound.stream(history)
        called = sum(rest, first)
    else:
        called = bound.invoke(history)
    assert called.tool_calls
    assert not called.invalid_tool_calls
    history += [called, *(tool.invoke(call) for call in called.tool_calls)]
    assert bound.invoke(history).content == report


def test_json_schema_gives_the_class(chat: Any) -> None:
    assert chat.with_structured_output(Person, method="json_schema").invoke(PERSON) == ADA


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_random_weights_are_held_to_the_class(random_server: Server, method: str) -> None:
    chat = chat_model(random_server, model="random", model_kwargs={"extra_body": {"seed": 1, "temperature": 1.5}})
    assert isinstance(chat.with_structured_output(Choice, method=method).invoke(HELLO), Choice)


@pytest.mark.parametrize(
    ("options", "question", "error"),
    [
        ({"api_key": "wrong"}, HELLO, "AuthenticationError"),
        ({"model": "gpt-9"}, HELLO, "NotFoundError"),
        ({}, TOO_LONG, "BadRequestError"),
    ],
)
def test_an_error_is_the_sdks(server: Server, options: dict[str, str], question: str, error: str) -> None:
    with pytest.raises(getattr(anthropic, error)):
        chat_model(server, **options).invoke(question)
    with pytest.raises(getattr(anthropic, error)):
        list(chat_model(server, **options).stream(question))
