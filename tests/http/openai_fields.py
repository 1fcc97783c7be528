"""Tables of the fields of chats and of texts: what each field does, and how a wrong value is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.http.field_tables import (
    BOOLEAN,
    END,
    GENERATION_FIELDS,
    GUIDED_FIELDS,
    LETTER,
    OBJECT,
    STRING,
    TEMPLATE_FIELDS,
    Field,
    always,
    changes,
    changes_nothing,
    held,
)
from tests.http.openai_route import Route

PING = {"type": "function", "function": {"name": "ping"}}


GENERATION = GENERATION_FIELDS | {
    "n": Field(lambda r: len(r.ask(n=2)["choices"]) == 2, 9, "n must be at most 8"),
    "stop_token_ids": Field(
        lambda r: r.choice(stop_token_ids=[LETTER], **always(LETTER))["finish_reason"] == "stop",
        [5000],
        "5000 is not a token id of this model",
    ),
    "ignore_eos": Field(lambda r: r.choice(**always(END), ignore_eos=True)["finish_reason"] == "length", "no", BOOLEAN),
    "return_token_ids": Field(lambda r: tells_token_ids(r), 1, BOOLEAN),
    "stream": Field(lambda r: len(r.chunks()) > 2, "yes", BOOLEAN),
    "stream_options": Field(
        lambda r: r.chunks(stream_options={"include_usage": True})[-1]["usage"]["completion_tokens"] > 0,
        {"include_usage": True},
        "stream_options requires stream: true.",
    ),
}


def tells_token_ids(route: Route) -> bool:
    answer, chunks = route.ask(return_token_ids=True), route.chunks(return_token_ids=True)
    (choice,), told = answer["choices"], [chunk["choices"][0] for chunk in chunks]
    prompts = [one["prompt_token_ids"] for one in (answer, choice, *chunks, *told) if "prompt_token_ids" in one]
    streamed = [token for entry in told for token in entry.get("token_ids", ())]
    assert len(choice["token_ids"]) == answer["usage"]["completion_tokens"]
    assert len(prompts) == 2
    assert all(len(prompt) == answer["usage"]["prompt_tokens"] for prompt in prompts)
    assert "token_ids" not in route.choice()
    return bool(streamed == choice["token_ids"])


def refused(message: str, wrong: Any = 1) -> Field:
    """Return a field that has no valid value."""
    return Field(None, wrong, message)


def called(**fields: Any) -> Callable[[Route], object]:
    """Return a check that lists the names of the called tools."""
    return lambda route: [call["function"]["name"] for call in route.choice(**fields)["message"]["tool_calls"]]


REQUIRED: dict[str, Any] = {"tools": [PING], "tool_choice": "required", "max_tokens": 200}
AB = {"type": "json_schema", "json_schema": {"name": "ab", "schema": {"enum": ["ab"]}}}
FORMS = GUIDED_FIELDS | {
    "response_format": Field(held('"ab"', response_format=AB), {"type": "x"}, "Input should"),
}
CHAT = (
    GENERATION
    | FORMS
    | TEMPLATE_FIELDS
    | {
        "messages": Field(changes(messages=[{"role": "user", "content": "bye"}]), [], "at least 1 item"),
        "max_completion_tokens": Field(lambda r: r.used(max_completion_tokens=3)[1] == 3, 0, "equal to 1"),
        "max_tokens": Field(lambda r: r.used(max_tokens=3)[1] == 3, 0, "equal to 1"),
        "logprobs": Field(lambda r: r.choice(logprobs=True)["logprobs"]["content"], 2, BOOLEAN),
        "top_logprobs": Field(
            lambda r: len(r.choice(logprobs=True, top_logprobs=2)["logprobs"]["content"][0]["top_logprobs"]) == 2,
            21,
            "less than or equal to 20",
        ),
        "tools": Field(
            lambda r: r.used(tools=[PING])[0] > r.used()[0], [{"type": "function"}], "requires the field `function`"
        ),
        "tool_choice": Field(called(**REQUIRED), "auto", "tool_choice requires tools."),
        "parallel_tool_calls": Field(
            lambda r: called(**REQUIRED, parallel_tool_calls=False)(r) == ["ping"], "no", BOOLEAN
        ),
        "functions": Field(lambda r: r.used(functions=[{"name": "f"}])[0] > r.used()[0], [{}], "is required"),
        "function_call": Field(
            lambda r: r.choice(functions=[{"name": "f"}], function_call={"name": "f"})["message"]["function_call"],
            "auto",
            "function_call requires functions.",
        ),
        "continue_final_message": Field(lambda r: r.used(continue_final_message=True)[0] < r.used()[0], 1, BOOLEAN),
        "return_progress": Field(lambda r: tells_progress(r), 1, BOOLEAN),
        "modalities": Field(changes_nothing("modalities", ["text"]), ["audio"], "This model generates text only"),
        "audio": refused("audio and web_search_options are not supported"),
        "web_search_options": refused("audio and web_search_options are not supported"),
        "user": Field(changes_nothing("user", "ann"), 3, STRING),
        "safety_identifier": Field(changes_nothing("safety_identifier", "ann"), 3, STRING),
        "prompt_cache_key": Field(changes_nothing("prompt_cache_key", "a"), 3, STRING),
        "prompt_cache_retention": Field(changes_nothing("prompt_cache_retention", "24h"), 3, STRING),
        "service_tier": Field(changes_nothing("service_tier", "auto"), 3, STRING),
        "store": Field(changes_nothing("store", True), "no", BOOLEAN),
        "metadata": Field(changes_nothing("metadata", {"a": "b"}), [], OBJECT),
        "prediction": Field(changes_nothing("prediction", {"type": "content", "content": "a"}), [], OBJECT),
        "reasoning_effort": Field(
            changes_nothing("reasoning_effort", "low"), "some", "Input should be 'none', 'minimal'"
        ),
        "thinking_token_budget": Field(changes_nothing("thinking_token_budget", 0), -1, "greater than or equal to 0"),
        "verbosity": Field(changes_nothing("verbosity", "low"), 3, STRING),
    }
)


def tells_progress(route: Route) -> bool:
    long = [{"role": "user", "content": "hello " * 100}]
    told = [chunk.get("prompt_progress") for chunk in route.chunks(messages=long, return_progress=True)]
    steps = [progress for progress in told if progress]
    assert told[0] is None, "the first chunk opens the choice"
    assert [step["processed"] for step in steps] == sorted(step["processed"] for step in steps)
    assert all(step.keys() == {"total", "cache", "processed", "time_ms"} for step in steps)
    assert not any(chunk.get("prompt_progress") for chunk in route.chunks(messages=long))
    return len(steps) > 2 and steps[-1]["processed"] == steps[-1]["total"] == route.used(messages=long)[0]


TEXT = (
    GENERATION
    | FORMS
    | {
        "prompt": Field(changes(prompt="bye"), 3, "prompt must be a string"),
        "max_tokens": Field(lambda r: r.used(max_tokens=3)[1] == 3, 0, "only with echo: true"),
        "echo": Field(lambda r: r.said(echo=True) == "hello" + r.said(), 1, BOOLEAN),
        "logprobs": Field(lambda r: r.choice(logprobs=1)["logprobs"]["tokens"], 6, "less than or equal to 5"),
        "best_of": Field(changes_nothing("best_of", 1), 3, "best_of greater than n (1) is not supported"),
        "add_special_tokens": Field(lambda r: r.used(add_special_tokens=False)[0] == r.used()[0] - 1, 1, BOOLEAN),
        "user": Field(changes_nothing("user", "ann"), 3, STRING),
        "suffix": refused("suffix is not supported.", "a"),
    }
)
