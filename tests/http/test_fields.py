"""Every field of every request: what it does, and what is said where its value is wrong. None may be left out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.completions.fields import CompletionRequest
from server.api.tokenize import DetokenizeRequest, TokenizeChat, TokenizeText
from server.engine.types import GenerationRequest, RequestContext
from tests.errors import error_of
from tests.http.field_tables import (
    BOOLEAN,
    END,
    GENERATION_FIELDS,
    GUIDED_FIELDS,
    LETTER,
    OBJECT,
    SAMPLED,
    STRING,
    TEMPLATE_FIELDS,
    Field,
    always,
    changes,
    changes_nothing,
    held,
    serving_random_weights,
)
from tests.serving import Server, recorded_requests

HELLO = [{"role": "user", "content": "hello"}]
PING = {"type": "function", "function": {"name": "ping"}}


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_random_weights(tiny_model, tmp_path_factory.mktemp("templates")) as running:
        yield running


@dataclass(frozen=True)
class Route:
    """A route with a body that is right; every answer must be of the SDK's type."""

    server: Server
    path: str
    base: dict[str, Any]
    types: tuple[Any, Any] = (dict, dict)

    def post(self, **fields: Any) -> httpx.Response:
        return httpx.post(self.server.url + self.path, json=self.base | fields, timeout=60)

    def ask(self, **fields: Any) -> Any:
        answer = self.post(**fields)
        assert answer.status_code == 200, answer.text
        if hasattr(self.types[0], "model_validate"):
            self.types[0].model_validate(answer.json())
        return answer.json()

    def choice(self, **fields: Any) -> Any:
        return self.ask(**fields)["choices"][0]

    def said(self, **fields: Any) -> str:
        choice = self.choice(**fields)
        text: str = choice["text"] if "text" in choice else choice["message"]["content"]
        return text

    def used(self, **fields: Any) -> tuple[int, int]:
        """Tokens of prompt and answer."""
        usage = self.ask(**fields)["usage"]
        return usage["prompt_tokens"], usage["completion_tokens"]

    def chunks(self, **fields: Any) -> list[Any]:
        answer = self.post(stream=True, **fields)
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
        *events, done = answer.text.removesuffix("\n\n").split("\n\n")
        assert done == "data: [DONE]"
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        if hasattr(self.types[1], "model_validate"):
            for chunk in chunks:
                self.types[1].model_validate(chunk)
        return chunks

    def requested(self, **fields: Any) -> GenerationRequest:
        """What the engine is asked for."""
        with recorded_requests(self.server) as requests:
            self.ask(**fields)
        return requests[0]

    def context(self, **fields: Any) -> RequestContext:
        """Return the context that the engine gets."""
        return self.requested(**fields).context


def ends(**fields: Any) -> Callable[[Route], tuple[str, int]]:
    """How an answer ends whose every token would be the end, and after how many."""

    def end(route: Route) -> tuple[str, int]:
        answer = route.ask(**always(END), **fields)
        return answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]

    return end


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
    """There is no right value."""
    return Field(None, wrong, message)


def called(**fields: Any) -> Callable[[Route], object]:
    """A call of ping, and so many of them."""
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
            lambda r: r.used(tools=[PING])[0] > r.used()[0], [{"type": "function"}], "requires the field function"
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
TOKENS = {
    "model": Field(lambda r: r.ask(model="tiny-model")["count"] == r.ask()["count"], 3, STRING),
    "return_token_strs": Field(
        lambda r: len(r.ask(return_token_strs=True)["token_strs"]) == r.ask()["count"], 1, BOOLEAN
    ),
}
TOKENIZE_TEXT = TOKENS | {
    "prompt": Field(lambda r: r.ask(prompt="a b c")["count"] > r.ask(prompt="a")["count"], 3, STRING),
    "add_special_tokens": Field(lambda r: r.ask(add_special_tokens=False)["count"] == r.ask()["count"] - 1, 1, BOOLEAN),
}


def counts(**fields: Any) -> Callable[[Route], object]:
    """A chat has another number of tokens with them, the one that it is answered with."""
    return lambda route: route.ask(**fields)["count"] != route.ask()["count"]


