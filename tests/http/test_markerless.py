"""Tool calls of models whose vocabulary has no call markers, in the JSON form that their templates show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from server.settings import Settings
from tests import models
from tests.errors import error_of
from tests.http.test_errors import UNENFORCEABLE
from tests.markerless import TEMPLATES, take_markers
from tests.scripted import scripted
from tests.serving import Server, serving

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Bern", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city"],
}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
PING: Any = {"type": "function", "function": {"name": "ping"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
HOT = {"temperature": 1.5, "min_p": 0, "repetition_penalty": 1, "max_tokens": 2000}
CALL = '{"name": "ping", "arguments": {}}'
SCRIPTS = [
    ("object", CALL),
    ("lines", '{\n  "name": "get_weather",\n  "parameters": {"city": "Bern"}\n}\n'),
    ("list", f'[{CALL}, {{"name": "get_weather", "arguments": {{"city": "Rome"}}}}]'),
    ("tags", f"<tool_call>\n{CALL}\n</tool_call>"),
    ("unknown", '{"name": "launch", "arguments": {}}'),
    ("data", '{"city": "Bern"}'),
    ("mixed", f"{CALL} and more"),
    ("prose", "Hello {there}!"),
]


@pytest.fixture(scope="module", params=TEMPLATES)
def random_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = models.build("dense", tmp_path_factory.mktemp("models") / request.param)
    with serving(Settings(model=str(take_markers(folder, request.param)), threads=1)) as running:
        yield running


@pytest.fixture(scope="module", params=TEMPLATES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = scripted(tmp_path_factory.mktemp("models") / f"scripted-{request.param}", SCRIPTS)
    with serving(Settings(model=str(take_markers(folder, request.param)), threads=1)) as running:
        yield running


def choice_of(server: Server, content: str = "hello", **fields: Any) -> Any:
    answer = server.chat(messages=[{"role": "user", "content": content}], **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def calls_of(choice: Any) -> list[tuple[str, Any]]:
    calls = choice["message"].get("tool_calls", ())
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


@pytest.mark.parametrize("choice", ["required", NAMED, {"type": "function", "function": {"name": "ping"}}])
@pytest.mark.parametrize("parallel", [True, False])
def test_an_enforced_call_matches_its_schema(random_server: Server, choice: Any, parallel: bool) -> None:
    for seed in range(3):
        fields = {"tools": [WEATHER, PING], "tool_choice": choice, "parallel_tool_calls": parallel}
        answer = choice_of(random_server, seed=seed, **fields, **HOT)
        calls = calls_of(answer)
        assert answer["finish_reason"] == "tool_calls"
        assert answer["message"]["content"] is None
        assert calls
        if choice != "required" or not parallel:
            assert len(calls) == 1
        for name, arguments in calls:
            schema = PARAMETERS | {"additionalProperties": False} if name == "get_weather" else {"maxProperties": 0}
            jsonschema.validate(arguments, schema)


@pytest.mark.parametrize("seed", range(4))
def test_a_call_of_a_strict_tool_always_matches_its_schema(random_server: Server, seed: int) -> None:
    strict = {"type": "function", "function": WEATHER["function"] | {"strict": True}}
    answer = choice_of(random_server, tools=[strict], seed=seed, **HOT)
    for _, arguments in calls_of(answer):
        jsonschema.validate(arguments, PARAMETERS)


def test_a_schema_that_cannot_be_enforced_is_an_error(random_server: Server) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": UNENFORCEABLE}}
    answer = random_server.chat(messages=[{"role": "user", "content": "x"}], tools=[tool], tool_choice="required")
    assert error_of(answer, 400)["param"] == "tools[0].function.parameters"


def test_a_schema_that_cannot_be_enforced_is_left_free_under_auto(random_server: Server) -> None:
    numbers = {"type": "object", "properties": {"a": {"type": "array", "items": {"const": 2**53 + 1}}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": numbers}}
    strict = {"type": "function", "function": PING["function"] | {"strict": True}}
    answer = random_server.chat(messages=[{"role": "user", "content": "x"}], tools=[tool, strict], max_tokens=3)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-lfm-unenforced"].startswith("tools[0].function.parameters: ")


@pytest.mark.parametrize("seed", range(3))
def test_tools_and_a_form_give_a_call_or_text_of_the_form(random_server: Server, seed: int) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1, 2]}}}
    answer = choice_of(random_server, tools=[PING], response_format=form, seed=seed, **HOT)
    assert calls_of(answer) == [("ping", {})] or answer["message"]["content"] in ("1", "2")


@pytest.mark.parametrize(
    ("content", "calls"),
    [
        ("object", [("ping", {})]),
        ("lines", [("get_weather", {"city": "Bern"})]),
        ("list", [("ping", {}), ("get_weather", {"city": "Rome"})]),
        ("tags", [("ping", {})]),
    ],
)
def test_an_answer_that_is_calls_is_read_as_calls(server: Server, content: str, calls: list[Any]) -> None:
    answer = choice_of(server, content, tools=[WEATHER, PING])
    assert calls_of(answer) == calls
    assert answer["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("content", ["unknown", "data", "mixed", "prose"])
def test_any_other_answer_is_text(server: Server, content: str) -> None:
    answer = choice_of(server, content, tools=[WEATHER, PING])
    assert answer["message"]["content"] == dict(SCRIPTS)[content]
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize("fields", [{}, {"tools": [PING], "tool_choice": "none"}])
def test_without_callable_tools_json_is_text(server: Server, fields: dict[str, Any]) -> None:
    assert choice_of(server, "object", **fields)["message"]["content"] == CALL


@pytest.fixture
def prompt_of(server: Server) -> Callable[..., str]:
    def text(messages: list[Any], **fields: Any) -> str:
        tokens = httpx.post(f"{server.url}/tokenize", json={"messages": messages, **fields}).json()["tokens"]
        return str(httpx.post(f"{server.url}/detokenize", json={"tokens": tokens}).json()["prompt"])

    return text


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be kind."}]])
def test_the_prompt_lists_the_tools(prompt_of: Callable[..., str], system: list[Any]) -> None:
    messages = [*system, {"role": "user", "content": "hello"}]
    text = prompt_of(messages, tools=[WEATHER, PING])
    assert text.count('"get_weather"') == text.count('"ping"') == 1
    assert "get_weather" not in prompt_of(messages)


def test_calls_in_the_history_have_the_same_form(prompt_of: Callable[..., str]) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "ping", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "pong"},
    ]
    text = prompt_of(messages)
    assert '{"name": "ping", "arguments": {"a": 1}}' in text or '{"name": "ping", "parameters": {"a": 1}}' in text
    assert "tool_call_start" not in text
