"""The Anthropic SDK: sync and async, `.stream()` and `.parse()`, tools, `count_tokens`, models, its error classes."""

from __future__ import annotations

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
    Choice,
    Person,
    user,
    weather,
)
from tests.scraping import one_cancelled
from tests.scripted import THOUGHTS
from tests.serving import Server

anthropic = pytest.importorskip("anthropic", reason="anthropic is not installed (requirements/clients.txt)")

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {"name": "get_weather", "input_schema": SCHEMA, "strict": True}
PLAIN: dict[str, Any] = {"model": MODEL, "max_tokens": 200}


@pytest.fixture
def client(server: Server) -> Any:
    with anthropic.Anthropic(base_url=server.url, api_key=KEY, max_retries=0) as client:
        yield client


def texts(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def run(message: Any) -> dict[str, Any]:
    """The results of a message's calls, as a message."""
    called = [block for block in message.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": weather(**block.input)} for block in called]
    return {"role": "user", "content": results}


def test_a_chat_is_answered(client: Any) -> None:
    answer = client.messages.create(**PLAIN, messages=user(HELLO))
    assert (texts(answer), answer.stop_reason) == (GREETING, "end_turn")
    assert answer.usage.output_tokens > 0
    assert answer._request_id.startswith("req_")


def test_the_stream_helper_gives_the_text_and_the_message(client: Any) -> None:
    with client.messages.stream(**PLAIN, messages=user(HELLO)) as stream:
        assert "".join(stream.text_stream) == GREETING
        streamed = stream.get_final_message()
    answer = client.messages.create(**PLAIN, messages=user(HELLO))
    left_out = {"id", "usage"}
    assert streamed.model_dump(exclude=left_out) == answer.model_dump(exclude=left_out) | {
        "content": [block.model_dump() for block in streamed.content]
    }
    assert streamed.usage.output_tokens == answer.usage.output_tokens


async def test_the_async_client_answers_and_streams(server: Server) -> None:
    async with anthropic.AsyncAnthropic(base_url=server.url, auth_token=KEY, max_retries=0) as client:
        assert texts(await client.messages.create(**PLAIN, messages=user(HELLO))) == GREETING
        async with client.messages.stream(**PLAIN, messages=user(HELLO)) as stream:
            assert "".join([text async for text in stream.text_stream]) == GREETING


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("question", "report"), TOOL_CASES)
def test_tools_are_called_and_their_results_reported(client: Any, question: str, report: str, stream: bool) -> None:
    options = {**PLAIN, "tools": [TOOL]}
    if stream:
        with client.messages.stream(**options, messages=user(question)) as events:
            first = events.get_final_message()
    else:
        first = client.messages.create(**options, messages=user(question))
    assert first.stop_reason == "tool_use"
    history = [*user(question), first.to_param(), run(first)]
    assert texts(client.messages.create(**options, messages=history)) == report


def test_parse_gives_the_class(client: Any) -> None:
    answer = client.messages.parse(**PLAIN, messages=user(PERSON), output_format=Person)
    assert answer.parsed_output == ADA
    with client.messages.stream(**PLAIN, messages=user(PERSON), output_format=Person) as stream:
        assert stream.get_final_message().parsed_output == ADA


@pytest.mark.parametrize("seed", range(3))
def test_random_weights_are_held_to_the_class_and_to_the_tool(random_server: Server, seed: int) -> None:
    client = anthropic.Anthropic(base_url=random_server.url, api_key="none", max_retries=0)
    options: Any = {"model": "random", "max_tokens": 1000, "messages": user(HELLO)}
    options["extra_body"] = {"seed": seed, "temperature": 1.5}
    assert isinstance(client.messages.parse(**options, output_format=Choice).parsed_output, Choice)
    one = {"type": "any", "disable_parallel_tool_use": True}
    (call,) = client.messages.create(**options, tools=[TOOL], tool_choice=one).content
    assert call.input.keys() == {"city", "days"}


def test_thoughts_are_blocks_with_a_signature_and_have_a_budget(thinking_server: Server) -> None:
    client = anthropic.Anthropic(base_url=thinking_server.url, api_key="none", max_retries=0)
    with client.messages.stream(**PLAIN, messages=user(HELLO)) as stream:
        thought = "".join(event.thinking for event in stream if event.type == "thinking")
        thoughts, answer = stream.get_final_message().content
    assert (thoughts.thinking, thought, answer.text) == (THOUGHTS, THOUGHTS, GREETING)
    assert thoughts.signature
    again = [*user(HELLO), {"role": "assistant", "content": [thoughts, answer]}, *user(HELLO)]
    assert texts(client.messages.create(**PLAIN, messages=again)) == GREETING
    limited = {"type": "enabled", "budget_tokens": 3}
    usage = client.messages.create(**PLAIN, messages=user(HELLO), thinking=limited).usage
    assert usage.output_tokens_details.thinking_tokens <= 4
    without = client.messages.create(**PLAIN, messages=user(HELLO), thinking={"type": "disabled"})
    assert "thinking" not in [block.type for block in without.content if block.type != "thinking" or block.thinking]


def test_count_tokens_counts_the_prompt(client: Any) -> None:
    prompt = {"model": MODEL, "messages": user(CITIES), "system": "Be brief.", "tools": [TOOL]}
    usage = client.messages.create(**prompt, max_tokens=1).usage
    counted = client.messages.count_tokens(**prompt).input_tokens
    assert counted == usage.input_tokens + usage.cache_read_input_tokens


def test_the_models_are_listed(client: Any) -> None:
    (model,) = client.models.list()
    assert (model.id, model.type, model.lifecycle) == (MODEL, "model", "active")
    assert client.models.retrieve(MODEL) == model


def test_a_stream_that_the_client_closes_ends_on_the_server(random_server: Server) -> None:
    client = anthropic.Anthropic(base_url=random_server.url, api_key="none", max_retries=0)
    options: Any = {"model": "random", "max_tokens": 3000, "extra_body": {"ignore_eos": True}}
    with (
        one_cancelled(random_server, "/v1/messages"),
        client.messages.stream(**options, messages=user(HELLO)) as stream,
    ):
        assert next(iter(stream)).type == "message_start"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("options", "question", "status", "code"), ERROR_CASES)
def test_an_error_is_the_sdks(
    server: Server, options: dict[str, str], question: str, status: int, code: str, stream: bool
) -> None:
    key, model = options.get("key", KEY), options.get("model", MODEL)
    kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
    with (
        anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0) as client,
        pytest.raises(getattr(anthropic, SDK_ERRORS[status])) as caught,
    ):
        client.messages.create(model=model, max_tokens=10, messages=user(question), stream=stream)
    assert caught.value.type == kinds[status]
    assert caught.value.request_id == caught.value.body["request_id"]
