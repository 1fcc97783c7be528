"""Responses as the OpenAI SDK and raw HTTP see them: items, tools, thoughts and errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from server.settings import Settings
from tests.errors import error_of
from tests.http.responses_scripts import COMMAND, CRM, GREETING, MODEL, SCRIPTS, SHELL, WEATHER, without_ids
from tests.scripted import THOUGHTS, thinker
from tests.serving import Server, recorded_requests, serving


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = thinker(tmp_path_factory.mktemp("models") / MODEL, SCRIPTS)
    with serving(Settings(model=str(model), threads=1)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with server.client as client:
        yield client.responses


def post(server: Server, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/responses", json=body, timeout=60)


def test_an_answer_has_its_thoughts_its_message_and_its_usage(client: Any) -> None:
    answer = client.create(model=MODEL, input="hello")
    thoughts, message = answer.output
    assert (thoughts.type, thoughts.content[0].text, thoughts.summary) == ("reasoning", THOUGHTS, [])
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert (answer.output_text, message.content[0].annotations) == (GREETING, [])
    assert (answer.status, answer.error, answer.incomplete_details) == ("completed", None, None)
    assert answer.completed_at >= answer.created_at
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert 0 < usage.output_tokens_details.reasoning_tokens < usage.output_tokens


def test_parse_gives_the_model_class(client: Any) -> None:
    assert client.parse(model=MODEL, input="person", text_format=Person).output_parsed == Person(name="Ada", age=36)
    with client.stream(model=MODEL, input="person", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="Ada", age=36)


def test_a_json_object_is_enforced(client: Any) -> None:
    answer = client.create(model=MODEL, input="person", text={"format": {"type": "json_object"}})
    assert json.loads(answer.output_text) == {"name": "Ada", "age": 36}
    assert answer.text.format.type == "json_object"


def test_a_custom_tool_gets_its_input_as_text(client: Any) -> None:
    call = client.create(model=MODEL, input="run", tools=[SHELL]).output[-1]
    assert (call.type, call.name, call.input) == ("custom_tool_call", "shell", COMMAND)
    output = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "21 degrees"}
    history = [{"role": "user", "content": "run"}, call.to_dict(), output]
    assert client.create(model=MODEL, input=history, tools=[SHELL]).output_text == "It is warm."


def test_a_tool_of_a_namespace_is_called_by_its_name_and_its_namespace(client: Any) -> None:
    request = {"model": MODEL, "input": "customers", "tools": [CRM, WEATHER]}
    answer = client.create(**request)
    *_, customer, command, other = answer.output
    assert (customer.namespace, customer.name, customer.arguments) == ("crm", "get_weather", '{"city": "Oslo"}')
    assert (command.namespace, command.name, command.input) == ("crm", "shell", "ls")
    assert (other.name, "namespace" in other.to_dict()) == ("get_weather", False)
    assert [tool.type for tool in answer.tools] == ["namespace", "function"]
    *_, last = events = list(client.create(**request, stream=True))
    assert without_ids(last.response.output) == without_ids(answer.output)
    assert [event.name for event in events if event.type == "response.function_call_arguments.done"] == 2 * [other.name]
    added = [event.item.to_dict() for event in events if event.type == "response.output_item.added"]
    assert [item.get("namespace") for item in added[-3:]] == ["crm", "crm", None]


def as_items(answer: Response) -> list[Any]:
    return [item.to_dict() for item in answer.output]


@pytest.mark.parametrize("stored", [True, False])
def test_a_loop_of_calls_and_results_gives_the_chats_prompt(server: Server, client: Any, stored: bool) -> None:
    fields: dict[str, Any] = {"model": MODEL, "tools": [WEATHER], "store": stored, "temperature": 0}
    with recorded_requests(server) as requests:
        first = client.create(**fields, input=[{"role": "user", "content": "cities"}])
        results = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "21 degrees"}
            for item in first.output
            if item.type == "function_call"
        ]
        so_far = [{"role": "user", "content": "cities"}, *as_items(first)]
        second = client.create(
            **fields, **{"input": results, "previous_response_id": first.id} if stored else {"input": so_far + results}
        )
        thanks = {"role": "user", "content": "thanks"}
        so_far += [*results, *as_items(second)]
        third = client.create(
            **fields,
            **{"input": [thanks], "previous_response_id": second.id} if stored else {"input": [*so_far, thanks]},
        )
        chat = chat_loop(server)
    assert [answer.output_text for answer in (first, second, third)] == ["", "It is warm.", "You are welcome."]
    assert chat == ["It is warm.", "You are welcome."]
    prompts = [request.prompt for request in requests]
    assert prompts[:3] == prompts[3:]
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens - 8
    assert third.usage.input_tokens_details.cached_tokens >= second.usage.input_tokens - 8


def chat_loop(server: Server) -> list[str]:
    """The same conversation on chat completions; the texts of the last two answers."""
    function = {name: WEATHER[name] for name in ("name", "parameters")}
    messages: list[Any] = [{"role": "user", "content": "cities"}]

    def answer() -> Any:
        tools = [{"type": "function", "function": function}]
        body = server.chat(messages=messages, tools=tools, temperature=0).json()
        messages.append(body["choices"][0]["message"])
        return messages[-1]

    called = answer()["tool_calls"]
    messages.extend({"role": "tool", "tool_call_id": call["id"], "content": "21 degrees"} for call in called)
    texts = [answer()["content"]]
    messages.append({"role": "user", "content": "thanks"})
    return [*texts, answer()["content"]]


def test_encrypted_thoughts_are_taken_back(client: Any) -> None:
    answer = client.create(model=MODEL, input="hello", store=False, include=["reasoning.encrypted_content"])
    thoughts, message = as_items(answer)
    assert THOUGHTS.encode() in base64.b64decode(thoughts["encrypted_content"])
    assert "encrypted_content" not in as_items(client.create(model=MODEL, input="hello"))[0]
    tokens = [
        client.create(
            model=MODEL,
            input=[{"role": "user", "content": "hello"}, item, message, {"role": "user", "content": "thanks"}],
            extra_body={"return_token_ids": True},
        ).model_extra["prompt_token_ids"]
        for item in (thoughts, {**thoughts, "content": None}, {**thoughts, "encrypted_content": None})
    ]
    assert tokens[0] == tokens[1] == tokens[2]


def test_thoughts_have_a_budget_and_may_be_left_out(client: Any) -> None:
    for fields in ({"reasoning": {"effort": "none"}}, {"extra_body": {"thinking_token_budget": 0}}):
        answer = client.create(model=MODEL, input="hello", **fields)
        assert [item.type for item in answer.output if item.type == "reasoning" and item.content[0].text] == []
    answer = client.create(model=MODEL, input="hello", extra_body={"include_reasoning": False})
    assert [item.type for item in answer.output] == ["message"]
    assert answer.output_text == GREETING
    assert answer.usage.output_tokens_details.reasoning_tokens > 0


def test_parts_refusals_and_the_easy_form_are_read(server: Server) -> None:
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "hello"},
    ]
    messages = [
        {"role": "system", "content": "a\nb"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "hello"},
    ]
    with recorded_requests(server) as requests:
        assert post(server, input=items).status_code == 200
        assert server.chat(messages=messages).status_code == 200
    assert requests[0].prompt == requests[1].prompt


def test_built_in_tools_are_dropped_with_a_warning(server: Server) -> None:
    tools = [{"type": "web_search"}, {"type": "mcp", "server_label": "a"}, WEATHER, {"type": "web_search"}]
    for stream in (False, True):
        answer = post(server, input="weather", tools=tools, stream=stream)
        assert answer.headers["x-lfm-dropped-tools"] == "web_search, mcp"
    assert "x-lfm-dropped-tools" not in post(server, input="weather", tools=[WEATHER]).headers
    body = post(server, input="weather", tools=tools).json()
    assert [tool["type"] for tool in body["tools"]] == ["function"]
    assert body["output"][-1]["name"] == "get_weather"


def test_an_answer_that_is_cut_is_incomplete(client: Any) -> None:
    for most, kind in ((12, "reasoning"), (28, "message")):
        answer = client.create(model=MODEL, input="hello", max_output_tokens=most)
        assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert (answer.output[-1].type, answer.output[-1].status) == (kind, "incomplete")
        *_, last = client.create(model=MODEL, input="hello", max_output_tokens=most, stream=True)
        assert (last.type, without_ids(last.response.output)) == ("response.incomplete", without_ids(answer.output))


def test_errors_are_the_sdks(client: Any) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.create(model=MODEL, input="word " * 5000, stream=stream)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
        with pytest.raises(openai.NotFoundError) as missing:
            client.create(model="gpt-9", input="hello", stream=stream)
        assert missing.value.code == "model_not_found"


def test_the_tokens_of_an_input_are_counted(client: Any) -> None:
    fields = {"model": MODEL, "input": "weather", "tools": [WEATHER], "instructions": "Be brief."}
    count = client.input_tokens.count(**fields)
    assert (count.object, count.input_tokens) == (
        "response.input_tokens",
        client.create(**fields).usage.input_tokens,
    )


def test_nothing_is_compacted(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/responses/compact", json={"model": MODEL, "input": "hello"})
    assert error_of(answer, 400)["code"] == "unsupported_operation"
