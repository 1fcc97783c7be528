"""Pydantic AI on chat completions and on responses: an agent that chats, streams, runs tools and gives a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.story import (
    ADA,
    ERROR_CASES,
    GREETING,
    HELLO,
    KEY,
    MODEL,
    PERSON,
    PERSON_AS_RESULT,
    TOOL_CASES,
    Person,
    weather,
)
from tests.scraping import one_cancelled
from tests.serving import Server

pydantic_ai = pytest.importorskip("pydantic_ai", reason="not installed (requirements/clients.txt)")
chat_models = pytest.importorskip("pydantic_ai.models.openai")
providers = pytest.importorskip("pydantic_ai.providers.openai")
AsyncOpenAI = pytest.importorskip("openai").AsyncOpenAI


@pytest.fixture(params=["OpenAIChatModel", "OpenAIResponsesModel"])
def agent(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that makes an agent with one of the library's model classes."""

    def make(server: Server, model: str = MODEL, key: str = KEY, **options: Any) -> Any:
        client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
        provider = providers.OpenAIProvider(openai_client=client)
        return pydantic_ai.Agent(getattr(chat_models, request.param)(model, provider=provider), **options)

    return make


async def test_a_chat_is_answered(agent: Any, server: Server) -> None:
    answer = await agent(server).run(HELLO)
    assert answer.output == GREETING
    assert answer.usage.output_tokens > 0


async def test_a_stream_gives_the_answer(agent: Any, server: Server) -> None:
    async with agent(server).run_stream(HELLO) as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    assert len(pieces) > 1
    assert "".join(pieces) == GREETING


async def test_thoughts_are_parts_of_the_answer(agent: Any, thinking_server: Server) -> None:
    answer = await agent(thinking_server).run(HELLO)
    thoughts, text = answer.all_messages()[-1].parts
    assert (thoughts.part_kind, text.part_kind, answer.output) == ("thinking", "text", GREETING)
    assert (await agent(thinking_server).run(HELLO, message_history=answer.all_messages())).output == GREETING


@pytest.mark.parametrize(("question", "report"), TOOL_CASES)
async def test_tools_are_called_and_their_results_reported(
    agent: Any, server: Server, question: str, report: str
) -> None:
    asked = agent(server)
    asked.tool_plain(name="get_weather")(weather)
    assert (await asked.run(question)).output == report
    async with asked.run_stream(question) as stream:
        assert await stream.get_output() == report


async def test_the_output_tool_gives_the_class(agent: Any, server: Server) -> None:
    assert (await agent(server, output_type=Person).run(PERSON_AS_RESULT)).output == ADA


@pytest.mark.parametrize("mode", ["NativeOutput", "PromptedOutput"])
async def test_json_gives_the_class(agent: Any, server: Server, mode: str) -> None:
    asked = agent(server, output_type=getattr(pydantic_ai, mode)(Person))
    assert (await asked.run(PERSON)).output == ADA


@pytest.mark.parametrize("mode", ["ToolOutput", "NativeOutput"])
async def test_random_weights_are_held_to_the_class(agent: Any, random_server: Server, mode: str) -> None:
    options: Any = {"temperature": 1.5, "max_tokens": 1000, "parallel_tool_calls": False, "extra_body": {"seed": 1}}
    asked = agent(random_server, "random", output_type=getattr(pydantic_ai, mode)(Person), retries=0)
    assert isinstance((await asked.run(HELLO, model_settings=options)).output, Person)


async def test_a_stream_that_is_cancelled_ends_on_the_server(agent: Any, random_server: Server) -> None:
    settings: Any = {"max_tokens": 3000, "extra_body": {"ignore_eos": True}}
    asked = agent(random_server, "random")
    responses = isinstance(asked.model, chat_models.OpenAIResponsesModel)
    with one_cancelled(random_server, "/v1/responses" if responses else "/v1/chat/completions"):
        async with asked.run_stream(HELLO, model_settings=settings) as stream:
            await anext(stream.stream_text(delta=True, debounce_by=None))
            await stream.cancel()


@pytest.mark.parametrize(("options", "question", "status", "code"), ERROR_CASES)
async def test_an_error_has_its_status_and_code(
    agent: Any, server: Server, options: dict[str, str], question: str, status: int, code: str
) -> None:
    with pytest.raises(pydantic_ai.ModelHTTPError) as caught:
        await agent(server, **options).run(question)
    assert (caught.value.status_code, caught.value.body["code"]) == (status, code)