TOKENIZE_CHAT = TOKENS | {
    "messages": Field(counts(messages=[{"role": "user", "content": "a b c"}]), [], "at least 1 item"),
    "tools": Field(counts(tools=[PING]), [{}], "is required"),
    "functions": Field(counts(functions=[{"name": "f"}]), [{}], "is required"),
    "chat_template_kwargs": Field(counts(chat_template_kwargs={"bare": True}), [], OBJECT),
    "add_generation_prompt": Field(counts(add_generation_prompt=False), 0, BOOLEAN),
    "continue_final_message": Field(counts(continue_final_message=True), 1, BOOLEAN),
    "add_special_tokens": Field(
        lambda r: r.ask(add_special_tokens=True, chat_template_kwargs={"bare": True}) == r.ask(), 1, BOOLEAN
    ),
}
DETOKENIZE = {
    "model": Field(lambda r: r.ask(model="tiny-model") == r.ask(), 3, STRING),
    "tokens": Field(lambda r: r.ask(tokens=[END])["prompt"] == "<|im_end|>", [1024], "1024 is not a token id"),
}

ROUTES: dict[str, tuple[str, dict[str, Any], tuple[Any, Any], type[Any], dict[str, Field]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": HELLO, "max_tokens": 20, **SAMPLED},
        (ChatCompletion, ChatCompletionChunk),
        ChatCompletionRequest,
        CHAT,
    ),
    "text": (
        "/v1/completions",
        {"prompt": "hello", "max_tokens": 20, **SAMPLED},
        (Completion, dict),
        CompletionRequest,
        TEXT,
    ),
    "tokenize a text": ("/tokenize", {"prompt": "hello"}, (dict, dict), TokenizeText, TOKENIZE_TEXT),
    "tokenize a chat": ("/tokenize", {"messages": HELLO}, (dict, dict), TokenizeChat, TOKENIZE_CHAT),
    "detokenize": ("/detokenize", {"tokens": [LETTER]}, (dict, dict), DetokenizeRequest, DETOKENIZE),
}
EVERY = [pytest.param(route, name, id=f"{route}-{name}") for route, (*_, table) in ROUTES.items() for name in table]


def route_of(server: Server, name: str) -> Route:
    path, base, types, *_ = ROUTES[name]
    return Route(server, path, base, types)


@pytest.mark.parametrize("route", ROUTES)
def test_no_field_is_without_its_tests(route: str) -> None:
    *_, schema, table = ROUTES[route]
    names = {field.alias or name for name, field in schema.model_fields.items()}
    if schema is TokenizeChat:  # the others are a chat's, and about its answer
        names -= ChatCompletionRequest.model_fields.keys() - table.keys()
    assert table.keys() == names


@pytest.mark.parametrize(("route", "name"), EVERY)
def test_a_field_has_its_effect(server: Server, route: str, name: str) -> None:
    works = ROUTES[route][-1][name].works
    assert works is None or works(route_of(server, route))


@pytest.mark.parametrize(("route", "name"), EVERY)
def test_a_field_with_a_wrong_value_is_refused_by_name(server: Server, route: str, name: str) -> None:
    field = ROUTES[route][-1][name]
    beside = {"logprobs": True} if name == "top_logprobs" else {}
    error = error_of(route_of(server, route).post(**beside | {name: field.wrong}), 400)
    assert error["type"] == "invalid_request_error"
    assert field.message in error["message"]
    assert error["param"].startswith(name)


@pytest.mark.parametrize("route", ROUTES)
def test_null_is_absent(server: Server, route: str) -> None:
    path, base, _, _, table = ROUTES[route]
    needed = base.keys() & {"messages", "prompt", "tokens", "max_tokens"}
    asked = dict.fromkeys(table) | {name: base[name] for name in needed}
    assert httpx.post(server.url + path, json=asked).status_code == 200


def test_fields_that_nobody_knows_are_ignored_and_logged_for_who_wonders(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    route = route_of(server, "chat")
    with caplog.at_level(logging.DEBUG, "server.api.generation.fields"):
        assert route.said(nobody_knows=1) == route.said()
    assert [record.getMessage() for record in caplog.records if record.name == "server.api.generation.fields"] == [
        'Unknown fields are ignored: ["nobody_knows"].'
    ]


@pytest.mark.parametrize("route", ["chat", "text"])
@pytest.mark.parametrize("off", [{"top_k": -1}, {"top_k": 0}, {"top_p": 1}])
def test_a_filter_that_is_off_changes_nothing(server: Server, route: str, off: dict[str, Any]) -> None:
    assert route_of(server, route).said(**off) == route_of(server, route).said()


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_an_empty_list_of_tools_is_no_tools(server: Server, choice: str) -> None:
    route = route_of(server, "chat")
    assert route.said(tools=[], tool_choice=choice) == route.said()
    assert route.said(functions=[], function_call=choice) == route.said()


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_no_call_can_be_demanded_without_tools(server: Server, choice: Any) -> None:
    answer = route_of(server, "chat").post(tools=[], tool_choice=choice)
    assert error_of(answer, 400)["param"] == "tool_choice"
