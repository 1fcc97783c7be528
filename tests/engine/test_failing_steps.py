"""A step that fails, or computes NaN, ends only the sequences in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from server.engine.config import EngineConfig
from server.engine.engine import Engine
from server.errors import StepFailedError
from server.runtime.session import ModelSession
from server.runtime.slots import SlotPool
from tests.engine.conftest import OpenSession
from tests.engine.requests import request, run, tokens_of, until_idle


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
        counts: Sequence[int] = (),
    ) -> npt.NDArray[np.float32]:
        if self.fatal in past:
            raise RuntimeError("made to fail")
        logits = super().run(slots, first, tokens, past, every_position, counts)
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
    session.fatal = 48  # the start of the fourth chunk of a prompt of 64 tokens
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


@pytest.mark.parametrize(
    ("prompt", "poison", "fatal", "cached"),
    [(70, 48, 64, 0), (64, 48, -1, 0), (60, 63, -1, 59)],
    ids=["first chunk", "last chunk", "decode"],
)
async def test_state_with_logits_that_are_not_finite_is_not_cached(
    faulty_engine: tuple[Engine, FaultySession], prompt: int, poison: int, fatal: int, cached: int
) -> None:
    """Other requests would continue from it, even after a restart if it is also on disk."""
    engine, session = faulty_engine
    engine.start()
    session.poison, session.fatal = poison, fatal
    stream = engine.submit([request(22, prompt, 10)])[0]
    with pytest.raises(StepFailedError):
        await tokens_of(stream)
    await until_idle(engine)
    assert engine.state.cache.count_cached(stream.sequence.tokens[: stream.sequence.length], "") == cached
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
