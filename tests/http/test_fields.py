"""Every field of the requests of OpenAI's and vLLM's routes: what it does, and how a wrong value is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.completions.fields import CompletionRequest
from server.api.tokenize import DetokenizeRequest, TokenizeChat, TokenizeText
from tests.chats import HELLO
from tests.errors import error_of
from tests.http.field_tables import (
    BOOLEAN,
    END,
    LETTER,
    OBJECT,
    SAMPLED,
    STRING,
    Field,
    serving_random_weights,
)
from tests.http.openai_fields import CHAT, PING, TEXT
from tests.http.openai_route import Route
from tests.serving import Server


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_random_weights(tiny_model, tmp_path_factory.mktemp("templates")) as running:
        yield running


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
    """Return a check that the fields change the number of a chat's tokens."""
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
    if schema is TokenizeChat:  # its other fields are about the answer to a chat
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


def test_unknown_fields_are_ignored_and_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
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
