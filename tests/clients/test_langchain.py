"""langchain-openai: `ChatOpenAI` on chat completions and on responses, with streams, bound tools, structured output."""

from __future__ import annotations

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
    weather,
)
from tests.serving import Server

langchain_openai = pytest.importorskip("langchain_openai", reason="not installed (requirements/clients.txt)")
messages = pytest.importorskip("langchain_core.messages")
tools = pytest.importorskip("langchain_core.tools")
exceptions = pytest.importorskip("langchain_core.exceptions")
openai = pytest.importorskip("openai")


@pytest.fixture
def tool() -> Any:
    return tools.tool("get_weather", description="The weather of the next days")(weather)


def chat_model(server: Server, **options: Any) -> Any:
    given = {"model": MODEL, "api_key": KEY, "max_retries": 0, "stream_usage": True} | options
    return langchain_openai.ChatOpenAI(base_url=f"{server.url}/v1", **given)


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def use_responses_api(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def chat(server: Server, use_responses_api: bool) -> Any:
    return chat_model(server, use_responses_api=use_responses_api)


def test_a_chat_is_answered(chat: Any) -> None:
    answer = chat.invoke(HELLO)
    assert answer.text == GREETING
    metadata = answer.response_metadata
    assert (metadata["status"] if chat.use_responses_api else metadata["finish_reason"]) in ("completed", "stop")
    assert answer.usage_metadata["output_tokens"] > 0


def test_a_thinking_model_is_answered_in_turns(thinking_server: Server, use_responses_api: bool) -> None:
    chat = chat_model(thinking_server, use_responses_api=use_responses_api)
    answer = chat.invoke(HELLO)
    assert (answer.text, answer.usage_metadata["output_token_details"]["reasoning"] > 0) == (GREETING, True)
    assert chat.invoke([("human", HELLO), answer, ("human", HELLO)]).text == GREETING


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
    assert bound.invoke(history).text == report


def test_json_schema_gives_the_class(chat: Any) -> None:
    asked = chat.with_structured_output(Person, method="json_schema")
    assert asked.invoke(PERSON) == ADA


@pytest.mark.parametrize("strict", [None, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_random_weights_are_held_to_the_class(
    random_server: Server, method: str, strict: bool | None, use_responses_api: bool
) -> None:
    options: Any = {"temperature": 1.5, "max_tokens": 1000, "extra_body": {"seed": 1}}
    chat = chat_model(random_server, model="random", use_responses_api=use_responses_api, **options)
    asked = chat.with_structured_output(Person, method=method, strict=strict)
    assert isinstance(asked.invoke(HELLO), Person)


def test_a_wrong_key_is_an_authentication_error(server: Server, use_responses_api: bool) -> None:
    with pytest.raises(openai.AuthenticationError, match="invalid_api_key"):
        chat_model(server, api_key="wrong", use_responses_api=use_responses_api).invoke(HELLO)


def test_a_wrong_model_is_not_found(server: Server, use_responses_api: bool) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        chat_model(server, model="gpt-9", use_responses_api=use_responses_api).invoke(HELLO)


def test_a_prompt_that_is_too_long_is_langchains_overflow_error(chat: Any) -> None:
    with pytest.raises(exceptions.ContextOverflowError, match="maximum context length"):
        chat.invoke(TOO_LONG)
    with pytest.raises(exceptions.ContextOverflowError):
        list(chat.stream(TOO_LONG))
