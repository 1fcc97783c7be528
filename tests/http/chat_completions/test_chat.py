"""Chats through the OpenAI SDK: the body, its end and its log probabilities."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.http.chat_completions.scripts import Ask, Stream, joined
from tests.scripted import THOUGHTS
from tests.serving import Server


def written(thinks: bool, text: str) -> str:
    """Return everything that the model generates if its answer is `text`."""
    return f"<think>{THOUGHTS}</think>{text}" if thinks else text


def test_an_answer_has_openais_fields(thinks: bool, ask: Ask) -> None:
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


async def test_the_async_sdk_chats_and_streams(server: Server) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    async with server.async_client as client:
        answer = await client.chat.completions.create(model="scripted", messages=messages, temperature=0)
        assert answer.choices[0].message.content == "Hello there!"
        chunks = await client.chat.completions.create(model="scripted", messages=messages, temperature=0, stream=True)
        content = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        assert content == "Hello there!"


@pytest.mark.parametrize(
    ("stop", "content"),
    [("three", "one two "), (["four", "two t"], "one "), ([" fi"], "one two three four"), (["zero"], None)],
)
def test_a_stop_string_ends_the_answer_before_it(
    ask: Ask,
    stream: Stream,
    stop: Any,
    content: str | None,
) -> None:
    (choice,) = ask("count", stop=stop).choices
    assert choice.message.content == (content or "one two three four five six")
    assert choice.finish_reason == "stop"
    assert joined(stream("count", stop=stop)) == (choice.message.content, [], "stop")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_the_answer(ask: Ask, name: str) -> None:
    answer = ask("count", **{name: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_max_completion_tokens_wins_over_its_old_name(ask: Ask) -> None:
    answer = ask("count", max_tokens=2, max_completion_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_each_token_has_its_logprobs(thinks: bool, ask: Ask, stream: Stream) -> None:
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


def test_logprobs_leave_out_what_a_stop_string_cut_off(thinks: bool, ask: Ask) -> None:
    (choice,) = ask("count", stop=" three", logprobs=True).choices
    assert choice.logprobs is not None
    assert "".join(entry.token for entry in choice.logprobs.content or []) == written(thinks, "one two")
    assert choice.message.content == "one two"


def test_content_may_be_null_or_parts_or_come_from_a_developer(ask: Ask) -> None:
    parts = [{"type": "text", "text": "hello"}]
    messages = [{"role": "developer", "content": parts}, {"role": "user", "content": parts}]
    assert ask("", messages=messages).choices[0].message.content == "Hello there!"


def test_null_is_absent_and_unknown_fields_are_ignored(server: Server) -> None:
    nulls = dict.fromkeys(("temperature", "stop", "tools", "n", "logit_bias", "stream", "seed", "response_format"))
    answer = server.chat(messages=[{"role": "user", "content": "hello"}], **nulls, user="me", nobody_knows=1)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there!"


def test_the_model_may_be_left_out(server: Server) -> None:
    assert server.chat(messages=[{"role": "user", "content": "hello"}]).json()["model"] == "scripted"


def test_logit_bias_is_obeyed(ask: Ask) -> None:
    end = 7
    answer = ask("hello", logit_bias={str(end): 100})
    assert answer.choices[0].message.content == ""


def test_a_wrong_model_is_the_sdks_not_found(server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        server.client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hello"}])
