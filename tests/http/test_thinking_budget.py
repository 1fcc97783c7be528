"""Thinking budgets: thoughts end when their budget is spent, and the answer follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tokenizers import Tokenizer

from server.settings import Settings
from tests.models import TOKENIZER
from tests.scripted import scripted
from tests.serving import Server, serving

PING: Any = {"type": "function", "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}}}
THOUGHT = "\n".join(f"Step {i}: the <b>sum</b> is {i * 7}." for i in range(23))
MIDDLE = THOUGHT[:120]
SHORT = "Only a few words."
SCRIPTS = [
    ("long", f"<think>{THOUGHT}</think>Yes."),
    ("middle", f"<think>{MIDDLE}</think>Yes."),
    ("short", f"<think>{SHORT}</think>Yes."),
    ("none", "No thoughts."),
    ("marker", "<think>ab</think>Yes."),
]
TEMPLATE = """
{%- if kind == 'opens' %}{{ '<think>' }}{% endif -%}
{%- if kind == 'switch' and enable_thinking is defined and not enable_thinking -%}{{ '<think></think>' }}{% endif -%}
"""
KINDS = ("opens", "model opens", "switch")
TOKENS = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
UNLIMITED = len(TOKENS.encode(THOUGHT, add_special_tokens=False).ids)


def serve(folder: Path, **options: Any) -> Any:
    model = scripted(folder, SCRIPTS)
    template = model / "chat_template.jinja"
    template.write_text(template.read_text().rstrip() + TEMPLATE)
    return serving(Settings(model=str(model), threads=1, max_seqs=4, **options))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("models") / "thinker") as running:
        yield running


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options: Any = {"default_thinking_budget": 20, "thinking_budgets": {"low": 9, "high": 30}}
    with serve(tmp_path_factory.mktemp("models") / "limited", **options) as running:
        yield running


def ask(server: Server, content: str = "middle", kind: str = "model opens", **fields: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, **fields}
    answer = server.chat(chat_template_kwargs={"kind": kind}, **body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


class Answer(NamedTuple):
    """The parts of an answer that tests compare; `calls` are names and arguments."""

    thoughts: str
    text: str
    calls: list[tuple[str, Any]]
    reasoning_tokens: int
    tokens: int


def chat(server: Server, content: str, kind: str, budget: int, *, must_call: bool) -> Answer:
    required: Any = {"tools": [PING], "tool_choice": "required", "parallel_tool_calls": False}
    answer = ask(server, content, kind, thinking_token_budget=budget, **required if must_call else {})
    said, used = message(answer), answer["usage"]["completion_tokens"]
    calls = [call["function"] for call in said.get("tool_calls", ())]
    assert all(call["arguments"] == "{}" for call in calls)
    called = [(call["name"], json.loads(call["arguments"])) for call in calls]
    assert said.get("reasoning_content") != "", "empty thoughts are left out"
    thoughts = said.get("reasoning_content", "")
    return Answer(thoughts, said["content"] or "", called, reasoning_tokens(answer), used)


def responses(server: Server, content: str, kind: str, budget: int, *, must_call: bool) -> Answer:
    tool = {"type": "function", **PING["function"]}
    required = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False} if must_call else {}
    body = {"input": content, "temperature": 0, "thinking_token_budget": budget, **required}
    answer = post(server, "responses", kind, body)
    joined = {"reasoning": "", "message": ""}
    called = []
    for item in answer["output"]:
        if item["type"] == "function_call":
            called.append((item["name"], json.loads(item["arguments"])))
        else:
            joined[item["type"]] += "".join(part["text"] for part in item["content"])
    used = answer["usage"]
    thought_tokens = used["output_tokens_details"]["reasoning_tokens"]
    return Answer(joined["reasoning"], joined["message"], called, thought_tokens, used["output_tokens"])


def messages(server: Server, content: str, kind: str, budget: int, *, must_call: bool) -> Answer:
    tool = {"name": "ping", "input_schema": PING["function"]["parameters"]}
    one = {"type": "any", "disable_parallel_tool_use": True}
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 1000, "temperature": 0}
    body |= {"thinking": {"type": "enabled", "budget_tokens": budget}}
    answer = post(server, "messages", kind, body | ({"tools": [tool], "tool_choice": one} if must_call else {}))
    joined = {
        key: "".join(block[key] for block in answer["content"] if block["type"] == key) for key in ("thinking", "text")
    }
    called = [(block["name"], block["input"]) for block in answer["content"] if block["type"] == "tool_use"]
    used = answer["usage"]
    thought_tokens = used["output_tokens_details"]["thinking_tokens"]
    return Answer(joined["thinking"], joined["text"], called, thought_tokens, used["output_tokens"])


Protocol = Callable[..., Answer]
CASES = [*((chat, kind) for kind in KINDS), (responses, "opens"), (messages, "model opens")]
"""A template's kind matters below the protocols, so one is enough for the others."""


