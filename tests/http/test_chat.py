"""Chats through the OpenAI SDK, on a model that says what it is told: the body, and the stream that must equal it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server.settings import Settings
from tests.scripted import THOUGHTS, scripted, thinker
from tests.serving import Server, serving

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
CALL = '<|tool_call_start|>[get_weather(city="Oslo", days=3)]<|tool_call_end|>'
SCRIPTS = [
    ("hello", "Hello there!"),
    ("smile", "So: 😀 ok"),
    ("count", "one two three four five six"),
    ("weather", f"{CALL}Let me look."),
    ("both", '<|tool_call_start|>[get_weather(city="Oslo"), get_weather(city="Rome")]<|tool_call_end|>'),
    ("broken", "<|tool_call_start|>[get_weather(city=]<|tool_call_end|> sorry"),
    ("unknown", "<|tool_call_start|>[get_time()]<|tool_call_end|>"),
    ('<|tool_response_start|>{"temperature": 21}<|tool_response_end|>', "It is 21 degrees.", "tool"),
    ("silent", ""),
    ("specials", "a<|fim_pre|>b<|tool_list_start|>c"),
]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "thinking"])
def thinks(request: pytest.FixtureRequest) -> bool:
    """Whether the model thinks before it answers, and of a call that it does not make."""
    return bool(request.param)


@pytest.fixture(scope="module")
def model(thinks: bool, tmp_path_factory: pytest.TempPathFactory) -> str:
    make = thinker if thinks else scripted
    return str(make(tmp_path_factory.mktemp("models") / "scripted", SCRIPTS))


@pytest.fixture(scope="module")
def server(model: str) -> Iterator[Server]:
    with serving(Settings(model=model, threads=1)) as running:
        yield running


@pytest.fixture(scope="module")
def free_server(model: str) -> Iterator[Server]:
    """The same model, held to the form of calls only where a request asks for it."""
    with serving(Settings(model=model, threads=1, tool_constraints="requested")) as running:
        yield running


@pytest.fixture
def ask(server: Server) -> Callable[..., ChatCompletion]:
    def ask(content: str, **options: Any) -> ChatCompletion:
        options.setdefault("messages", [{"role": "user", "content": content}])
        return server.client.chat.completions.create(model="scripted", **{"temperature": 0} | options)

    return ask


@pytest.fixture
def stream(server: Server) -> Callable[..., list[ChatCompletionChunk]]:
    def stream(content: str, **options: Any) -> list[ChatCompletionChunk]:
        messages: Any = [{"role": "user", "content": content}]
        options = {"temperature": 0} | options
        return list(server.client.chat.completions.create(model="scripted", messages=messages, stream=True, **options))

    return stream


def written(thinks: bool, text: str) -> str:
    """All that the model writes where it says `text`."""
    return f"<think>{THOUGHTS}</think>{text}" if thinks else text


def joined(chunks: list[ChatCompletionChunk]) -> tuple[str, list[tuple[str, str]], str | None]:
    """Content, calls and finish_reason of a stream of one choice."""
    content, calls, finish = "", {}, None
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        content += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            name, arguments = calls.get(call.index, ("", ""))
            assert call.function is not None
            calls[call.index] = (name + (call.function.name or ""), arguments + (call.function.arguments or ""))
        finish = choice.finish_reason or finish
    assert sorted(calls) == list(range(len(calls)))
    return content, list(calls.values()), finish


def test_an_answer_has_all_that_openais_has(thinks: bool, ask: Callable[..., ChatCompletion]) -> None:
    answer = ask("hello")
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "scripted")
    assert answer.system_fingerprint is not None
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert choice.message.model_dump(exclude_unset=True) == {
        "role": "assistant",
        "content": "Hello there!",
        "refusal": None,
    } | ({"reasoning_content": THOUGHTS} if thinks else {})
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None


@pytest.mark.parametrize(
    "content", [script[0] for script in SCRIPTS if len(script) == 2 and script[0] not in ("broken", "unknown")]
)
@pytest.mark.parametrize("tools", [[], [WEATHER]])
def test_a_streams_pieces_join_to_the_body(
    thinks: bool,
    ask: Callable[..., ChatCompletion],
    stream: Callable[..., list[ChatCompletionChunk]],
    content: str,
    tools: list[Any],
) -> None:
    options = {"tools": tools} if tools else {}
    (choice,) = ask(content, **options).choices
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]  # type: ignore[union-attr]
    chunks = stream(content, **options)
    assert joined(chunks) == (choice.message.content or "", calls, choice.finish_reason)
    thoughts = "".join(getattr(chunk.choices[0].delta, "reasoning_content", "") for chunk in chunks)
    assert thoughts == getattr(choice.message, "reasoning_content", "") == (THOUGHTS if thinks else "")


def test_a_stream_opens_with_the_role_and_ends_with_the_reason(
    stream: Callable[..., list[ChatCompletionChunk]],
) -> None:
    chunks = stream("hello")
    assert chunks[0].choices[0].delta.model_dump(exclude_unset=True) == {
        "role": "assistant",
        "content": "",
        "refusal": None,
    }
    assert chunks[-1].choices[0].delta.model_dump(exclude_unset=True) == {}
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1


def test_usage_comes_last_where_it_is_asked_for(stream: Callable[..., list[ChatCompletionChunk]]) -> None:
    *chunks, last = stream("hello", stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert all(chunk.choices for chunk in stream("hello"))


def test_timings_are_told_in_the_body_and_in_the_last_chunk(
    ask: Callable[..., ChatCompletion], stream: Callable[..., list[ChatCompletionChunk]]
) -> None:
    names = {f"{part}_{what}" for part in ("prompt", "predicted") for what in ("n", "ms", "per_token_ms", "per_second")}
    answer = ask("count")
    assert answer.usage is not None
    for told in (answer.model_dump()["timings"], stream("count")[-1].model_dump()["timings"]):
        assert told.keys() == names | {"cache_n"}
        assert told["prompt_n"] + told["cache_n"] == answer.usage.prompt_tokens
        assert told["predicted_n"] == answer.usage.completion_tokens
        assert told["predicted_per_second"] > 0


def test_on_the_wire_a_stream_is_events_of_one_line_and_done(server: Server) -> None:
    answer = server.chat(messages=[{"role": "user", "content": "hello"}], stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "\r" not in answer.text
    events = answer.text.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: {") for event in events[:-1])
    assert events[-1] == "data: [DONE]"


def test_a_call_comes_as_a_call_and_the_text_around_it_as_content(ask: Callable[..., ChatCompletion]) -> None:
    (choice,) = ask("weather", tools=[WEATHER]).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.id.startswith("call_")
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Oslo", "days": 3})


def test_a_call_alone_leaves_content_null(ask: Callable[..., ChatCompletion]) -> None:
    message = ask("both", tools=[WEATHER]).choices[0].message
    assert message.content is None
    calls = message.tool_calls or []
    assert [call.function.arguments for call in calls] == ['{"city": "Oslo"}', '{"city": "Rome"}']  # type: ignore[union-attr]
    assert calls[0].id != calls[1].id


@pytest.mark.parametrize("content", ["broken", "unknown"])
def test_unconstrained_what_is_no_call_is_text_without_markers(free_server: Server, content: str) -> None:
    messages: Any = [{"role": "user", "content": content}]
    answer = free_server.client.chat.completions.create(
        model="scripted", messages=messages, tools=[WEATHER], temperature=0
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert choice.message.tool_calls is None
    said = dict(script for script in SCRIPTS if len(script) == 2)[content]
    assert choice.message.content == said.replace("<|tool_call_start|>", "").replace("<|tool_call_end|>", "")


@pytest.mark.parametrize("options", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_without_tools_nothing_is_a_call(ask: Callable[..., ChatCompletion], options: dict[str, Any]) -> None:
    message = ask("weather", **options).choices[0].message
    assert message.tool_calls is None
    assert message.content == '[get_weather(city="Oslo", days=3)]Let me look.'


def test_tool_choice_none_lists_the_same_tools(ask: Callable[..., ChatCompletion]) -> None:
    plain, none = ask("hello"), ask("hello", tools=[WEATHER], tool_choice="none")
    listed = ask("hello", tools=[WEATHER])
    usages = [answer.usage.prompt_tokens for answer in (plain, none, listed) if answer.usage]
    assert usages[0] < usages[1] == usages[2]


def test_a_tool_round_trip_ends_in_an_answer(server: Server, ask: Callable[..., ChatCompletion]) -> None:
    messages: list[Any] = [{"role": "user", "content": "weather"}]
    message = ask("", messages=messages, tools=[WEATHER]).choices[0].message
    assert message.tool_calls is not None
    messages += [message]
    messages += [{"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"temperature": 21}'}]
    assert ask("", messages=messages, tools=[WEATHER]).choices[0].message.content == "It is 21 degrees."


async def test_the_async_sdk_chats_and_streams(server: Server) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    async with server.async_client as client:
        answer = await client.chat.completions.create(model="scripted", messages=messages, temperature=0)
        assert answer.choices[0].message.content == "Hello there!"
        chunks = await client.chat.completions.create(model="scripted", messages=messages, temperature=0, stream=True)
        content = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        assert content == "Hello there!"


def test_characters_of_several_tokens_arrive_whole(stream: Callable[..., list[ChatCompletionChunk]]) -> None:
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream("smile")]
    assert "".join(pieces) == "So: 😀 ok"
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("thinks", [False], indirect=True)
def test_a_token_without_text_gives_no_chunk_and_counts(
    ask: Callable[..., ChatCompletion], stream: Callable[..., list[ChatCompletionChunk]]
) -> None:
    answer = ask("specials")
    assert answer.choices[0].message.content == "abc"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6  # a, <|fim_pre|>, b, <|tool_list_start|>, c and the end
    assert [chunk.choices[0].delta.content for chunk in stream("specials")] == ["", "a", "b", "c", None]


@pytest.mark.parametrize(
    ("stop", "content"),
    [("three", "one two "), (["four", "two t"], "one "), ([" fi"], "one two three four"), (["zero"], None)],
)
def test_a_stop_string_ends_the_answer_before_it(
    ask: Callable[..., ChatCompletion],
    stream: Callable[..., list[ChatCompletionChunk]],
    stop: Any,
    content: str | None,
) -> None:
    (choice,) = ask("count", stop=stop).choices
    assert choice.message.content == (content or "one two three four five six")
    assert choice.finish_reason == "stop"
    assert joined(stream("count", stop=stop)) == (choice.message.content, [], "stop")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_the_answer(ask: Callable[..., ChatCompletion], name: str) -> None:
    answer = ask("count", **{name: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_max_completion_tokens_wins_over_its_old_name(ask: Callable[..., ChatCompletion]) -> None:
    answer = ask("count", max_tokens=2, max_completion_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_n_choices_come_in_order_and_stream_alike(server: Server, ask: Callable[..., ChatCompletion]) -> None:
    answer = ask("hello", n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {"Hello there!"}
    messages: Any = [{"role": "user", "content": "hello"}]
    texts = ["", "", ""]
    opened = []
    for chunk in server.client.chat.completions.create(model="scripted", messages=messages, n=3, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        opened += [choice.index] if choice.delta.role else []
    assert (texts, opened) == (["Hello there!"] * 3, [0, 1, 2])


def test_logprobs_tell_of_each_token(
    thinks: bool, ask: Callable[..., ChatCompletion], stream: Callable[..., list[ChatCompletionChunk]]
) -> None:
    (choice,) = ask("smile", logprobs=True, top_logprobs=2).choices
    assert choice.logprobs is not None
    entries = choice.logprobs.content or []
    assert b"".join(bytes(entry.bytes or []) for entry in entries).decode() == written(thinks, "So: 😀 ok")
    assert all(-0.01 < entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in entries)
    streamed = [
        entry
        for chunk in stream("smile", logprobs=True, top_logprobs=2)
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content or []
    ]
    assert streamed == entries
    assert ask("hello").choices[0].logprobs is None


def test_logprobs_leave_out_what_a_stop_string_cut_off(thinks: bool, ask: Callable[..., ChatCompletion]) -> None:
    (choice,) = ask("count", stop=" three", logprobs=True).choices
    assert choice.logprobs is not None
    assert "".join(entry.token for entry in choice.logprobs.content or []) == written(thinks, "one two")
    assert choice.message.content == "one two"


def test_content_may_be_null_or_parts_or_come_from_a_developer(ask: Callable[..., ChatCompletion]) -> None:
    parts = [{"type": "text", "text": "hello"}]
    messages = [{"role": "developer", "content": parts}, {"role": "user", "content": parts}]
    assert ask("", messages=messages).choices[0].message.content == "Hello there!"


def test_null_is_absent_and_unknown_fields_are_ignored(server: Server) -> None:
    nulls = dict.fromkeys(("temperature", "stop", "tools", "n", "logit_bias", "stream", "seed", "response_format"))
    answer = server.chat(messages=[{"role": "user", "content": "hello"}], **nulls, user="me", nobody_knows=1)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there!"


def test_the_model_may_be_left_out(server: Server) -> None:
    assert server.chat(messages=[{"role": "user", "content": "hello"}]).json()["model"] == "scripted"


def test_logit_bias_is_obeyed(ask: Callable[..., ChatCompletion]) -> None:
    end = 7
    answer = ask("hello", logit_bias={str(end): 100})
    assert answer.choices[0].message.content == ""


def test_a_wrong_model_is_the_sdks_not_found(server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        server.client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hello"}])
