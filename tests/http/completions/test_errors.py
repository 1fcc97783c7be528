"""Errors: a wrong field, a prompt that does not fit, another model and a full queue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.errors import error_of
from tests.http.completions.parts import Complete, usage_of
from tests.serving import Server, StartServer


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "`prompt` is required."),
        ({"prompt": None}, "prompt", "prompt must be a string, a list of strings, a list of token IDs"),
        ({"prompt": 3}, "prompt", "prompt must be a string, a list of strings, a list of token IDs"),
        ({"prompt": []}, "prompt", "prompt must be a string"),
        ({"prompt": [[]]}, "prompt[0]", "prompt[0] must be a string or a non-empty list of token IDs."),
        ({"prompt": ["a", 3]}, "prompt[1]", "prompt[1] must be a string or a non-empty list of token IDs."),
        ({"prompt": [1, True]}, "prompt[0]", "prompt[0] must be a string or a non-empty list of token IDs."),
        ({"prompt": [1, 99999]}, "prompt", "99999 is not a token id of this model: ids go from 0 to 1023."),
        ({"prompt": [[1], [-1]]}, "prompt", "-1 is not a token id of this model"),
        (
            {"max_tokens": 0},
            "max_tokens",
            "max_tokens may be 0 only with echo: true; otherwise there is nothing to return.",
        ),
        ({"max_tokens": -1, "echo": True}, "max_tokens", "greater than or equal to 0"),
        ({"logprobs": 6}, "logprobs", "less than or equal to 5"),
        ({"logprobs": True}, "logprobs", "valid integer"),
        ({"best_of": 3, "n": 2}, "best_of", "best_of greater than n (2) is not supported"),
        ({"best_of": 1, "n": 2}, "best_of", "best_of must be at least n (2)."),
        ({"best_of": 21}, "best_of", "less than or equal to 20"),
        ({"suffix": "end"}, "suffix", "suffix is not supported."),
        ({"n": 9}, "n", "n must be at most 8 on this server (--max-n); got 9."),
        ({"prompt": ["a"] * 7, "n": 2}, "prompt", "make 14 choices, but a request may have at most 12."),
        ({"temperature": 3}, "temperature", "`temperature`: 3. Input should be less than or equal to 2."),
        ({"stop": ["a"] * 5}, "stop", "at most 4 items"),
        ({"stop_token_ids": [1024]}, "stop_token_ids", "1024 is not a token id of this model"),
        ({"min_tokens": -1}, "min_tokens", "greater than or equal to 0"),
        ({"ignore_eos": 1}, "ignore_eos", "valid boolean"),
        ({"echo": "yes"}, "echo", "valid boolean"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "99999 is not a token id of this model"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream_options requires stream: true."),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    tiny: Server, body: dict[str, Any], param: str, message: str
) -> None:
    complete = body if not body or "prompt" in body else {"prompt": "hello"} | body
    error = error_of(httpx.post(f"{tiny.url}/v1/completions", json=complete), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert message in error["message"]


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(complete: Complete) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        complete([5] * 4096)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "prompt")
    assert "4096" in raised.value.message
    scored = complete([5] * 4096, echo=True, max_tokens=0)
    assert usage_of(scored).total_tokens == 4096


def test_another_model_is_not_found(tiny: Server) -> None:
    with pytest.raises(openai.NotFoundError):
        tiny.client.completions.create(model="other", prompt="hello")


async def test_more_prompts_than_the_queue_has_room_for_are_a_429(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), max_seqs=1, max_waiting=2, threads=1)
    async with httpx.AsyncClient(timeout=60) as client:
        busy = {"prompt": "hello", "max_tokens": 3000, "ignore_eos": True, "temperature": 0}
        first = asyncio.create_task(client.post(f"{server.url}/v1/completions", json=busy))
        await asyncio.to_thread(server.wait_until, lambda: server.engine.running == 1)
        answer = await client.post(f"{server.url}/v1/completions", json={"prompt": ["a", "b", "c"]})
        assert error_of(answer, 429)["code"] == "overloaded"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
