"""Whatever an answer contained can be sent back in the next request, also if it was cut."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.errors import error_of
from tests.serving import Server

TOOL = {"type": "function", "function": {"name": "list_directory"}}
ABSENT = object()


def history(arguments: Any, *, legacy: bool = False) -> list[Any]:
    function = {"name": "list_directory"} | ({} if arguments is ABSENT else {"arguments": arguments})
    if legacy:
        return [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "function_call": function},
            {"role": "function", "name": "list_directory", "content": "noon"},
        ]
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]


def prompt_tokens(server: Server, messages: list[Any], **fields: Any) -> list[int]:
    answer = server.chat(messages=messages, tools=[TOOL], max_tokens=1, return_token_ids=True, **fields)
    assert answer.status_code == 200, answer.text
    tokens: list[int] = answer.json()["prompt_token_ids"]
    return tokens


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("arguments", ["", " \n", "null", None, ABSENT])
def test_a_call_without_arguments_has_an_empty_object(demo: Server, arguments: Any, legacy: bool) -> None:
    expected = prompt_tokens(demo, history("{}", legacy=legacy))
    assert prompt_tokens(demo, history(arguments, legacy=legacy)) == expected


def test_a_call_may_have_null_as_its_type_and_id(demo: Server) -> None:
    called = history("{}")
    (call,) = called[1]["tool_calls"]
    expected = prompt_tokens(demo, called)
    assert (
        prompt_tokens(demo, [called[0], {**called[1], "tool_calls": [{**call, "type": None, "id": None}]}, called[2]])
        == expected
    )


@pytest.mark.parametrize(
    ("cut", "closed"),
    [
        ('{"path": "des', '{"path": "des"}'),
        ('{"path": "a\\', '{"path": "a"}'),
        ('{"path": "a\\u00', '{"path": "a"}'),
        ('{"path": "a", "n', '{"path": "a"}'),
        ('{"path": "a", "n":', '{"path": "a"}'),
        ('{"path": "a", "n": tr', '{"path": "a"}'),
        ('{"path": "a", "n": 12', '{"path": "a", "n": 12}'),
        ('{"path": "a", "n": [1, 2.', '{"path": "a", "n": [1]}'),
        ('{"path": {"x": ["b", {"y": "c', '{"path": {"x": ["b", {"y": "c"}]}}'),
        ("{", "{}"),
    ],
)
def test_cut_arguments_are_closed(demo: Server, cut: str, closed: str) -> None:
    assert prompt_tokens(demo, history(cut)) == prompt_tokens(demo, history(closed))


@pytest.mark.parametrize("arguments", ["des", "[", '["a"]', '{"a": x', '{"a": 1}}', '{"a": NaN', "{" * 5000])
def test_other_arguments_are_an_error(demo: Server, arguments: str) -> None:
    error = error_of(demo.chat(messages=history(arguments)), 400)
    assert error["param"] == "messages[1].tool_calls[0].function.arguments"
    assert len(error["message"]) < 200


def test_truncated_calls_are_accepted_in_the_history(tiny: Server) -> None:
    parameters = {
        "type": "object",
        "properties": {"text": {"type": "string", "minLength": 40}, "more": {"type": "array"}},
        "required": ["text", "more"],
    }
    tool = {"type": "function", "function": {"name": "write", "parameters": parameters}}
    hot = {"temperature": 1.5, "min_p": 0, "repetition_penalty": 1}
    for limit in range(12, 80, 4):
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "tools": [tool]}
        choice = tiny.chat(**asked, **hot, tool_choice="required", max_tokens=limit, seed=limit).json()["choices"][0]
        asked["messages"] += [choice["message"]]
        asked["messages"] += [{"role": "tool", "content": "cut"} for _ in choice["message"].get("tool_calls", ())]
        answer = tiny.chat(**asked, max_tokens=1)
        assert answer.status_code == 200, (choice, answer.text)


@pytest.mark.parametrize(
    "turn",
    [
        {"content": None, "reasoning_content": "I was still thinking."},
        {"reasoning_content": "I was still thinking.", "tool_calls": []},
        {"content": None, "reasoning": "I was still thinking."},
        {"content": "", "reasoning_content": None},
        {"content": ""},
    ],
)
def test_a_turn_with_thoughts_or_blank_content_is_accepted(demo: Server, turn: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant"} | turn, {"role": "user", "content": "Go on"}]
    assert demo.chat(messages=messages, max_tokens=1).status_code == 200


@pytest.mark.parametrize("turn", [{}, {"content": None}, {"tool_calls": []}, {"reasoning_content": ""}])
def test_an_assistant_turn_with_nothing_is_an_error(demo: Server, turn: dict[str, Any]) -> None:
    error = error_of(demo.chat(messages=[{"role": "user", "content": "hi"}, {"role": "assistant"} | turn]), 400)
    assert error["message"] == (
        "A message with role assistant requires content, refusal, tool_calls, function_call or reasoning_content."
    )
    assert error["param"] == "messages[1].content"


def continued(server: Server, content: str | None, **turn: Any) -> str:
    messages = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": content} | turn]
    tokens = prompt_tokens(server, messages, continue_final_message=True)
    return str(httpx.post(f"{server.url}/detokenize", json={"tokens": tokens}).json()["prompt"])


@pytest.mark.parametrize(
    "content", ["", " ", "\n", "<", "end", "m", "im_end", "|>", "assistant", "<|im_end|>", "Say it.", "user\nSay", "é "]
)
def test_a_message_is_continued_at_the_end_of_its_content(demo: Server, content: str) -> None:
    assert continued(demo, content).endswith(f"<|im_start|>assistant\n{content.rstrip()}")


def test_a_message_with_thoughts_or_calls_alone_is_continued(demo: Server) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert continued(demo, None, tool_calls=[call]).endswith("<|tool_call_start|>[f()]<|tool_call_end|>")
    assert continued(demo, None, reasoning_content="x").endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("client_text", ["a" * 100_000, "\x1b[31m\n\x07" * 1000, "\u202e" * 500])
def test_errors_show_little_of_a_clients_text(demo: Server, client_text: str) -> None:
    hello: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    wrong: list[dict[str, Any]] = [
        {"model": client_text},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": client_text}}},
        {"messages": [{"role": "user", "content": [{"type": client_text}]}]},
        {"messages": [{"role": "user", "content": [client_text]}]},
        {"logit_bias": {client_text: 101}},
        {"messages": [{"role": "assistant", "function_call": {"name": client_text, "arguments": "["}}]},
    ]
    for body in wrong:
        answer = demo.chat(**hello | body)
        assert answer.status_code in (400, 404)
        message = answer.json()["error"]["message"]
        assert len(answer.json()["error"]["param"] or "") < 500
        assert len(message) < 1500
        assert message.isprintable()
