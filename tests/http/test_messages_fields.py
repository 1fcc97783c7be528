"""Every field of a Messages request: what it does, and how a wrong value is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic.types import MessageTokensCount

from server.api.messages.fields import CountTokensRequest, MessagesRequest
from tests.http.field_tables import (
    ALWAYS_CALLS,
    BOOLEAN,
    END,
    GENERATION_FIELDS,
    INTEGER,
    LETTER,
    OBJECT,
    STRING,
    TEMPLATE_FIELDS,
    Field,
    always,
    changes_nothing,
    held,
    serving_random_weights,
)
from tests.http.messages_route import CACHED, PING, PONG, SEARCH, Route, assistant, error_of, text, user


def streamed(route: Route) -> bool:
    """The deltas joined are the body."""
    events = route.events()
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    return "".join(deltas) == route.said()


def returns_token_ids(route: Route) -> bool:
    answer = route.ask(return_token_ids=True)
    first, *_, last, _ = route.events(return_token_ids=True)
    assert "token_ids" not in route.ask()
    assert len(answer["token_ids"]) == answer["usage"]["output_tokens"]
    assert first["message"]["prompt_token_ids"] == answer["prompt_token_ids"]
    return bool(last["token_ids"] == answer["token_ids"])


def ends(reason: str, **fields: Any) -> Callable[[Route], object]:
    return lambda route: route.ask(**fields)["stop_reason"] == reason


def stops(route: Route) -> bool:
    """The answer ends before the sequence, which is named."""
    letter = route.said()[5]
    answer = route.ask(stop_sequences=["☃", letter])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", letter)
    return "".join(block["text"] for block in answer["content"]) == route.said().split(letter)[0]


def continues_a_last_answer(route: Route) -> bool:
    """Blocks and strings are the same, and a last assistant message is continued, not closed."""
    opened = route.prompt(messages=[user("hello")])
    prefilled = route.prompt(messages=[user([text("hello")]), assistant("Well")])
    return prefilled[: len(opened)] == opened and 0 < len(prefilled) - len(opened) < 5


def chooses(route: Route) -> bool:
    tools = [PING, PONG, SEARCH]
    assert set(route.called(tools=tools, tool_choice={"type": "any"})) <= {"ping", "pong"}
    assert route.called(tools=tools, tool_choice={"type": "none"}) == []
    assert route.prompt(tools=tools, tool_choice={"type": "none"}) == route.prompt(tools=tools)
    assert route.called(tools=tools, tool_choice={"type": "auto"}, **ALWAYS_CALLS, max_tokens=100)
    assert route.called(tools=tools, tool_choice={"type": "none"}, **ALWAYS_CALLS, max_tokens=100) == []
    hot = {"temperature": 1.5, "max_tokens": 400}
    one = {"type": "any", "disable_parallel_tool_use": True}
    assert max(len(route.called(tools=tools, tool_choice={"type": "any"}, **hot, seed=seed)) for seed in range(6)) > 1
    assert all(len(route.called(tools=tools, tool_choice=one, **hot, seed=seed)) == 1 for seed in range(6))
    return route.called(tools=tools, tool_choice={"type": "tool", "name": "pong"}) == ["pong"]


AB = {"format": {"type": "json_schema", "schema": {"enum": ["ab"]}}}
TABLE = {
    **GENERATION_FIELDS,
    **TEMPLATE_FIELDS,
    "messages": Field(continues_a_last_answer, [], "at least 1 item"),
    "system": Field(
        lambda r: r.prompt(system="a\nb") == r.prompt(system=[{**text("a"), **CACHED}, text("b")]) != r.prompt(),
        [{"type": "image"}],
        "must have type text",
    ),
    "max_tokens": Field(
        lambda r: (r.used(max_tokens=3)[1], r.ask(max_tokens=3)["stop_reason"]) == (3, "max_tokens"),
        0,
        "equal to 1",
    ),
    "stop_sequences": Field(stops, [""], "at least 1 character"),
    "tools": Field(
        lambda r: r.prompt(tools=[{**PING, **CACHED}, SEARCH]) == r.prompt(tools=[PING]) != r.prompt(),
        [{"name": "ping"}],
        "requires the field `input_schema`",
    ),
    "tool_choice": Field(chooses, {"type": "any"}, "tool_choice requires tools"),
    "thinking": Field(
        lambda r: r.said(thinking={"type": "enabled", "budget_tokens": 3}) == r.said(thinking={"type": "adaptive"}),
        {"type": "enabled"},
        "requires budget_tokens",
    ),
    "output_config": Field(held('"ab"', output_config={**AB, "effort": "low"}), {"effort": "huge"}, "Input should be"),
    "metadata": Field(changes_nothing("metadata", {"user_id": "ann"}), {"user_id": 3}, STRING),
    "service_tier": Field(changes_nothing("service_tier", "auto"), 3, STRING),
    "cache_control": Field(changes_nothing("cache_control", {"type": "ephemeral"}), 3, OBJECT),
    "stream": Field(streamed, "y", BOOLEAN),
    "stream_options": Field(
        lambda r: len(r.events(stream_options={})) == len(r.events()), {}, "stream_options requires stream: true."
    ),
    "n": Field(changes_nothing("n", 1), 2, "Input should be 1"),
    "stop_token_ids": Field(
        ends("end_turn", stop_token_ids=[LETTER], **always(LETTER)), [5000], "5000 is not a token id of this model"
    ),
    "ignore_eos": Field(ends("max_tokens", **always(END), ignore_eos=True), "no", BOOLEAN),
    "return_token_ids": Field(returns_token_ids, 1, BOOLEAN),
    "continue_final_message": Field(
        lambda r: r.used(continue_final_message=True, add_generation_prompt=False)[0] < r.used()[0], 1, BOOLEAN
    ),
    "thinking_token_budget": Field(changes_nothing("thinking_token_budget", 3), "3", INTEGER),
}


@pytest.fixture(scope="module")
def route(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Route]:
    with serving_random_weights(tiny_model, tmp_path_factory.mktemp("templates")) as running:
        yield Route(running)


def test_no_field_is_without_its_tests() -> None:
    assert TABLE.keys() == {field.alias or name for name, field in MessagesRequest.model_fields.items()}


@pytest.mark.parametrize("name", TABLE)
def test_a_field_has_its_effect(route: Route, name: str) -> None:
    works = TABLE[name].works
    assert works is None or works(route)


@pytest.mark.parametrize("name", TABLE)
def test_a_field_with_a_wrong_value_is_refused_by_name(route: Route, name: str) -> None:
    error = error_of(route.post(**{name: TABLE[name].wrong}), 400)
    assert error["type"] == "invalid_request_error"
    assert TABLE[name].message in error["message"]


@pytest.mark.parametrize("name", CountTokensRequest.model_fields)
def test_a_field_counts_as_much_as_it_adds_to_the_prompt(route: Route, name: str) -> None:
    values: dict[str, Any] = {
        "messages": [user("hello"), assistant([text("Well")])],
        "system": "Be brief.",
        "tools": [PING, SEARCH],
        "tool_choice": {"type": "none"},
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "low"},
        "cache_control": {"type": "ephemeral"},
        "model": "tiny-model",
        "chat_template_kwargs": {"bare": True},
        "add_generation_prompt": False,
        "continue_final_message": False,
        "add_special_tokens": True,
    }
    fields = {"tools": [PING], name: values[name]}
    answer = route.post("/count_tokens", **fields)
    assert MessageTokensCount.model_validate_json(answer.content, strict=True).input_tokens == route.used(**fields)[0]
    assert error_of(route.post("/count_tokens", **{name: TABLE[name].wrong}), 400)["type"] == "invalid_request_error"


def test_null_is_absent(route: Route) -> None:
    body = dict.fromkeys(TABLE) | {"messages": [user("hello")], "max_tokens": 3}
    assert httpx.post(f"{route.server.url}/v1/messages", json=body, timeout=60).status_code == 200
