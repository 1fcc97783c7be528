"""A sequence whose consumer does not keep up is suspended: it gives its slot back and computes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from server.engine.engine import Engine
from server.engine.sequence import MAX_BACKLOG, RESUME_BACKLOG
from server.engine.stream import TokenStream
from server.errors import ModelNotReadyError
from tests.engine.conftest import StartEngine
from tests.engine.requests import request, run, tokens_of, until_idle

LONG = MAX_BACKLOG + 200


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def suspended(engine: Engine, seed: int) -> TokenStream:
    """Return a stream that nobody has read from, once its sequence is suspended."""
    (stream,) = engine.submit([request(seed, 10, LONG)])
    await until(lambda: bool(engine.state.suspended))
    return stream


@pytest.mark.parametrize("kind", ["onnx-community", "genai"])
async def test_a_stream_read_late_has_the_same_tokens(start_engine: StartEngine, kind: str) -> None:
    async with start_engine(kind, max_model_len=1024) as engine:
        (expected,) = await run(engine, request(1, 10, LONG))
        stream = await suspended(engine, 1)
        assert MAX_BACKLOG <= stream.sequence.generated < MAX_BACKLOG + 64
        assert await tokens_of(stream) == expected
        await until_idle(engine)


async def test_tokens_that_are_read_late_have_the_times_of_their_draws(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        (stream,) = engine.submit([request(1)])
        await until_idle(engine)
        read_at = time.monotonic()
        times = [event.drawn_at async for event in stream]
        assert stream.queued_at < times[0]
        assert times == sorted(set(times))
        assert times[-1] < read_at


async def test_a_suspended_sequence_leaves_its_slot_to_others(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_model_len=1024, max_seqs=1) as engine:
        stream = await suspended(engine, 2)
        generated = stream.sequence.generated
        assert engine.running == 0
        await run(engine, request(3), request(4))
        assert stream.sequence.generated == generated
        stream.cancel()
        await until_idle(engine)


async def test_a_stream_resumes_once_its_consumer_has_caught_up(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_model_len=1024) as engine:
        stream = await suspended(engine, 5)
        generated = stream.sequence.generated
        while stream.sequence.backlog > RESUME_BACKLOG:
            await anext(stream)
        await until(lambda: stream.sequence.generated > generated)
        stream.cancel()
        await until_idle(engine)


async def test_the_engine_stops_with_a_suspended_sequence(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_model_len=1024) as engine:
        stream = await suspended(engine, 6)
    with pytest.raises(ModelNotReadyError, match="stopping"):
        await tokens_of(stream)
