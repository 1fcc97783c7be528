"""One sequence in the engine: where it ends, what it draws, and its log probabilities."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from server.engine.config import EngineConfig
from server.engine.engine import Engine
from server.engine.types import FinishReason, GenerationRequest, SamplingParams, TokenEvent
from server.runtime.slots import SlotPool
from tests.engine.conftest import OpenSession, StartEngine
from tests.engine.requests import GREEDY, request, run


async def test_a_seed_makes_draws_repeatable(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        seeded = request(1, max_tokens=20, sampling=SamplingParams(temperature=1.5, seed=-3))
        free = request(1, max_tokens=20, sampling=SamplingParams(temperature=1.5))
        first, again, one, other = await run(engine, seeded, seeded, free, free)
    assert first == again
    assert one != other


async def test_a_stop_token_ends_the_sequence_and_is_in_the_last_event(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        tokens = (await run(engine, request(2)))[0]
        stop = next(t for t in tokens if t != tokens[0])
        stopping = GenerationRequest(request(2).prompt, 10, GREEDY, frozenset({stop}))
        events = [event async for event in engine.submit([stopping])[0]]
    assert [e.token for e in events] == tokens[: tokens.index(stop) + 1]
    assert [e.finish for e in events] == [None] * (len(events) - 1) + [FinishReason.STOP]


async def test_no_stop_token_is_drawn_before_min_tokens(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        everything_else = frozenset(range(1024)) - {11}
        stopping = dataclasses.replace(request(1, 8, 12), stop_token_ids=everything_else, min_tokens=4)
        (tokens,) = await run(engine, stopping)
        assert tokens[:4] == [11] * 4
        assert len(tokens) >= 5


async def test_max_tokens_ends_a_sequence_with_length(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        events: list[TokenEvent] = [event async for event in engine.submit([request(3, max_tokens=1)])[0]]
    assert [e.finish for e in events] == [FinishReason.LENGTH]


async def test_prompt_and_answer_may_fill_the_context(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_model_len=32) as engine:
        assert len((await run(engine, request(4, prompt=20, max_tokens=12)))[0]) == 12


async def test_logprobs_come_from_the_unmodified_logits(start_engine: StartEngine, open_session: OpenSession) -> None:
    params = SamplingParams(temperature=0.3, repetition_penalty=1.5, logit_bias={5: 3.0}, seed=1, top_logprobs=4)
    session = open_session("onnx-community")
    async with start_engine("onnx-community") as engine:
        req = request(5, sampling=params)
        events = [event async for event in engine.submit([req])[0]]
    slots = SlotPool(session.contract.states, 1, 64)
    logits = session.run(slots, 0, np.array([req.prompt]), np.array([0]))[0].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum())
    first = events[0].logprobs
    assert first is not None
    assert first.logprob == pytest.approx(logprobs[events[0].token], abs=1e-4)
    assert [t for t, _ in first.top] == list(np.argsort(-logprobs)[:4])
    assert [p for _, p in first.top] == pytest.approx(sorted(logprobs)[::-1][:4], abs=1e-4)


async def test_unknown_ids_are_never_drawn(open_session: OpenSession) -> None:
    unknown = np.arange(1, 1024)
    config = EngineConfig(1, 1, 64, 16, slot_tokens=64, cache_bytes=0, itl_target=1.0, unknown_ids=unknown)
    engine = Engine([open_session("onnx-community")], config)
    engine.start()
    assert await run(engine, request(6, sampling=SamplingParams(temperature=2.0))) == [[0] * 10]
    await engine.stop()
