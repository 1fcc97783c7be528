"""Streams: their chunks have OpenAI's form, and their pieces join to the body."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.chat_completions.scripts import SCRIPTS, WEATHER, Ask, Stream, joined
from tests.scripted import THOUGHTS
from tests.serving import Server


@pytest.mark.parametrize(
    "content", [script[0] for script in SCRIPTS if len(script) == 2 and script[0] not in ("broken", "unknown")]
)
@pytest.mark.parametrize("tools", [[], [WEATHER]])
def test_a_streams_pieces_join_to_the_body(
    thinks: bool,
    ask: Ask,
    stream: Stream,
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
    stream: Stream,
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


def test_usage_comes_last_if_requested(stream: Stream) -> None:
    *chunks, last = stream("hello", stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert all(chunk.choices for chunk in stream("hello"))


def test_timings_are_in_the_body_and_in_the_last_chunk(ask: Ask, stream: Stream) -> None:
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


def test_characters_of_several_tokens_arrive_whole(stream: Stream) -> None:
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream("smile")]
    assert "".join(pieces) == "So: 😀 ok"
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("thinks", [False], indirect=True)
def test_a_token_without_text_gives_no_chunk_and_counts(ask: Ask, stream: Stream) -> None:
    answer = ask("specials")
    assert answer.choices[0].message.content == "abc"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6  # a, <|fim_pre|>, b, <|tool_list_start|>, c and the end
    assert [chunk.choices[0].delta.content for chunk in stream("specials")] == ["", "a", "b", "c", None]


def test_n_choices_come_in_order_and_stream_alike(server: Server, ask: Ask) -> None:
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
