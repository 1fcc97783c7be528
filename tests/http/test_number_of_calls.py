"""The number of calls in an answer: none, one, or as many as the user requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from server.settings import Settings
from tests.grammars import COMPILER, TOKENIZER, allowed
from tests.scripted import scripted
from tests.serving import Server, serving

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "London", "Tokyo"]}, "sunny": {"type": "boolean"}},
    "required": ["city", "sunny"],
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
CITY = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PING = {"type": "function", "function": {"name": "ping"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
START, END = "<|tool_call_start|>", "<|tool_call_end|>"
TWICE = f"{START}[ping(), ping(), ping()]{END}"


def choice_of(server: Server, content: str, **fields: Any) -> Any:
    answer = server.chat(messages=[{"role": "user", "content": content}], **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def cities(choice: Any) -> list[str]:
    return [json.loads(call["function"]["arguments"])["city"] for call in choice["message"]["tool_calls"]]


@pytest.mark.parametrize("parallel", [{}, {"parallel_tool_calls": True}, {"parallel_tool_calls": False}])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0}, {"temperature": 1.2, "seed": 3}])
def test_a_named_tool_is_called_once(demo: Server, parallel: dict[str, Any], sampling: dict[str, Any]) -> None:
    question = "What is the weather in Paris and in London?"
    fields = {"tools": [WEATHER, PING], "tool_choice": NAMED, "max_tokens": 256} | parallel | sampling
    choice = choice_of(demo, question, **fields)
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"


def test_a_named_custom_tool_is_called_once(tiny: Server) -> None:
    tool = {"type": "custom", "custom": {"name": "shell"}}
    for seed in range(3):
        fields = {"temperature": 1.5, "min_p": 0, "seed": seed, "max_tokens": 1000}
        choice = choice_of(tiny, "hi", tools=[tool, PING], tool_choice=tool, **fields)
        assert [call["type"] for call in choice["message"]["tool_calls"]] == ["custom"]


@pytest.mark.parametrize("choice", ["required", "auto"])
@pytest.mark.parametrize(
    ("tool", "question", "expected"),
    [
        (WEATHER, "What is the weather in Paris?", ["Paris"]),
        (WEATHER, "What is the weather in Paris and in London?", ["Paris", "London"]),
        (CITY, "What is the weather in Tokyo?", ["Tokyo"]),
        (CITY, "What is the weather in London and in Rome?", ["London", "Rome"]),
    ],
)
def test_the_built_in_model_stops_after_the_calls_asked_for(
    demo: Server, choice: str, tool: Any, question: str, expected: list[str]
) -> None:
    answer = choice_of(demo, question, tools=[tool], tool_choice=choice, max_tokens=256, temperature=0)
    assert answer["finish_reason"] == "tool_calls"
    assert cities(answer) == expected


@pytest.fixture(scope="module", params=["always", "requested"])
def caller(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scripts = [("call", f"{TWICE}Done."), ("blocks", f"{START}[ping()]{END} and {START}[ping()]{END} more.")]
    folder = scripted(tmp_path_factory.mktemp("models") / "caller", scripts)
    with serving(Settings(model=str(folder), threads=1, tool_constraints=request.param)) as running:
        yield running


@pytest.mark.parametrize("content", ["call", "blocks"])
@pytest.mark.parametrize("stream", [False, True])
def test_without_parallel_calls_there_is_at_most_one(caller: Server, content: str, stream: bool) -> None:
    body = {"messages": [{"role": "user", "content": content}], "tools": [PING], "parallel_tool_calls": False}
    answer = caller.chat(**body, max_tokens=60, stream=stream)
    if stream:
        chunks = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        calls = [call for delta in deltas for call in delta.get("tool_calls", ()) if "id" in call]
        assert chunks[-1]["choices"][0]["finish_reason"]
    else:
        calls = answer.json()["choices"][0]["message"]["tool_calls"]
    assert len(calls) == 1


def test_with_parallel_calls_there_are_all(caller: Server) -> None:
    choice = choice_of(caller, "call", tools=[PING])
    assert len(choice["message"]["tool_calls"]) == 3


@pytest.mark.parametrize("none", [{"tool_choice": "none"}, {"tool_choice": {"type": "none"}}])
@pytest.mark.parametrize("content", ["call", "blocks"])
def test_no_call_opens_under_none(caller: Server, none: dict[str, Any], content: str) -> None:
    choice = choice_of(caller, content, tools=[PING], max_tokens=40, logit_bias={"10": 100}, **none)
    assert "tool_calls" not in choice["message"]
    assert START not in choice["message"]["content"]
    assert 10 not in choice_of(caller, content, tools=[PING], max_tokens=40, return_token_ids=True, **none)["token_ids"]


def test_no_call_opens_under_the_deprecated_none(caller: Server) -> None:
    choice = choice_of(caller, "call", functions=[{"name": "ping"}], function_call="none", max_tokens=40)
    assert choice["finish_reason"] in ("stop", "length")
    assert "function_call" not in choice["message"]


def test_the_prefix_of_an_agents_last_turn_is_cached_under_none(demo: Server) -> None:
    long = " ".join(f"fact {i}" for i in range(60))
    body: dict[str, Any] = {"messages": [{"role": "system", "content": long}, {"role": "user", "content": "Hello!"}]}
    body |= {"tools": [WEATHER], "max_tokens": 4}
    first = demo.chat(**body).json()["usage"]
    last = demo.chat(**body, tool_choice="none").json()["usage"]
    assert last["prompt_tokens"] == first["prompt_tokens"]
    assert last["prompt_tokens_details"]["cached_tokens"] >= first["prompt_tokens"] - 8


def test_min_tokens_holds_under_none(demo: Server) -> None:
    body = {"messages": [{"role": "user", "content": "Hello!"}], "tools": [PING], "tool_choice": "none"}
    answer = demo.chat(**body, min_tokens=30, max_tokens=40, logit_bias={"7": 100}).json()
    assert answer["usage"]["completion_tokens"] == 31


def test_the_marker_cannot_be_spelled_out_under_none() -> None:
    constraint = COMPILER.no_calls()
    for token in TOKENIZER.encode_literally(f"a <{START}"):
        if not allowed(constraint)[token]:
            break
        constraint.commit(token)
    else:
        pytest.fail("the marker was spelled out")
    assert allowed(constraint).sum() > 1000
