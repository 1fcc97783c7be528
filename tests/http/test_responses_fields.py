"""Every field of a response request: what it does, and how a wrong value is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.api.responses.fields import ResponseRequest
from tests.errors import error_of
from tests.http.field_tables import (
    BOOLEAN,
    END,
    GENERATION_FIELDS,
    GUIDED_FIELDS,
    LETTER,
    STRING,
    TEMPLATE_FIELDS,
    Field,
    always,
    changes,
    changes_nothing,
    held,
    serving_random_weights,
)
from tests.http.responses_route import AB, PING, SHELL, Route


def echoed(name: str, value: Any, default: Any = None) -> Callable[[Route], object]:
    """The response repeats the field."""
    return lambda route: (route.ask(**{name: value})[name], route.ask()[name]) == (value, default)


def stored(route: Route, **fields: Any) -> int:
    answer = route.ask(**fields)
    return httpx.get(f"{route.server.url}/v1/responses/{answer['id']}").status_code


def returns_token_ids(route: Route) -> bool:
    answer = route.ask(return_token_ids=True)
    last = route.events(return_token_ids=True)[-1]["response"]
    assert "token_ids" not in route.ask()
    assert len(answer["prompt_token_ids"]) == answer["usage"]["input_tokens"]
    assert len(answer["token_ids"]) == answer["usage"]["output_tokens"]
    return bool(last["token_ids"] == answer["token_ids"])


def continues(route: Route) -> bool:
    """The next response has the earlier input and output in its prompt, and not its instructions."""
    first = route.ask(instructions="be brief " * 20)
    said = "".join(part["text"] for part in first["output"][0]["content"])
    history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": said}]
    follow = {"input": "bye", "return_token_ids": True}
    expected = route.ask(**follow | {"input": [*history, {"role": "user", "content": "bye"}]})
    return bool(
        route.ask(**follow, previous_response_id=first["id"])["prompt_token_ids"] == expected["prompt_token_ids"]
    )


def truncates(route: Route) -> bool:
    """The oldest items go first; instructions stay, and a result never stays without its call."""
    call = {"type": "function_call", "call_id": "c", "name": "ping", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "pong " * 500}
    long = [{"role": "user", "content": "word " * 3000}, call, result, {"role": "user", "content": "bye"}]
    fields = {"instructions": "Be brief.", "tools": [PING], "return_token_ids": True, "truncation": "auto"}
    assert error_of(route.post(input=long), 400)["code"] == "context_length_exceeded"
    cut = route.ask(input=long, **fields)["prompt_token_ids"]
    return bool(cut == route.ask(input=long[1:], **fields)["prompt_token_ids"])


def has_logprobs(route: Route) -> bool:
    include = {"include": ["message.output_text.logprobs", "some.other"]}
    answer = route.ask(**include)
    streamed = [entry for event in route.events(**include) for entry in event.get("logprobs", ()) if "delta" in event]
    (text,) = answer["output"][0]["content"]
    assert route.ask()["output"][0]["content"][0]["logprobs"] == []
    assert [entry["token"] for entry in streamed] == [entry["token"] for entry in text["logprobs"]]
    values = [entry["logprob"] for entry in text["logprobs"]]
    # The second prompt comes from the prefix cache, so its chunks differ, and so do float32 roundings.
    assert [entry["logprob"] for entry in streamed] == pytest.approx(values, abs=1e-4)
    return len(streamed) == answer["usage"]["output_tokens"]


def has_top_logprobs(route: Route) -> bool:
    (text,) = route.ask(include=["message.output_text.logprobs"], top_logprobs=2)["output"][0]["content"]
    return all(len(entry["top_logprobs"]) == 2 for entry in text["logprobs"])


def runs_in_background(route: Route) -> bool:
    answer = route.ask(background=True)
    assert (answer["status"], answer["output"]) == ("queued", [])
    url = f"{route.server.url}/v1/responses/{answer['id']}"
    route.server.wait_until(lambda: httpx.get(url).json()["status"] == "incomplete")
    return bool(httpx.get(url).json()["output"][0]["content"][0]["text"] == route.said())


def calls_at_most(count: int) -> Callable[[Route], object]:
    fields = {"tools": [PING], "tool_choice": "required", "temperature": 1.5, "max_output_tokens": 400}

    def most(route: Route) -> bool:
        unlimited = [len(route.called(**fields | {"seed": seed})) for seed in range(6)]
        limited = [len(route.called(**fields | {"seed": seed}, max_tool_calls=count)) for seed in range(6)]
        assert max(unlimited) > count
        return limited == [min(calls, count) for calls in unlimited]

    return most


def chooses_allowed(route: Route) -> bool:
    tools = [PING, {"type": "function", "name": "pong"}, SHELL, {"type": "web_search"}]
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "shell"}]}
    one = {"type": "function", "name": "pong"}
    assert set(route.called(tools=tools, tool_choice=allowed, parallel_tool_calls=False)) == {"shell"}
    return route.called(tools=tools, tool_choice=one) == ["pong"]


REQUIRED: dict[str, Any] = {"tools": [PING], "tool_choice": "required", "max_output_tokens": 200}
TABLE = {
    **GENERATION_FIELDS,
    **TEMPLATE_FIELDS,
    **GUIDED_FIELDS,
    "n": Field(changes_nothing("n", 1), 2, "Input should be 1"),
    "stop_token_ids": Field(
        lambda r: r.ask(stop_token_ids=[LETTER], **always(LETTER))["status"] == "completed",
        [5000],
        "5000 is not a token id of this model",
    ),
    "ignore_eos": Field(lambda r: r.ask(**always(END), ignore_eos=True)["status"] == "incomplete", "no", BOOLEAN),
    "return_token_ids": Field(returns_token_ids, 1, BOOLEAN),
    "stream": Field(lambda r: r.events()[-1]["response"]["output"][0]["content"][0]["text"] == r.said(), "y", BOOLEAN),
    "stream_options": Field(
        lambda r: len(r.events(stream_options={"include_obfuscation": False})) == len(r.events()),
        {"include_obfuscation": True},
        "stream_options requires stream: true.",
    ),
    "response_format": Field(None, {"type": "text"}, "response_format is not supported: send text.format."),
    "continue_final_message": Field(lambda r: r.used(continue_final_message=True)[0] < r.used()[0], 1, BOOLEAN),
    "input": Field(changes(input="bye"), 3, "valid list"),
    "instructions": Field(lambda r: r.used(instructions="Be brief.")[0] > r.used()[0], 3, STRING),
    "previous_response_id": Field(continues, 3, STRING),
    "max_output_tokens": Field(
        lambda r: (
            (r.used(max_output_tokens=3)[1], r.ask(max_output_tokens=3)["incomplete_details"])
            == (3, {"reason": "max_output_tokens"})
        ),
        0,
        "equal to 1",
    ),
    "include": Field(has_logprobs, "all", "valid list"),
    "top_logprobs": Field(has_top_logprobs, 21, "less than or equal to 20"),
    "text": Field(held('"ab"', text=AB), {"format": {"type": "x"}}, "Input should"),
    "reasoning": Field(
        lambda r: (
            r.ask(reasoning={"effort": "low", "summary": "auto"})["reasoning"] == {"effort": "low", "summary": "auto"}
        ),
        {"effort": "huge"},
        "Input should be",
    ),
    "thinking_token_budget": Field(changes_nothing("thinking_token_budget", 3), -1, "greater than or equal to 0"),
    "tools": Field(lambda r: r.used(tools=[PING])[0] > r.used()[0], [{"type": "function"}], "requires a name"),
    "tool_choice": Field(chooses_allowed, "required", "tool_choice requires tools"),
    "parallel_tool_calls": Field(lambda r: r.called(**REQUIRED, parallel_tool_calls=False) == ["ping"], "no", BOOLEAN),
    "max_tool_calls": Field(calls_at_most(2), -1, "greater than or equal to 0"),
    "truncation": Field(truncates, "some", "Input should"),
    "store": Field(lambda r: (stored(r), stored(r, store=False)) == (200, 404), "no", BOOLEAN),
    "background": Field(runs_in_background, "no", BOOLEAN),
    "metadata": Field(echoed("metadata", {"a": "b"}, {}), {"a": "b" * 513}, "at most 512 characters"),
    "user": Field(echoed("user", "ann"), 3, STRING),
    "safety_identifier": Field(echoed("safety_identifier", "ann"), 3, STRING),
    "prompt_cache_key": Field(echoed("prompt_cache_key", "a"), 3, STRING),
    "prompt_cache_retention": Field(changes_nothing("prompt_cache_retention", "24h"), 3, STRING),
    "service_tier": Field(lambda r: r.ask(service_tier="flex")["service_tier"] == "default", 3, STRING),
    "conversation": Field(None, "conv_1", "conversation is not supported"),
    "prompt": Field(None, {"id": "pmpt_1"}, "This server stores no prompts"),
}


@pytest.fixture(scope="module")
def route(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Route]:
    with serving_random_weights(tiny_model, tmp_path_factory.mktemp("templates")) as running:
        yield Route(running)


def test_no_field_is_without_its_tests() -> None:
    assert TABLE.keys() == {field.alias or name for name, field in ResponseRequest.model_fields.items()}


@pytest.mark.parametrize("name", TABLE)
def test_a_field_has_its_effect(route: Route, name: str) -> None:
    works = TABLE[name].works
    assert works is None or works(route)


@pytest.mark.parametrize("name", TABLE)
def test_a_field_with_a_wrong_value_is_refused_by_name(route: Route, name: str) -> None:
    error = error_of(route.post(**{name: TABLE[name].wrong}), 400)
    assert error["type"] == "invalid_request_error"
    assert TABLE[name].message in error["message"]
    assert error["param"].startswith(name)


def test_null_is_absent(route: Route) -> None:
    body = dict.fromkeys(TABLE) | {"input": "hello", "max_output_tokens": 3}
    assert httpx.post(f"{route.server.url}/v1/responses", json=body, timeout=60).status_code == 200
