"""Sequences that join and leave at any step get the tokens they get alone."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.engine.types import GenerationRequest, SamplingParams
from server.runtime.session import ModelSession
from server.runtime.slots import SlotPool
from tests.engine.conftest import OpenSession, StartEngine
from tests.engine.requests import ForcedAfterThree, make_chunks_cheap, request, run, until_idle


@dataclass(frozen=True)
class Planned:
    """A request that joins, and may leave, while a leader decodes.

    `forced`: number of tokens that a constraint forces after the first three; 0 for no constraint.
    `after`: tokens of the leader after which it is submitted.
    `cancel_at`: tokens of its own after which it is cancelled; None to let it finish.
    """

    prompt: int
    max_tokens: int
    seed: int
    temperature: float
    forced: int
    after: int
    cancel_at: int | None

    def request(self, *, one_by_one: bool = False) -> GenerationRequest:
        """Return the request.

        With `one_by_one`, it wants logprobs, which makes each token a step of its own. It has no filters, since
        rounding could move a token across their threshold.
        """
        sampling = SamplingParams(self.temperature, seed=self.seed, top_logprobs=0 if one_by_one else None)
        grammar = ForcedAfterThree(list(range(20, 20 + self.forced))) if self.forced else None
        return dataclasses.replace(request(self.seed, self.prompt, self.max_tokens, sampling), constraint=grammar)


def is_rounding(session: ModelSession, plan: Planned, got: list[int], expected: list[int]) -> bool:
    """Return whether rounding explains the first difference of `got` and `expected`.

    Batches round differently from a sequence that runs alone, so a draw close to the boundary between two tokens may
    go either way.
    """
    at = next(i for i, (a, b) in enumerate(zip(got, expected, strict=True)) if a != b)
    if 3 <= at < 3 + plan.forced:
        return False
    tokens = np.array([[*plan.request().prompt, *expected[:at]]])
    logits = session.run(SlotPool(session.contract.states, 1, 256), 0, tokens, np.array([0]))[0].astype(np.float64)
    if not plan.temperature:
        return bool(logits.max() - logits[got[at]] < 1e-3)
    weights = np.exp((logits - logits.max()) / plan.temperature)
    upper = weights.cumsum() / weights.sum()
    drawn = np.random.Generator(np.random.Philox(plan.seed)).random(at + 1)[at]
    return bool(upper[got[at]] - weights[got[at]] / weights.sum() - 1e-4 < drawn < upper[got[at]] + 1e-4)


planned = st.builds(
    Planned,
    prompt=st.integers(1, 200),
    max_tokens=st.integers(1, 20),
    seed=st.integers(0, 2**32),
    temperature=st.sampled_from([0.0, 0.8]),
    forced=st.sampled_from([0, 0, 6]),
    after=st.integers(0, 20),
    cancel_at=st.one_of(st.none(), st.integers(0, 10)),
)


@pytest.mark.parametrize(
    ("kind", "sessions", "config"),
    [
        ("onnx-community", 1, {}),
        ("onnx-community", 3, {"itl_target": 1e-6}),
        ("onnx-community", 1, {"cache_bytes": 0}),
        ("onnx-community", 3, {"itl_target": 1e-6, "slot_tokens": 240, "cache_bytes": 1 << 20}),
        ("liquid", 1, {}),
        ("genai", 1, {"slot_tokens": 240}),
        ("attention-only", 1, {"slot_tokens": 240}),
        ("built-in", 3, {"itl_target": 1e-6, "slot_tokens": 240, "cache_bytes": 1 << 20}),
        ("built-in", 1, {}),
        ("large-vocabulary", 1, {}),  # flat logits: the boundaries between tokens lie 1.5e-5 apart
    ],
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(planned, min_size=1, max_size=16))
async def test_joining_and_leaving_at_any_step_changes_no_tokens(
    start_engine: StartEngine,
    open_session: OpenSession,
    kind: str,
    sessions: int,
    config: dict[str, Any],
    plans: list[Planned],
) -> None:
    """The cache, the session, preemption, and forced tokens change none either."""
    async with start_engine(kind, sessions=sessions, max_seqs=5, **config) as engine:
        alone = [(await run(engine, plan.request(one_by_one=True)))[0] for plan in plans]
        make_chunks_cheap(engine.state.costs)
        leader = engine.submit([request(0, 5, 25)])[0]
        progress = Progress()

        async def lead() -> None:
            async for _ in leader:
                progress.tick()
            progress.end()

        async def follow(plan: Planned) -> list[int]:
            await progress.reached(plan.after)
            stream = engine.submit([plan.request()])[0]
            got: list[int] = []
            while plan.cancel_at is None or len(got) < plan.cancel_at:
                try:
                    got.append((await anext(stream)).token)
                except StopAsyncIteration:
                    return got
            stream.cancel()
            return got

        _, *together = await asyncio.gather(lead(), *map(follow, plans))
        for plan, expected, got in zip(plans, alone, together, strict=True):
            wanted = expected[: plan.cancel_at]
            assert got == wanted or is_rounding(open_session(kind, 256), plan, got, wanted)
        await until_idle(engine)


class Progress:
    """A counter; others can wait until it reaches a value or ends."""

    def __init__(self) -> None:
        self.count, self.ended, self._changed = 0, False, asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def tick(self) -> None:
        self.count += 1
        self._announce()

    def end(self) -> None:
        self.ended = True
        self._announce()

    async def reached(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.ended or self.count >= count)

    def _announce(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.ensure_future(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
