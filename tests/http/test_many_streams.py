"""Many at once: each stream is what it is alone."""

from __future__ import annotations

import asyncio
from typing import Any

import openai

from tests.serving import Server

QUESTIONS = ("What are you?", "How do I stream?", "Hello!", "My name is Zorbin. What is my name?")


async def streamed(client: openai.AsyncOpenAI, i: int, **options: Any) -> str:
    content = f"{QUESTIONS[i % len(QUESTIONS)]} ({i})"
    stream = await client.chat.completions.create(
        model="lfm2-demo", messages=[{"role": "user", "content": content}], stream=True, max_tokens=60, **options
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_thirty_two_streams_at_once_equal_each_alone(demo: Server) -> None:
    async with demo.async_client as client:
        alone = [await streamed(client, i, temperature=0) for i in range(32)]
        together = await asyncio.gather(*(streamed(client, i, temperature=0) for i in range(32)))
    assert together == alone
    assert demo.is_idle()


async def test_a_seed_draws_the_same_whoever_else_is_there(demo: Server) -> None:
    hot: Any = {"temperature": 1.5, "extra_body": {"min_p": 0}}
    async with demo.async_client as client:
        alone = [await streamed(client, i, **hot, seed=i) for i in range(8)]
        together = await asyncio.gather(*(streamed(client, i, **hot, seed=i) for i in range(8)))
        other = await streamed(client, 0, **hot, seed=99)
    assert together == alone
    assert other != alone[0]
