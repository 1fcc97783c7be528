"""The queue: what it refuses, who is served first, and sequences that leave early."""

from __future__ import annotations

import asyncio

import pytest

from server.engine.observations import StepKind
from server.engine.stream import TokenStream
from server.errors import LfmServeError, ModelNotReadyError, QueueFullError
from tests.engine.conftest import StartEngine
from tests.engine.requests import request, run, tokens_of, until_idle


async def test_a_full_queue_refuses_a_request_as_a_whole(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_seqs=1, max_waiting=2) as engine:
        streams = engine.submit([request(7, max_tokens=200)] * 2)
        with pytest.raises(QueueFullError, match="at most 2 requests may wait") as refused:
            engine.submit([request(8)] * 2)
        assert 1 <= refused.value.retry_after <= 120
        streams += engine.submit([request(8)])
        for stream in streams:
            stream.cancel()
        await until_idle(engine)


async def test_prompts_in_the_queue_have_a_token_limit(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_seqs=1, max_waiting_tokens=30) as engine:
        streams = engine.submit([request(7, max_tokens=200)])
        await anext(streams[0])
        streams += engine.submit([request(8, prompt=40)])  # accepted, as nothing else waits
        with pytest.raises(QueueFullError, match="at most 30 prompt tokens may wait"):
            engine.submit([request(9)])
        for stream in streams:
            stream.cancel()
        await until_idle(engine)


async def test_a_failed_stream_yields_its_tokens_before_the_error(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_seqs=1) as engine:
        running, waiting = engine.submit([request(7, max_tokens=200)] * 2)
        await anext(running)
        for stream in (running, waiting):
            stream.fail(LfmServeError("time is up"))
        with pytest.raises(LfmServeError, match="time is up"):
            await tokens_of(running)
        with pytest.raises(LfmServeError, match="time is up"):
            await anext(waiting)
        await until_idle(engine)


async def test_a_cancelled_sequence_leaves_the_queue_prefill_or_decode(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_seqs=2, prefill_chunk=1) as engine:
        decoding, prefilling, waiting = engine.submit([request(9, 2, 200), request(10, 200, 20), request(11, 2, 20)])
        await anext(decoding)
        survivor = engine.submit([request(12, 20, 20)])[0]
        for stream in (waiting, prefilling, decoding):
            stream.cancel()
            stream.cancel()
        expected = (await run(engine, request(12, 20, 20)))[0]
        assert await tokens_of(survivor) == expected
        await until_idle(engine)
        with pytest.raises(StopAsyncIteration):
            await anext(decoding)


async def test_a_short_prompt_overtakes_long_ones_in_the_queue(start_engine: StartEngine) -> None:
    prompts = [250] * 10 + [4]
    ended: list[int] = []

    async def read(stream: TokenStream, prompt: int) -> None:
        await tokens_of(stream)
        ended.append(prompt)

    async with start_engine("onnx-community", max_seqs=16, slot_tokens=8192) as engine:
        for n in (1, 64) * 20:
            engine.state.costs.observe(StepKind.PREFILL, 1, n, 0.01 * n)
        streams = engine.submit([request(seed, prompt, max_tokens=1) for seed, prompt in enumerate(prompts)])
        await asyncio.gather(*map(read, streams, prompts))
    assert ended.index(4) < 2


async def test_a_short_prompt_is_answered_while_another_sequence_decodes(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        running = engine.submit([request(13, max_tokens=200)])[0]
        await anext(running)
        await run(engine, request(14))
        assert engine.running == 1
        running.cancel()


async def test_stopping_fails_unfinished_sequences_and_refuses_new_ones(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_seqs=1) as engine:
        streams = engine.submit([request(22, max_tokens=200)] * 2)
        await anext(streams[0])
    for stream in streams:
        with pytest.raises(ModelNotReadyError, match="stopping"):
            await tokens_of(stream)
    with pytest.raises(ModelNotReadyError, match="stopping"):
        engine.submit([request(23)])