def post(server: Server, route: str, kind: str, body: dict[str, Any]) -> Any:
    body = {**body, "chat_template_kwargs": {"kind": kind}}
    answer = httpx.post(f"{server.url}/v1/{route}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def message(answer: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = answer["choices"][0]["message"]
    return said


def reasoning_tokens(answer: dict[str, Any]) -> int:
    count: int = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    return count


def thought(tokens: int) -> str:
    return TOKENS.decode(TOKENS.encode(THOUGHT, add_special_tokens=False).ids[:tokens]).strip()


def rest(answer: str, tokens: int) -> str:
    """The text that follows the first `tokens` tokens of a script."""
    return TOKENS.decode(TOKENS.encode(answer, add_special_tokens=False).ids[tokens:])


@pytest.mark.parametrize(("protocol", "kind"), CASES)
@pytest.mark.parametrize("budget", [32, 512])
def test_thoughts_end_at_their_budget_and_the_answer_follows(
    server: Server, protocol: Protocol, kind: str, budget: int
) -> None:
    content, script = SCRIPTS[budget < 100]
    answer = protocol(server, content, kind, budget, must_call=False)
    assert (answer.reasoning_tokens, answer.thoughts) == (budget, thought(budget))
    markers = len(TOKENS.encode("<think></think>", add_special_tokens=False).ids)
    left = rest(script, markers + budget)
    assert answer.text == left.lstrip()
    opening = len(TOKENS.encode("<think>", add_special_tokens=False).ids) if kind == "opens" else 0
    generated = markers - opening + budget + len(TOKENS.encode(left, add_special_tokens=False).ids) + 1
    assert abs(answer.tokens - generated) <= 1, "the tokens that end the thoughts are counted"


@pytest.mark.parametrize(("protocol", "kind"), CASES)
def test_budget_0_closes_the_thoughts_at_once(server: Server, protocol: Protocol, kind: str) -> None:
    answer = protocol(server, "middle", kind, 0, must_call=False)
    assert (answer.reasoning_tokens, answer.thoughts) == (0, "")
    assert answer.text.endswith("Yes.")


def test_budget_0_uses_the_switch_of_the_template_unless_the_request_does(server: Server) -> None:
    prompts = [
        server.chat(
            messages=[{"role": "user", "content": "short"}], chat_template_kwargs={"kind": "switch", **more}, **fields
        ).json()["usage"]["prompt_tokens"]
        for more, fields in (
            ({}, {}),
            ({}, {"thinking_token_budget": 1}),
            ({}, {"thinking_token_budget": 0}),
            ({}, {"reasoning_effort": "none"}),
            ({"enable_thinking": True}, {"thinking_token_budget": 0}),
        )
    ]
    open_, one, zero, none, switched = prompts
    assert open_ == one == switched < zero == none


@pytest.mark.parametrize(("protocol", "kind"), CASES)
@pytest.mark.parametrize("budget", [0, 32, 512])
def test_a_required_call_follows_the_budgeted_thoughts(
    server: Server, protocol: Protocol, kind: str, budget: int
) -> None:
    answer = protocol(server, SCRIPTS[budget < 100][0], kind, budget, must_call=True)
    assert answer.calls == [("ping", {})]
    assert (answer.reasoning_tokens, answer.thoughts) == (budget, thought(budget))


@pytest.mark.parametrize("fields", [{"tools": [PING]}, {"tools": [PING], "tool_choice": "none"}, {"logprobs": True}])
def test_a_budget_holds_beside_other_fields(server: Server, fields: dict[str, Any]) -> None:
    answer = ask(server, thinking_token_budget=32, **fields)
    assert (reasoning_tokens(answer), message(answer)["reasoning_content"]) == (32, thought(32))


def test_a_schema_holds_after_the_budgeted_thoughts(server: Server) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["ab"]}}}
    answer = ask(server, thinking_token_budget=32, response_format=form)
    assert (message(answer)["reasoning_content"], json.loads(message(answer)["content"])) == (thought(32), "ab")


