"""Each of many simultaneous streams is the same as alone."""

from __future__ import annotations

import asyncio
from typing import Any

import openai

from tests.serving import Server

QUESTIONS = ("What are you?", "How do I stream?", "Hello!", "My name is Zorbin. What is my name?")


async def streamed(client: openai.AsyncOpenAI, i: int, **options: Any) -> str:
    content = f"{QUESTIONS[i % len(QUESTIONS)]} ({i})"
    given: dict[str, Any] = {"model": "lfm2-demo", "max_tokens": 60, "stream": True} | options
    stream = await client.chat.completions.create(messages=[{"role": "user", "content": content}], **given)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_thirty_two_streams_at_once_equal_each_alone(demo: Server) -> None:
    async with demo.async_client as client:
        alone = [await streamed(client, i, temperature=0) for i in range(32)]
        together = await asyncio.gather(*(streamed(client, i, temperature=0) for i in range(32)))
    assert together == alone
    assert demo.is_idle()


async def test_a_seed_draws_the_same_beside_other_sequences(tiny: Server) -> None:
    """Random weights: hardly two draws are alike."""
    hot: Any = {"temperature": 1.5, "extra_body": {"min_p": 0}, "model": "tiny-model"}
    async with tiny.async_client as client:
        alone = [await streamed(client, i, **hot, seed=i) for i in range(8)]
        together = await asyncio.gather(*(streamed(client, i, **hot, seed=i) for i in range(8)))
        other = await streamed(client, 0, **hot, seed=99)
    assert together == alone
    assert other != alone[0]
