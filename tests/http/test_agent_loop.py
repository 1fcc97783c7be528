"""An agent's loop of three turns with two tools: the same tokens on every protocol, from the same cached prefixes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anthropic
import pytest

from server.settings import Settings
from tests.scripted import thinker
from tests.serving import Server, serving

MODEL = "thinker"
SCRIPTS = [
    ("Where is it warmer?", 'Let me see.<|tool_call_start|>[list_cities(country="Norway")]<|tool_call_end|>'),
    (
        "<|tool_response_start|>Oslo, Bergen<|tool_response_end|>",
        '<|tool_call_start|>[get_weather(city="Oslo", days=2), get_weather(city="Bergen", days=2)]<|tool_call_end|>',
        "tool",
    ),
    ("<|tool_response_start|>11 degrees<|tool_response_end|>", "It is warmer in Bergen. 🌧", "tool"),
]
QUESTION = {"role": "user", "content": "Where is it warmer?"}
SYSTEM = "You are a careful assistant. " * 8
COUNTRY = {"type": "object", "properties": {"country": {"type": "string"}}, "required": ["country"]}
DAYS = {"city": {"type": "string"}, "days": {"type": "integer"}}
TOOLS: dict[str, dict[str, Any]] = {
    "list_cities": COUNTRY,
    "get_weather": {"type": "object", "properties": DAYS, "required": ["city", "days"]},
}


class Turn(NamedTuple):
    prompt: list[int]
    tokens: list[int]
    cached: int


def run(name: str, arguments: dict[str, Any]) -> str:
    """What the tool `name` gives."""
    return "Oslo, Bergen" if name == "list_cities" else f"{9 if arguments['city'] == 'Oslo' else 11} degrees"


def chat_completions(server: Server, salt: str) -> Iterator[Turn]:
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, QUESTION]
    tools: list[Any] = [
        {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in TOOLS.items()
    ]
    while True:
        answer = server.client.chat.completions.create(
            model=MODEL, messages=messages, tools=tools, temperature=0, extra_body=extras(salt)
        )
        choice, usage = answer.choices[0], answer.usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        ids = (answer.model_extra or {})["prompt_token_ids"], (choice.model_extra or {})["token_ids"]
        yield Turn(*ids, usage.prompt_tokens_details.cached_tokens or 0)
        if choice.finish_reason != "tool_calls":
            return
        messages.append(choice.message.to_dict())
        for call in messages[-1]["tool_calls"]:
            content = run(call["function"]["name"], json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})


def responses(server: Server, salt: str) -> Iterator[Turn]:
    items: list[Any] = [QUESTION]
    tools: list[Any] = [{"type": "function", "name": name, "parameters": schema} for name, schema in TOOLS.items()]
    while True:
        answer = server.client.responses.create(
            model=MODEL, input=items, instructions=SYSTEM, tools=tools, temperature=0, extra_body=extras(salt)
        )
        assert answer.usage is not None
        extra = answer.model_extra or {}
        yield Turn(extra["prompt_token_ids"], extra["token_ids"], answer.usage.input_tokens_details.cached_tokens)
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            return
        items += [item.to_dict() for item in answer.output]
        for call in calls:
            output = run(call.name, json.loads(call.arguments))
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})


def messages(server: Server, salt: str) -> Iterator[Turn]:
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    history: list[Any] = [QUESTION]
    tools: list[Any] = [{"name": name, "input_schema": schema} for name, schema in TOOLS.items()]
    while True:
        answer = client.messages.create(
            model=MODEL,
            max_tokens=500,
            messages=history,
            system=SYSTEM,
            tools=tools,
            extra_body={"temperature": 0, **extras(salt)},
        )
        extra = answer.model_extra or {}
        yield Turn(extra["prompt_token_ids"], extra["token_ids"], answer.usage.cache_read_input_tokens or 0)
        if answer.stop_reason != "tool_use":
            return
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": run(block.name, block.input)}
            for block in answer.content
            if block.type == "tool_use"
        ]
        history += [answer.to_param(), {"role": "user", "content": results}]


def extras(salt: str) -> dict[str, Any]:
    return {"return_token_ids": True, "cache_salt": salt}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = thinker(tmp_path_factory.mktemp("models") / MODEL, SCRIPTS)
    with serving(Settings(model=str(model), threads=1)) as running:
        yield running


def test_three_turns_have_the_same_tokens_on_all_protocols_and_hit_the_cache(server: Server) -> None:
    protocols: list[Callable[[Server, str], Iterator[Turn]]] = [chat_completions, responses, messages]
    first, *others = [list(protocol(server, protocol.__name__)) for protocol in protocols]
    assert len(first) == 3
    assert others == [first, first]
    assert first[0].cached == 0
    for earlier, later in itertools.pairwise(first):
        assert later.cached >= len(earlier.prompt) - 8