def test_thoughts_within_their_budget_are_left_alone(server: Server) -> None:
    answer = ask(server, "short", thinking_token_budget=512)
    assert message(answer)["reasoning_content"] == SHORT
    assert message(answer)["content"] == "Yes."
    assert reasoning_tokens(answer) == len(TOKENS.encode(SHORT, add_special_tokens=False).ids)
    assert message(ask(server, "none", thinking_token_budget=4))["content"] == "No thoughts."


def test_a_budget_that_ends_within_an_end_marker_is_exact(server: Server) -> None:
    answer = ask(server, "marker", thinking_token_budget=3)  # two of them begin the marker
    assert (reasoning_tokens(answer), message(answer)["reasoning_content"]) == (3, "ab</")
    exact = ask(server, "marker", thinking_token_budget=8)
    assert (reasoning_tokens(exact), message(exact)["reasoning_content"]) == (1, "ab")


@pytest.mark.parametrize(
    ("effort", "budget"), [("none", 0), ("minimal", 128), ("low", 512), ("high", UNLIMITED), ("max", UNLIMITED)]
)
def test_an_effort_has_a_budget(server: Server, effort: str, budget: int) -> None:
    assert reasoning_tokens(ask(server, "long", reasoning_effort=effort)) == budget
    assert reasoning_tokens(ask(server, reasoning_effort=effort, thinking_token_budget=7)) == 7


def test_the_server_has_a_default_and_a_table_of_its_own(limited: Server) -> None:
    for fields, budget in (
        ({}, 20),
        ({"reasoning_effort": "low"}, 9),
        ({"reasoning_effort": "high"}, 30),
        ({"reasoning_effort": "minimal"}, len(TOKENS.encode(MIDDLE, add_special_tokens=False).ids)),
        ({"reasoning_effort": "none"}, 0),
        ({"thinking_token_budget": 11}, 11),
    ):
        assert reasoning_tokens(ask(limited, **fields)) == budget  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("route", "effort"),
    [
        ("chat/completions", {"reasoning_effort": "low"}),
        ("responses", {"reasoning": {"effort": "low"}}),
        ("messages", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
    ],
)
def test_the_default_and_the_efforts_are_those_of_every_protocol(
    limited: Server, route: str, effort: dict[str, Any]
) -> None:
    prompt = {"messages": [{"role": "user", "content": "middle"}], "max_tokens": 1000}
    body = {"input": "middle"} if route == "responses" else prompt
    for fields, budget in (({}, 20), (effort, 9), (effort | {"thinking_token_budget": 11}, 11)):
        usage = post(limited, route, "model opens", body | fields)["usage"]
        details = usage.get("completion_tokens_details") or usage["output_tokens_details"]
        assert budget in (details.get("reasoning_tokens"), details.get("thinking_tokens"))


def test_excluded_thoughts_are_counted_but_not_returned(server: Server) -> None:
    hidden, shown = (ask(server, "short", include_reasoning=included) for included in (False, True))
    assert "reasoning_content" not in message(hidden)
    assert message(shown)["reasoning_content"] == SHORT
    assert hidden["usage"] | {"prompt_tokens_details": None} == shown["usage"] | {"prompt_tokens_details": None}
    scored = ask(server, "short", include_reasoning=False, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in scored) == "</think>Yes."


def test_a_stream_counts_as_its_body_does(server: Server) -> None:
    body: Any = {"messages": [{"role": "user", "content": "middle"}], "temperature": 0, "thinking_token_budget": 32}
    whole = server.chat(**body).json()
    events = server.chat(**body, stream=True, stream_options={"include_usage": True}).text.split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    joined = {key: "".join(delta.get(key) or "" for delta in deltas) for key in ("reasoning_content", "content")}
    assert joined == {key: message(whole)[key] for key in joined}
    assert chunks[-1]["usage"]["completion_tokens_details"] == whole["usage"]["completion_tokens_details"]
