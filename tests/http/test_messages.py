"""Messages as the Anthropic API's clients see them: answers, streams, tools, thoughts and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from server.settings import Settings
from tests.scripted import THOUGHTS, thinker
from tests.serving import Server, recorded_requests, serving

GREETING = "Hello there! 😀"
SCRIPTS = [
    ("hello", GREETING),
    ("weather", 'Let me see.<|tool_call_start|>[get_weather(city="Oslo")]<|tool_call_end|>'),
    ("cities", '<|tool_call_start|>[get_weather(city="Oslo"), get_weather(city="Rome")]<|tool_call_end|>'),
    ("<|tool_response_start|>21 degrees<|tool_response_end|>", "It is warm.", "tool"),
    ("silence", ""),
]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: dict[str, Any] = {"name": "get_weather", "input_schema": CITY}
PING: dict[str, Any] = {"name": "ping", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = thinker(tmp_path_factory.mktemp("models") / "thinker", SCRIPTS)
    with serving(Settings(model=str(model), threads=1)) as running:
        yield running


def post(server: Server, content: Any = "hello", path: str = "", **fields: Any) -> httpx.Response:
    body = {"max_tokens": 200, "temperature": 0, "messages": [{"role": "user", "content": content}], **fields}
    return httpx.post(f"{server.url}/v1/messages{path}", json=body, timeout=60)


def ask(server: Server, content: Any = "hello", **fields: Any) -> Any:
    answer = post(server, content, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_answer_has_thoughts_with_a_signature_and_text(server: Server) -> None:
    answer = ask(server)
    thoughts, text = answer["content"]
    assert (thoughts["type"], thoughts["thinking"], bool(thoughts["signature"])) == ("thinking", THOUGHTS, True)
    assert (text["type"], text["text"]) == ("text", GREETING)
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("end_turn", None)


def without_ids(message: Any) -> Any:
    """A message of the SDK as JSON, without the IDs, which are random, and without what the prefix cache changes."""
    body = message.to_dict(exclude_none=True)
    for block in body["content"]:
        block.pop("id", None)
    used = body["usage"]
    used["input_tokens"] += used.pop("cache_read_input_tokens")
    return {name: value for name, value in body.items() if name != "id"}


@pytest.mark.parametrize("most", [3, 30, 35, 40, 45, 200])
@pytest.mark.parametrize("question", ["hello", "weather", "cities", "silence"])
def test_the_sdks_stream_helper_gives_the_body(server: Server, question: str, most: int) -> None:
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    fields: dict[str, Any] = {"model": "thinker", "max_tokens": most, "tools": [WEATHER]}
    fields |= {"messages": [{"role": "user", "content": question}], "extra_body": {"temperature": 0}}
    with client.messages.stream(**fields) as stream:
        streamed = stream.get_final_message()
    assert without_ids(streamed) == without_ids(client.messages.create(**fields))


def test_the_events_come_in_anthropics_order(server: Server) -> None:
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": "weather"}]
    tools: Any = [WEATHER]
    stream = client.messages.create(model="thinker", max_tokens=200, messages=messages, tools=tools, stream=True)
    kinds = [event.delta.type if event.type == "content_block_delta" else event.type for event in stream]
    distinct = [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]
    start, stop = "content_block_start", "content_block_stop"
    assert distinct == [
        "message_start",
        *(start, "thinking_delta", "signature_delta", stop),
        *(start, "text_delta", stop),
        *(start, "input_json_delta", stop),
        "message_delta",
        "message_stop",
    ]


def test_a_call_is_answered_with_its_result(server: Server) -> None:
    first = ask(server, "weather", tools=[WEATHER])
    call = first["content"][-1]
    assert (first["stop_reason"], call["name"], call["input"]) == ("tool_use", "get_weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "21 degrees"}]}
    messages = [
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result]},
    ]
    assert ask(server, messages=messages, tools=[WEATHER])["content"][-1]["text"] == "It is warm."


def test_a_stop_sequence_is_named(server: Server) -> None:
    answer = ask(server, stop_sequences=["there"])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "there")
    assert answer["content"][-1]["text"] == "Hello "


def test_the_token_limit_is_the_stop_reason(server: Server) -> None:
    assert ask(server, max_tokens=3)["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"thinking": {"type": "disabled"}}, 0),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, 0),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, 6),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}, "thinking_token_budget": 3}, 4),
        ({"thinking_token_budget": 3}, 4),
    ],
)
def test_a_budget_ends_the_thoughts_and_the_answer_follows(server: Server, fields: dict[str, Any], most: int) -> None:
    one = {"type": "any", "disable_parallel_tool_use": True}
    called = ask(server, "weather", **fields, tools=[PING], tool_choice=one)
    assert called["usage"]["output_tokens_details"]["thinking_tokens"] <= most
    assert [block["input"] for block in called["content"] if block["type"] == "tool_use"] == [{}]
    unlimited = ask(server, "weather", tools=[WEATHER], thinking={"type": "adaptive"})
    assert unlimited["usage"]["output_tokens_details"]["thinking_tokens"] > 6


def test_an_effort_sets_the_budget(server: Server) -> None:
    efforts = ("low", "max")
    answers = [ask(server, thinking={"type": "adaptive"}, output_config={"effort": effort}) for effort in efforts]
    assert [answer["content"][0]["thinking"] for answer in answers] == [THOUGHTS, THOUGHTS]


def test_thoughts_that_are_omitted_are_counted(server: Server) -> None:
    for fields in ({"thinking": {"type": "adaptive", "display": "omitted"}}, {"include_reasoning": False}):
        answer = ask(server, **fields)
        assert [block["type"] for block in answer["content"]] == ["text"]
        assert answer["usage"]["output_tokens_details"]["thinking_tokens"] > 0


def test_a_schema_is_enforced(server: Server) -> None:
    form = {"type": "json_schema", "schema": {"enum": ["ab"]}}
    assert ask(server, output_config={"format": form})["content"][-1]["text"] == '"ab"'


def test_usage_counts_cached_tokens_apart(server: Server) -> None:
    hello = {"role": "user", "content": "hello"}
    first = ask(server, messages=[hello], cache_salt="usage")
    history = [hello, {"role": "assistant", "content": first["content"]}, hello]
    second = ask(server, messages=history, cache_salt="usage", return_token_ids=True)
    used = second["usage"]
    assert first["usage"]["cache_read_input_tokens"] == 0
    assert used["cache_read_input_tokens"] >= first["usage"]["input_tokens"] - 8
    assert used["input_tokens"] + used["cache_read_input_tokens"] == len(second["prompt_token_ids"])


def test_count_tokens_counts_the_prompt(server: Server) -> None:
    with recorded_requests(server) as requests:
        ask(server, system="Be brief.")
    body = {"messages": [{"role": "user", "content": "hello"}], "system": "Be brief."}
    count = httpx.post(f"{server.url}/v1/messages/count_tokens", json=body, timeout=60).json()
    assert count == {"input_tokens": len(requests[0].prompt)}
