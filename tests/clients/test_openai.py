"""The OpenAI SDK for Python: sync and async, its helpers `.parse()` and `.stream()`, its error classes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tests.clients.story import (
    ADA,
    CITIES,
    CITIES_REPORT,
    GREETING,
    HELLO,
    KEY,
    MODEL,
    PERSON,
    TOO_LONG,
    WEATHER,
    WEATHER_REPORT,
    Person,
    user,
    weather,
)
from tests.scraping import one_cancelled
from tests.scripted import THOUGHTS
from tests.serving import Server

openai = pytest.importorskip("openai", reason="openai is not installed (requirements/clients.txt)")


class Weather(BaseModel):
    """The weather of the next days."""

    city: str = Field(max_length=20)
    days: int = Field(ge=1, le=14)


WEATHER_TOOL: Any = openai.pydantic_function_tool(Weather, name="get_weather")


@pytest.fixture
def chat(server: Server) -> Any:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client.chat.completions


@pytest.fixture
async def async_chat(server: Server) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client.chat.completions


@pytest.fixture
def random_chat(random_server: Server) -> Any:
    with random_server.client as client:
        yield client.chat.completions


def test_a_stream_that_the_client_closes_ends_on_the_server(random_server: Server, random_chat: Any) -> None:
    options = {"model": "random", "messages": user(HELLO), "extra_body": {"ignore_eos": True}}
    with one_cancelled(random_server, "/v1/chat/completions"):
        stream = random_chat.create(stream=True, max_tokens=3000, **options)
        assert next(iter(stream)).choices
        stream.close()


def test_thoughts_are_apart_from_the_answer_and_have_a_budget(thinking_server: Server) -> None:
    with openai.OpenAI(base_url=f"{thinking_server.url}/v1", api_key=KEY, max_retries=0) as client:
        create = client.chat.completions.create
        message = create(model=MODEL, messages=user(HELLO)).choices[0].message
        assert (message.reasoning_content, message.content) == (THOUGHTS, GREETING)
        limited = create(model=MODEL, messages=user(HELLO), extra_body={"thinking_token_budget": 3})
        assert limited.usage.completion_tokens_details.reasoning_tokens <= 4


def test_a_chat_is_answered(chat: Any) -> None:
    answer = chat.create(model=MODEL, messages=user(HELLO))
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (GREETING, "stop")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_gives_the_answer_and_its_usage(chat: Any) -> None:
    options = {"include_usage": True}
    chunks = list(chat.create(model=MODEL, messages=user(HELLO), stream=True, stream_options=options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == GREETING
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:-1]] == ["stop"]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens > 0) == ([], True)


async def test_the_async_client_chats_and_streams(async_chat: Any) -> None:
    answer = await async_chat.create(model=MODEL, messages=user(HELLO))
    assert answer.choices[0].message.content == GREETING
    stream = await async_chat.create(model=MODEL, messages=user(HELLO), stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == GREETING


def run(tool_calls: Any) -> list[dict[str, Any]]:
    """The results of calls, as messages."""
    return [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": weather(**json.loads(call.function.arguments)),
        }
        for call in tool_calls
    ]


@pytest.mark.parametrize(("question", "calls", "report"), [(WEATHER, 1, WEATHER_REPORT), (CITIES, 2, CITIES_REPORT)])
def test_tools_are_called_and_their_results_reported(chat: Any, question: str, calls: int, report: str) -> None:
    options: Any = {"model": MODEL, "tools": [WEATHER_TOOL]}
    (choice,) = chat.create(messages=user(question), **options).choices
    assert (choice.finish_reason, len(choice.message.tool_calls)) == ("tool_calls", calls)
    history = [*user(question), choice.message, *run(choice.message.tool_calls)]
    assert chat.create(messages=history, **options).choices[0].message.content == report


async def test_a_streamed_call_is_gathered_by_the_helper(async_chat: Any) -> None:
    kinds = set()
    async with async_chat.stream(model=MODEL, messages=user(CITIES), tools=[WEATHER_TOOL]) as stream:
        async for event in stream:
            kinds.add(event.type)
        (choice,) = (await stream.get_final_completion()).choices
    assert {"chunk", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    parsed = [call.function.parsed_arguments for call in choice.message.tool_calls]
    assert parsed == [Weather(city="Oslo", days=1), Weather(city="Rome", days=2)]


def test_parse_gives_the_model_class(chat: Any) -> None:
    (choice,) = chat.parse(model=MODEL, messages=user(PERSON), response_format=Person).choices
    assert choice.message.parsed == ADA


def test_parse_gives_a_tools_arguments(chat: Any) -> None:
    (choice,) = chat.parse(model=MODEL, messages=user(WEATHER), tools=[WEATHER_TOOL]).choices
    assert choice.message.tool_calls[0].function.parsed_arguments == Weather(city="Oslo", days=3)


def test_the_stream_helper_parses_too(chat: Any) -> None:
    with chat.stream(model=MODEL, messages=user(PERSON), response_format=Person) as stream:
        *_, last = (event.parsed for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert last == {"name": "Ada", "age": 36}
    assert final.choices[0].message.parsed == ADA


@pytest.mark.parametrize("seed", range(3))
def test_random_weights_are_held_to_the_class_and_to_the_tool(random_chat: Any, seed: int) -> None:
    options: Any = {"model": "random", "messages": user(HELLO), "seed": seed, "temperature": 1.5, "max_tokens": 1000}
    answer = random_chat.parse(response_format=Weather, **options)
    assert isinstance(answer.choices[0].message.parsed, Weather)
    answer = random_chat.parse(tools=[WEATHER_TOOL], tool_choice="required", parallel_tool_calls=False, **options)
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


def test_an_answer_that_is_cut_is_the_helpers_length_error(random_chat: Any) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        random_chat.parse(model="random", messages=user(HELLO), response_format=Weather, max_tokens=2)


def test_a_wrong_key_is_an_authentication_error(server: Server) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.chat.completions.create(model=MODEL, messages=user(HELLO))
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.request_id


def test_a_wrong_model_is_not_found(chat: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        chat.create(model="gpt-9", messages=user(HELLO))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_a_bad_request(chat: Any, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat.create(model=MODEL, messages=user(TOO_LONG), stream=stream)
    assert (caught.value.code, caught.value.type) == ("context_length_exceeded", "invalid_request_error")
    assert "maximum context length is 4096 tokens" in caught.value.message
