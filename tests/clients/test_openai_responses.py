"""The OpenAI SDK's responses: sync and async, `.parse()` and `.stream()`, stored ones, its error classes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.story import (
    ADA,
    CITIES,
    ERROR_CASES,
    GREETING,
    HELLO,
    KEY,
    MODEL,
    PERSON,
    SDK_ERRORS,
    TOOL_CASES,
    WEATHER,
    Person,
    weather,
)
from tests.scraping import one_cancelled
from tests.scripted import THOUGHTS
from tests.serving import Server

openai = pytest.importorskip("openai", reason="openai is not installed (requirements/clients.txt)")

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}


@pytest.fixture
def responses(server: Server) -> Any:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client.responses


@pytest.fixture
async def async_responses(server: Server) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client.responses


def test_an_input_is_answered(responses: Any) -> None:
    answer = responses.create(model=MODEL, input=HELLO)
    assert (answer.output_text, answer.status) == (GREETING, "completed")
    assert responses.retrieve(answer.id) == answer


async def test_the_async_client_answers_streams_and_resumes(async_responses: Any) -> None:
    assert (await async_responses.create(model=MODEL, input=HELLO)).output_text == GREETING
    events = [event async for event in await async_responses.create(model=MODEL, input=HELLO, stream=True)]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == GREETING
    again = await async_responses.retrieve(events[0].response.id, stream=True, starting_after=3)
    assert [event async for event in again] == events[4:]


def run(output: Any) -> list[dict[str, Any]]:
    """The results of calls, as items."""
    return [
        {"type": "function_call_output", "call_id": call.call_id, "output": weather(**json.loads(call.arguments))}
        for call in output
    ]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(("question", "report"), TOOL_CASES)
def test_tools_are_called_and_their_results_reported(responses: Any, question: str, report: str, stored: bool) -> None:
    options: Any = {"model": MODEL, "tools": [TOOL], "store": stored}
    first = responses.create(**options, input=question)
    if stored:
        second = responses.create(**options, input=run(first.output), previous_response_id=first.id)
    else:
        history = [{"role": "user", "content": question}, *first.output, *run(first.output)]
        second = responses.create(**options, input=history)
    assert second.output_text == report


def test_a_streamed_call_is_gathered_by_the_helper(responses: Any) -> None:
    with responses.stream(model=MODEL, input=CITIES, tools=[TOOL]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {"response.function_call_arguments.delta", "response.function_call_arguments.done"} <= kinds
    assert [json.loads(call.arguments)["city"] for call in final.output] == ["Oslo", "Rome"]


def test_parse_gives_the_model_class(responses: Any) -> None:
    assert responses.parse(model=MODEL, input=PERSON, text_format=Person).output_parsed == ADA


@pytest.mark.parametrize("seed", range(3))
def test_random_weights_are_held_to_the_class_and_to_the_tool(random_server: Server, seed: int) -> None:
    options: Any = {"model": "random", "input": HELLO, "temperature": 1.5, "max_output_tokens": 1000}
    options["extra_body"] = {"seed": seed}
    with random_server.client as client:
        answer = client.responses.parse(text_format=Person, **options)
        assert isinstance(answer.output_parsed, Person)
        answer = client.responses.create(tools=[TOOL], tool_choice="required", parallel_tool_calls=False, **options)
    (call,) = answer.output
    assert json.loads(call.arguments).keys() == {"city", "days"}


def test_a_response_in_the_background_is_cancelled(responses: Any) -> None:
    answer = responses.create(model=MODEL, input=WEATHER, background=True)
    assert responses.cancel(answer.id).status in ("cancelled", "completed")
    responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(answer.id)


def test_a_stream_that_the_client_closes_ends_on_the_server(random_server: Server) -> None:
    with random_server.client as client, one_cancelled(random_server, "/v1/responses"):
        options = {"model": "random", "input": HELLO, "extra_body": {"ignore_eos": True}}
        stream = client.responses.create(stream=True, max_output_tokens=3000, **options)
        assert next(iter(stream)).type == "response.created"
        stream.close()


def test_thoughts_are_an_item_of_their_own_and_have_a_budget(thinking_server: Server) -> None:
    with openai.OpenAI(base_url=f"{thinking_server.url}/v1", api_key=KEY, max_retries=0) as client:
        with client.responses.stream(model=MODEL, input=HELLO) as stream:
            thought = "".join(event.delta for event in stream if event.type == "response.reasoning_text.delta")
            answer = stream.get_final_response()
        reasoning, _ = answer.output
        assert (reasoning.content[0].text, thought, answer.output_text) == (THOUGHTS, THOUGHTS, GREETING)
        again = client.responses.create(model=MODEL, input=HELLO, previous_response_id=answer.id)
        assert again.output_text == GREETING
        limited = client.responses.create(model=MODEL, input=HELLO, extra_body={"thinking_token_budget": 3})
        assert limited.usage.output_tokens_details.reasoning_tokens <= 4


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("options", "question", "status", "code"), ERROR_CASES)
def test_an_error_is_the_sdks(
    server: Server, options: dict[str, str], question: str, status: int, code: str, stream: bool
) -> None:
    key, model = options.get("key", KEY), options.get("model", MODEL)
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client,
        pytest.raises(getattr(openai, SDK_ERRORS[status])) as caught,
    ):
        client.responses.create(model=model, input=question, stream=stream)
    assert caught.value.code == code
