"""A stream's pieces join to the body, and its chunks have OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai.types import Completion

from tests.http.completions.parts import Complete, logprobs_of, usage_of
from tests.serving import Server


def chunks_of(server: Server, **options: Any) -> list[Completion]:
    return list(server.client.completions.create(model="tiny-model", stream=True, **{"temperature": 0} | options))


def joined(chunks: list[Completion]) -> dict[int, dict[str, Any]]:
    """Return the choices, joined from their pieces in `chunks`."""
    choices: dict[int, dict[str, Any]] = {}
    for piece in (choice for chunk in chunks for choice in chunk.choices):
        start = {"index": piece.index, "text": "", "finish_reason": None, "logprobs": None}
        choice = choices.setdefault(piece.index, start)
        assert choice["finish_reason"] is None, "nothing comes after the end"
        choice["text"] += piece.text
        choice["finish_reason"] = piece.finish_reason
        if piece.logprobs is not None:
            known = choice["logprobs"] or {}
            choice["logprobs"] = {name: known.get(name, []) + new for name, new in logprobs_of(piece).items()}
    return choices


def about(logprobs: Any) -> Any:
    """Return `logprobs` as approximations: the other sequences of a batch change the last digits."""
    if isinstance(logprobs, dict):
        return {name: about(value) for name, value in logprobs.items()}
    if isinstance(logprobs, list):
        return [about(value) for value in logprobs]
    return pytest.approx(logprobs, abs=1e-3) if isinstance(logprobs, float) else logprobs


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"logprobs": 2},
        {"echo": True},
        {"echo": True, "logprobs": 1},
        {"echo": True, "logprobs": 3, "max_tokens": 0},
        {"echo": True, "max_tokens": 0},
        {"stop": ["e", "a"], "logprobs": 0, "temperature": 1.5, "seed": 8},
        {"n": 3, "temperature": 1, "seed": 4, "logprobs": 0},
    ],
    ids=str,
)
def test_a_streams_pieces_join_to_the_body(tiny: Server, complete: Complete, options: dict[str, Any]) -> None:
    prompts = ["A long day 😀 began", "two"]
    body = complete(prompts, **options)
    pieces = joined(chunks_of(tiny, prompt=prompts, **options))
    for choice in body.choices:
        streamed, plain = pieces[choice.index], choice.to_dict()
        assert streamed.pop("logprobs") == about(plain.pop("logprobs"))
        assert streamed == plain


def test_a_streams_chunks_are_openais(tiny: Server) -> None:
    options: dict[str, Any] = {"prompt": "hello", "max_tokens": 4, "stream_options": {"include_usage": True}}
    *chunks, last = chunks_of(tiny, **options)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in [*chunks, last]}) == 1
    assert {chunk.object for chunk in [*chunks, last]} == {"text_completion"}
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    assert last.choices == []
    assert usage_of(last).completion_tokens == 4


def test_a_stream_ends_with_done_and_has_usage_in_each_chunk_if_requested(tiny: Server) -> None:
    body = {"prompt": "hello", "stream": True, "stream_options": {"continuous_usage_stats": True}, "max_tokens": 3}
    answer = httpx.post(f"{tiny.url}/v1/completions", json=body)
    *events, done = answer.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    counts = [json.loads(event.removeprefix("data: "))["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == 3
