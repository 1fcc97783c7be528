"""Narrow sessions that are added to a running engine."""

from __future__ import annotations

import asyncio
import threading

import numpy as np

from server.engine.types import GenerationRequest, SamplingParams
from tests.engine.conftest import OpenSession, StartEngine
from tests.engine.requests import tokens_of


def request(seed: int, prompt: int, max_tokens: int) -> GenerationRequest:
    ids = np.random.default_rng(seed).integers(8, 1000, prompt)
    return GenerationRequest(tuple(map(int, ids)), max_tokens, SamplingParams(temperature=0))


async def test_added_narrow_sessions_prefill_next_to_streams_and_change_no_token(
    start_engine: StartEngine, open_session: OpenSession
) -> None:
    ran_on: set[str] = set()
    config = {"itl_target": 1e-6, "cache_bytes": 0}
    async with start_engine(
        "onnx-community", observe=lambda _: ran_on.add(threading.current_thread().name), **config
    ) as engine:
        streaming, long = request(1, 5, 200), request(2, 200, 8)
        alone = [await tokens_of(engine.submit([r])[0]) for r in (streaming, long)]
        assert ran_on == {"engine-wide"}
        engine.join([open_session("onnx-community"), open_session("onnx-community")])
        first = engine.submit([streaming])[0]
        first_token = (await anext(first)).token
        rest, long_answer = await asyncio.gather(tokens_of(first), tokens_of(engine.submit([long])[0]))
        assert [[first_token, *rest], long_answer] == alone
        assert "engine-narrow" in ran_on
