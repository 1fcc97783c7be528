"""On the native kernels, a sequence gets the same bits alone and in any batch."""

from __future__ import annotations

import asyncio

import pytest

from server.engine.engine import Engine
from server.engine.types import GenerationRequest, SamplingParams, TokenLogprobs
from server.runtime.native.library import LIBRARY
from tests.engine.conftest import StartEngine
from tests.engine.requests import request

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="the kernels are not compiled")


async def answer(engine: Engine, request: GenerationRequest) -> list[tuple[int, TokenLogprobs | None]]:
    """Return the tokens and their log-probabilities."""
    return [(event.token, event.logprobs) async for event in engine.submit([request])[0]]


@pytest.mark.parametrize("sessions", [1, 3])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_sequence_gets_the_same_bits_alone_and_in_any_batch(
    start_engine: StartEngine, sessions: int, temperature: float
) -> None:
    """Without a prefix cache, every prompt has the same chunks."""
    requests = [
        request(i, prompt=5 + 7 * i, max_tokens=10 + i, sampling=SamplingParams(temperature, seed=i, top_logprobs=0))
        for i in range(12)
    ]
    async with start_engine("native", sessions=sessions, max_seqs=8, cache_bytes=0) as engine:
        alone = [await answer(engine, each) for each in requests]
        assert await asyncio.gather(*(answer(engine, each) for each in requests)) == alone
