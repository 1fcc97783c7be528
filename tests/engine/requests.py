"""Helpers to send requests to an engine, and constraints that force tokens."""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt

from server.engine.cost_model import CostModel
from server.engine.engine import Engine
from server.engine.observations import StepKind
from server.engine.sampling.constraint import Bitmask
from server.engine.stream import TokenStream
from server.engine.types import GenerationRequest, SamplingParams

GREEDY = SamplingParams(temperature=0)
VOCAB = 1000


def request(seed: int, prompt: int = 10, max_tokens: int = 10, sampling: SamplingParams = GREEDY) -> GenerationRequest:
    tokens = np.random.default_rng(seed).integers(0, VOCAB, prompt)
    return GenerationRequest(tuple(int(t) for t in tokens), max_tokens, sampling)


async def tokens_of(stream: TokenStream) -> list[int]:
    return [event.token async for event in stream]


async def run(engine: Engine, *requests: GenerationRequest) -> list[list[int]]:
    return await asyncio.gather(*(tokens_of(stream) for stream in engine.submit(requests)))


async def until_idle(engine: Engine) -> None:
    """Wait until no sequence is running or waiting."""
    while engine.running or engine.waiting:
        await asyncio.sleep(0.005)


class ForcedTokens:
    """Allows one fixed sequence of tokens only."""

    def __init__(self, tokens: list[int]) -> None:
        self.pending = tokens

    def mask(self, out: npt.NDArray[np.int32]) -> bool:
        out.fill(0)
        out.view(np.uint32)[self.pending[0] // 32] = 1 << self.pending[0] % 32
        return True

    def commit(self, token: int) -> None:
        assert token == self.pending.pop(0)

    def forced_tokens(self) -> list[int]:
        return list(self.pending)


class ForcedAfterThree(ForcedTokens):
    """Allows any three tokens, then forces `tokens`, then allows any again."""

    free = 3

    def mask(self, out: Bitmask) -> bool:
        return bool(not self.free and self.pending) and super().mask(out)

    def commit(self, token: int) -> None:
        if self.free:
            self.free -= 1
        elif self.pending:
            super().commit(token)

    def forced_tokens(self) -> list[int]:
        return [] if self.free else super().forced_tokens()


def make_chunks_cheap(costs: CostModel) -> None:
    """Record timings that make a prefill chunk much cheaper than decoding its tokens."""
    for n in (1, 64) * 20:
        costs.observe(StepKind.PREFILL, 1, n, 0.001)
        costs.observe(StepKind.DECODE, 1, n, 0.1 * n)
