"""The engine on tiny models: sequences do not affect each other's tokens."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from server.engine.config import EngineConfig
from server.engine.engine import Engine
from server.engine.observations import StepKind
from server.engine.stream import TokenStream
from server.engine.types import FinishReason, GenerationRequest, SamplingParams, TokenEvent
from server.errors import InvalidRequestError, LfmServeError, ModelNotReadyError, QueueFullError, StepFailedError
from server.runtime.session import ModelSession
from server.runtime.slots import SlotPool
from tests.engine.conftest import OpenSession, StartEngine
from tests.engine.requests import GREEDY, ForcedTokens, request, run, tokens_of, until_idle


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


async def test_a_constraint_affects_only_its_own_sequence(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        free = request(1, 8, 6)
        (alone,) = await run(engine, free)
        spelled = [5, 31, 32, 1023, 7]
        bound = dataclasses.replace(free, constraint=ForcedTokens(list(spelled)), stop_token_ids=frozenset({7}))
        hot = dataclasses.replace(bound, sampling=SamplingParams(temperature=2), constraint=ForcedTokens(list(spelled)))
        assert await run(engine, free, bound, hot) == [alone, spelled, spelled]


class FailingConstraint(ForcedTokens):
    def mask(self, out: npt.NDArray[np.int32]) -> bool:
        raise StepFailedError("the grammar has ended")


async def test_a_failing_constraint_ends_only_its_own_sequence(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        (alone,) = await run(engine, request(1, 8, 6))
        free, bound = engine.submit(
            [request(1, 8, 6), dataclasses.replace(request(2), constraint=FailingConstraint([]))]
        )
        with pytest.raises(StepFailedError, match="grammar has ended"):
            await tokens_of(bound)
        assert await tokens_of(free) == alone


class PanickingConstraint(ForcedTokens):
    """Fails as compiled code does, whose panics are no Exception."""

    def mask(self, out: npt.NDArray[np.int32]) -> bool:
        raise BaseException("panic")


async def test_a_panicking_constraint_ends_only_its_own_sequence(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community") as engine:
        (alone,) = await run(engine, request(1, 8, 6))
        free, bound = engine.submit(
            [request(1, 8, 6), dataclasses.replace(request(2), constraint=PanickingConstraint([]))]
        )
        with pytest.raises(StepFailedError, match="output constraint of this request failed"):
            await tokens_of(bound)
        assert await tokens_of(free) == alone


class EmptyMask(ForcedTokens):
    """Allows no token."""

    def mask(self, out: npt.NDArray[np.int32]) -> bool:
        out.fill(0)
        return True


EVERY_TOKEN = frozenset(range(1024))
DEAD_ENDS = {
    "an empty mask": dataclasses.replace(request(2), constraint=EmptyMask([])),
    "min_tokens while every token stops": dataclasses.replace(request(2), stop_token_ids=EVERY_TOKEN, min_tokens=2),
}


@pytest.mark.parametrize("name", DEAD_ENDS)
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0),
        SamplingParams(temperature=1, seed=1),
        SamplingParams(temperature=1, seed=1, min_p=0.1),
        SamplingParams(temperature=1, seed=1, top_k=5, top_p=0.9, top_logprobs=2),
    ],
    ids=["greedy", "plain", "min_p", "top_k"],
)
async def test_a_sequence_without_a_next_token_ends_alone(
    start_engine: StartEngine, name: str, sampling: SamplingParams
) -> None:
    async with start_engine("onnx-community") as engine:
        (alone,) = await run(engine, request(1, 8, 6))
        free, dead = engine.submit([request(1, 8, 6), dataclasses.replace(DEAD_ENDS[name], sampling=sampling)])
        with pytest.raises(InvalidRequestError, match="No token can come next"):
            await tokens_of(dead)
        assert await tokens_of(free) == alone


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


class FaultySession(ModelSession):
    """A session that fails on rows with a certain number of past tokens.

    `fatal`: the step raises.
    `poison`: the row's logits are NaN.
    """

    fatal = -1
    poison = -1

    def run(
        self,
        slots: SlotPool,
        first: int,
        tokens: npt.NDArray[np.int64],
        past: npt.NDArray[np.int64],
        every_position: bool = False,
        traced: bool = False,
    ) -> npt.NDArray[np.float32]:
        if self.fatal in past:
            raise RuntimeError("made to fail")
        logits = super().run(slots, first, tokens, past, every_position, traced)
        logits[past == self.poison] = np.nan
        return logits


@pytest.fixture
def faulty_engine(open_session: OpenSession) -> tuple[Engine, FaultySession]:
    session = open_session("onnx-community")
    session.__class__ = FaultySession
    assert isinstance(session, FaultySession)
    config = EngineConfig(4, 64, 256, 16, slot_tokens=1024, cache_bytes=1 << 24, itl_target=1.0)
    return Engine([session], config), session


async def test_a_failing_prefill_ends_only_its_own_sequence(
    faulty_engine: tuple[Engine, FaultySession],
) -> None:
    engine, session = faulty_engine
    engine.start()
    expected = (await run(engine, request(15, 10, 20)))[0]
    running = engine.submit([request(15, 10, 20)])[0]
    first = (await anext(running)).token
    session.fatal = 48  # where the fourth chunk of a prompt of 64 tokens starts
    with pytest.raises(StepFailedError):
        await run(engine, request(16, 64, 5))
    assert [first, *await tokens_of(running)] == expected
    await until_idle(engine)
    await engine.stop()


async def test_after_a_failing_decode_step_new_sequences_are_served(
    faulty_engine: tuple[Engine, FaultySession],
) -> None:
    engine, session = faulty_engine
    engine.start()
    expected = (await run(engine, request(17)))[0]
    session.fatal = 12
    results = await asyncio.gather(*map(tokens_of, engine.submit([request(18), request(19)])), return_exceptions=True)
    assert [type(r) for r in results] == [StepFailedError] * 2
    session.fatal = -1
    assert (await run(engine, request(17)))[0] == expected
    await engine.stop()


async def test_logits_that_are_not_finite_fail_only_their_own_row(faulty_engine: tuple[Engine, FaultySession]) -> None:
    engine, session = faulty_engine
    engine.start()
    expected = (await run(engine, request(20, 5, 20)))[0]
    session.poison = 40
    streams = engine.submit([request(20, 5, 20), request(21, 38, 10)])
    good, bad = await asyncio.gather(*map(tokens_of, streams), return_exceptions=True)
    assert good == expected
    assert isinstance(bad, StepFailedError)
    await engine.stop()


async def test_stopping_fails_unfinished_sequences_and_refuses_new_ones(start_engine: StartEngine) -> None:
    async with start_engine("onnx-community", max_seqs=1) as engine:
        streams = engine.submit([request(22, max_tokens=200)] * 2)
        await anext(streams[0])
    for stream in streams:
        with pytest.raises(ModelNotReadyError, match="stopping"):
            await tokens_of(stream)
    with pytest.raises(ModelNotReadyError, match="stopping"):
        engine.submit([request(23)])
