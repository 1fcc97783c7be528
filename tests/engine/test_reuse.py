"""Prefix reuse, forced tokens, and preemption in the engine."""

from __future__ import annotations

import dataclasses

import pytest

from server.engine.engine import Engine
from server.engine.observations import StepKind, StepObservation
from server.engine.types import GenerationRequest, PromptProgress, RequestContext, SamplingParams
from tests import models
from tests.engine.conftest import StartEngine
from tests.engine.requests import GREEDY, ForcedAfterThree, make_chunks_cheap, request, run, tokens_of, until_idle

HYBRIDS = pytest.mark.parametrize("kind", ["onnx-community", "liquid", "genai", "float16-state"])


def after(first: GenerationRequest, answer: list[int], more: int) -> GenerationRequest:
    """Return the next turn of a chat: first prompt, answer, and `more` tokens."""
    return GenerationRequest((*first.prompt, *answer, *request(99, more).prompt), 8, GREEDY)


async def cached(engine: Engine, req: GenerationRequest) -> int:
    """Run a request and return how many of its prompt tokens were cached."""
    stream = engine.submit([req])[0]
    await tokens_of(stream)
    return stream.cached_tokens


@HYBRIDS
async def test_the_next_turn_computes_only_new_tokens(start_engine: StartEngine, kind: str) -> None:
    async with start_engine(kind) as engine:
        first = request(1, 100, 20)
        (answer,) = await run(engine, first)
        second = after(first, answer, 12)
        assert await cached(engine, second) == 119  # the last token drawn was never computed
        warm = (await run(engine, second))[0]
    async with start_engine(kind, cache_bytes=0) as engine:
        assert (await run(engine, second))[0] == warm


@HYBRIDS
async def test_a_prompt_that_branches_off_recomputes_at_most_64_shared_tokens(
    start_engine: StartEngine, kind: str
) -> None:
    async with start_engine(kind, prefill_chunk=64) as engine:
        known = request(2, 200)
        await run(engine, known)
        for shared in (190, 150, 128, 70, 10):
            leaving = GenerationRequest((*known.prompt[:shared], *request(shared, 20).prompt), 4, GREEDY)
            assert shared - await cached(engine, leaving) <= 64
            # The second visit leaves a checkpoint at the branch, if the graph has traces.
            again = GenerationRequest((*known.prompt[:shared], *request(shared + 1, 20).prompt), 4, GREEDY)
            if engine.traceable:
                assert await cached(engine, again) == shared


@pytest.mark.parametrize("kind", models.WITHOUT_CONVOLUTIONS)
async def test_a_chat_that_shares_only_its_beginning_is_kept(start_engine: StartEngine, kind: str) -> None:
    async with start_engine(kind) as engine:
        known = request(2, 100)
        await run(engine, known)
        for shared in (90, 40, 3):
            first = GenerationRequest((*known.prompt[:shared], *request(shared, 60).prompt), 8, GREEDY)
            stream = engine.submit([first])[0]
            answer = await tokens_of(stream)
            assert stream.cached_tokens == shared
            second = after(first, answer, 12)
            assert await cached(engine, second) == len(first.prompt) + len(answer) - 1


async def test_a_shared_prefix_is_computed_once(
    start_engine: StartEngine,
) -> None:
    async with start_engine("onnx-community", max_seqs=8, slot_tokens=4096) as engine:
        sampling = SamplingParams(temperature=1.0)
        choices = engine.submit([dataclasses.replace(request(3, 100), sampling=sampling)] * 4)
        for stream in choices:
            await tokens_of(stream)
        shared = request(4, 128).prompt
        others = engine.submit([GenerationRequest((*shared, i, 7 * i), 4, GREEDY) for i in range(1, 9)])
        for stream in others:
            await tokens_of(stream)
        if engine.traceable:
            assert [stream.cached_tokens for stream in choices] == [0, 99, 99, 99]
        assert [stream.cached_tokens for stream in others] == [0] + [128] * 7


async def test_another_salt_has_no_cached_prefix(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        await run(engine, request(5, 100))
        other = RequestContext(cache_salt="other")
        assert await cached(engine, dataclasses.replace(request(5, 100), context=other)) == 0
        assert await cached(engine, request(5, 100)) > 0


async def test_a_prompt_reports_its_progress(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", prefill_chunk=64) as engine:
        req = dataclasses.replace(request(6, 150), report_progress=True)
        for known in (0, 128):
            events = [event async for event in engine.submit([req])[0]]
            progress = [event for event in events if isinstance(event, PromptProgress)]
            assert [(p.total, p.cached) for p in progress] == [(150, progress[0].cached)] * len(progress)
            assert progress[0].cached == progress[0].processed >= known
            assert progress[-1].processed == 150
            assert events[: len(progress)] == progress


async def test_a_preempted_sequence_resumes_with_the_same_tokens(start_engine: StartEngine) -> None:
    requests = [request(i, 20, 60) for i in range(4)]
    async with start_engine("onnx-community", slot_tokens=1024) as engine:
        expected = [(await run(engine, req))[0] for req in requests]
    async with start_engine("onnx-community", slot_tokens=160) as engine:
        assert await run(engine, *requests) == expected
        assert engine.stats().preemptions > 0
        await until_idle(engine)


async def test_the_slots_bound_the_model_length(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", slot_tokens=160) as engine:
        assert engine.max_model_len == 160


async def test_forced_tokens_are_prefilled_in_one_chunk_and_change_no_token(start_engine: StartEngine) -> None:
    forced = [5, 31, 32, 33, 34, 35, 36, 37, 38, 39, 1023]
    ahead = SamplingParams(temperature=1.5, seed=3)
    one_by_one = dataclasses.replace(ahead, top_logprobs=0)  # logprobs make each token a step of its own
    steps: list[StepObservation] = []
    answers = []
    async with start_engine("onnx-community", observe=steps.append) as engine:
        for sampling, chunks in ((ahead, 1), (one_by_one, 0)):
            steps.clear()
            make_chunks_cheap(engine.state.costs)
            bound = GenerationRequest(request(8).prompt, 20, sampling, constraint=ForcedAfterThree(list(forced)))
            answers.append(await run(engine, bound, request(9, 20, 20)))
            assert len([s for s in steps if s.kind is StepKind.PREFILL and s.tokens == 1 + len(forced)]) == chunks
    assert answers[0] == answers[1]
    assert answers[0][0][3 : 3 + len(forced)] == forced
