"""Log-probabilities of a prompt's own tokens, compared with the session's."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from server.engine.engine import Engine
from server.engine.types import FinishReason, GenerationRequest, PromptLogprobs, SamplingParams, TokenEvent
from server.errors import LfmServeError
from server.runtime.session import ModelSession
from server.runtime.slots import SlotPool
from tests.engine.conftest import OpenSession, StartEngine

VOCAB = 1000
GREEDY = SamplingParams(temperature=0)


def request(length: int, alternatives: int = 0, max_tokens: int = 0, **options: Any) -> GenerationRequest:
    tokens = np.random.default_rng(length).integers(0, VOCAB, length)
    prompt = tuple(int(token) for token in tokens)
    return GenerationRequest(prompt, max_tokens, GREEDY, prompt_logprobs=alternatives, **options)


async def run(engine: Engine, scored: GenerationRequest) -> tuple[PromptLogprobs, list[TokenEvent]]:
    (stream,) = engine.submit([scored])
    logprobs = await anext(stream)
    assert isinstance(logprobs, PromptLogprobs)
    return logprobs, [event async for event in stream]


def expected(session: ModelSession, prompt: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the log-probabilities [len(prompt), vocab], with one run per token."""
    slots = SlotPool(session.contract.states, 1, len(prompt))
    slots.clear(0)
    rows = [session.run(slots, 0, np.array([[t]]), np.array([i]))[0].astype(np.float64) for i, t in enumerate(prompt)]
    logits: npt.NDArray[np.float64] = np.stack(rows)
    normalizers: npt.NDArray[np.float64] = np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits - normalizers


@pytest.mark.parametrize("kind", ["onnx-community", "liquid", "q4f16", "genai"])
@pytest.mark.parametrize("length", [2, 16, 17, 50])
async def test_prompt_logprobs_come_from_the_unmodified_logits(
    start_engine: StartEngine, open_session: OpenSession, kind: str, length: int
) -> None:
    req = request(length, alternatives=3)
    reference = expected(open_session(kind), req.prompt)
    tolerance = 2e-2 if kind == "q4f16" else 1e-4
    async with start_engine(kind, prefill_chunk=16) as engine:
        logprobs, events = await run(engine, req)
    assert (logprobs.finish, events) == (FinishReason.LENGTH, [])
    assert len(logprobs.tokens) == length - 1
    for row, token, scored in zip(reference, req.prompt[1:], logprobs.tokens, strict=False):
        assert scored.logprob == pytest.approx(row[token], abs=tolerance)
        assert [p for _, p in scored.top] == pytest.approx(np.sort(row)[::-1][:3], abs=tolerance)
        assert [p for _, p in scored.top] == pytest.approx([row[t] for t, _ in scored.top], abs=tolerance)


@pytest.mark.parametrize("kind", ["onnx-community", "liquid"])
@pytest.mark.parametrize("chunk", [1, 7, 16])
async def test_chunks_do_not_change_prompt_logprobs(start_engine: StartEngine, kind: str, chunk: int) -> None:
    req = request(45)
    async with start_engine(kind, prefill_chunk=64) as engine:
        whole, _ = await run(engine, req)
    async with start_engine(kind, prefill_chunk=chunk) as engine:
        chunked, _ = await run(engine, req)
    assert [t.logprob for t in chunked.tokens] == pytest.approx([t.logprob for t in whole.tokens], abs=1e-4)


@pytest.mark.parametrize("kind", ["onnx-community", "liquid"])
async def test_prompt_logprobs_do_not_change_the_answer(start_engine: StartEngine, kind: str) -> None:
    req = request(40, max_tokens=12)
    plain = GenerationRequest(req.prompt, 12, GREEDY)
    async with start_engine(kind) as engine:
        (stream,) = engine.submit([plain])
        tokens = [event.token async for event in stream]
        logprobs, events = await run(engine, req)
    assert logprobs.finish is None
    assert [event.token for event in events] == tokens
    assert events[-1].finish is FinishReason.LENGTH


async def test_an_answer_scored_as_a_prompt_has_the_logprobs_of_its_draws(start_engine: StartEngine) -> None:
    prompt = request(20).prompt
    sampling = SamplingParams(temperature=1, seed=5, top_logprobs=2)
    async with start_engine("onnx-community") as engine:
        (stream,) = engine.submit([GenerationRequest(prompt, 15, sampling)])
        drawn = [event async for event in stream]
        answer = tuple(event.token for event in drawn)
        scored, _ = await run(engine, GenerationRequest(prompt + answer, 0, GREEDY, prompt_logprobs=2))
    for event, token in zip(drawn, scored.tokens[-15:], strict=True):
        assert event.logprobs is not None
        assert token.logprob == pytest.approx(event.logprobs.logprob, abs=1e-4)
        assert [t for t, _ in token.top] == [t for t, _ in event.logprobs.top]


async def test_a_prompt_of_one_token_has_no_logprobs(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        logprobs, events = await run(engine, request(1))
    assert (logprobs.tokens, logprobs.finish, events) == ((), FinishReason.LENGTH, [])


async def test_without_prompt_logprobs_a_stream_returns_none(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        (stream,) = engine.submit([GenerationRequest((1, 2, 3), 2, GREEDY)])
        events = [event async for event in stream]
        assert [type(event) for event in events] == [TokenEvent, TokenEvent]


async def test_scored_prompts_run_next_to_answers_and_free_their_slots(
    start_engine: StartEngine,
) -> None:
    requests = [request(10 + i, max_tokens=i % 3 * 4) for i in range(12)]
    async with start_engine("onnx-community", sessions=2, max_seqs=3) as engine:
        alone = [await run(engine, each) for each in requests]
        together = await asyncio.gather(*(run(engine, each) for each in requests))
        assert (engine.running, engine.waiting) == (0, 0)
    for (scored, events), (scored_alone, events_alone) in zip(together, alone, strict=True):
        assert [t.logprob for t in scored.tokens] == pytest.approx([t.logprob for t in scored_alone.tokens], abs=1e-4)
        assert [event.token for event in events] == [event.token for event in events_alone]


async def test_a_stream_cancelled_before_its_prompt_logprobs_ends(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", prefill_chunk=1) as engine:
        (stream,) = engine.submit([request(200)])
        waiting = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0)
        stream.cancel()
        assert await waiting is None
        assert [event async for event in stream] == []


async def test_logits_that_are_not_finite_fail_the_request(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_session = ModelSession.run

    def poisoned(session: ModelSession, *arguments: Any) -> npt.NDArray[np.float32]:
        logits = run_session(session, *arguments)
        if len(logits) > 5:
            logits[5] = np.nan
        return logits

    monkeypatch.setattr(ModelSession, "run", poisoned)
    async with start_engine("onnx-community") as engine:
        with pytest.raises(LfmServeError, match="The model failed on this request"):
            await run(engine, request(40))
        logprobs, _ = await run(engine, request(5))
        assert len(logprobs.tokens) == 4
