"""LangChain on each protocol: streams, bound tools and structured output."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.clients.langchain_chats import anthropic_chat, openai_chat
from tests.clients.story import ADA, GREETING, HELLO, PERSON, TOOL_CASES, Person, weather
from tests.scraping import one_cancelled
from tests.serving import Server

messages = pytest.importorskip("langchain_core.messages")
tools = pytest.importorskip("langchain_core.tools")

CHATS: dict[str, Callable[..., Any]] = {
    "chat completions": partial(openai_chat, use_responses_api=False),
    "responses": partial(openai_chat, use_responses_api=True),
    "messages": anthropic_chat,
}


@pytest.fixture
def tool() -> Any:
    return tools.tool("get_weather", description="The weather of the next days")(weather)


@pytest.fixture(params=CHATS)
def chat(request: pytest.FixtureRequest, server: Server) -> Any:
    return CHATS[request.param](server)


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


@pytest.mark.parametrize("protocol", CHATS)
def test_a_stream_that_the_client_closes_ends_on_the_server(random_server: Server, protocol: str) -> None:
    extra = {"extra_body": {"ignore_eos": True}}
    options: Any = {"model_kwargs": extra} if protocol == "messages" else extra
    chat = CHATS[protocol](random_server, model="random", max_tokens=3000, **options)
    with one_cancelled(random_server, f"/v1/{protocol.replace(' ', '/')}"):
        stream = chat.stream(HELLO)
        next(stream)
        stream.close()
