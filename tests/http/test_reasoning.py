"""Models that think: thoughts are separate from answers, accepted in the history, and free of grammars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from server.settings import Settings
from tests.scripted import marks_as_thinking, scripted
from tests.serving import Server, serving

PING: Any = {"type": "function", "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}}}
SCRIPTS = [
    ("plain", "<think>\nLet me see.\n</think>\n\nYes."),
    (
        "call",
        "<think>Maybe <|tool_call_start|>[x()]<|tool_call_end|>?</think><|tool_call_start|>[ping()]<|tool_call_end|>",
    ),
    ("stop", "<think>one END two</think>three END four"),
    ("json", '<think>{"no": 1}</think>{"yes": 1}'),
    ("cut", "<think>never done with it"),
    ("quick", "No thoughts."),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = scripted(tmp_path_factory.mktemp("models") / "thinker", SCRIPTS)
    marks_as_thinking(folder)
    with serving(Settings(model=str(folder), threads=1)) as running:
        yield running


def ask(server: Server, content: str, **options: Any) -> dict[str, Any]:
    answer = server.chat(messages=[{"role": "user", "content": content}], temperature=0, **options).json()
    choice: dict[str, Any] = answer["choices"][0]
    return choice


def streamed(server: Server, content: str, **options: Any) -> tuple[str, str]:
    """Reasoning and content of a stream."""
    messages = [{"role": "user", "content": content}]
    answer = server.chat(messages=messages, temperature=0, stream=True, **options)
    deltas = [
        json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
        for line in answer.text.split("\n\n")
        if line.startswith("data: {")
    ]
    return tuple("".join(delta.get(key) or "" for delta in deltas) for key in ("reasoning_content", "content"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "reasoning", "said"),
    [
        ("plain", "Let me see.", "Yes."),
        ("stop", "one END two", "three END four"),
        ("cut", "never done with it", ""),
        ("quick", None, "No thoughts."),
    ],
)
def test_thoughts_are_no_content(server: Server, content: str, reasoning: str | None, said: str) -> None:
    message = ask(server, content)["message"]
    assert message.get("reasoning_content") == reasoning
    assert message["content"] == said
    assert streamed(server, content) == (reasoning or "", said)


def test_a_stop_string_does_not_end_thoughts(server: Server) -> None:
    message = ask(server, "stop", stop=[" END"])["message"]
    assert (message["reasoning_content"], message["content"]) == ("one END two", "three")


def test_markers_in_thoughts_are_text_and_calls_come_after(server: Server) -> None:
    choice = ask(server, "call", tools=[PING])
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning_content"] == "Maybe <|tool_call_start|>[x()]<|tool_call_end|>?"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["ping"]


def test_a_schema_holds_for_what_comes_after_the_thoughts(server: Server) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "integer"}}, "required": ["yes"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    message = ask(server, "json", response_format=form)["message"]
    assert message["reasoning_content"] == '{"no": 1}'
    assert json.loads(message["content"]) == {"yes": 1}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_of_the_history_are_taken(server: Server, name: str) -> None:
    said = {"role": "assistant", "content": "Yes.", name: "Let me see."}
    history = [{"role": "user", "content": "plain"}, said, {"role": "user", "content": "quick"}]
    answer = server.chat(messages=history, temperature=0).json()
    assert answer["choices"][0]["message"]["content"] == "No thoughts."
    without = server.chat(
        messages=[history[0], {"role": "assistant", "content": "Yes."}, history[2]], temperature=0
    ).json()
    assert answer["usage"]["prompt_tokens"] > without["usage"]["prompt_tokens"]
