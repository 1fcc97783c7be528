"""Constraints bind only their own sequence, and one that fails or allows no token ends only that."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from server.engine.types import SamplingParams
from server.errors import InvalidRequestError, StepFailedError
from tests.engine.conftest import StartEngine
from tests.engine.requests import ForcedTokens, request, run, tokens_of


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
    """Fails as compiled code does: its panics are not an Exception."""

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
async def test_a_sequence_without_a_next_token_fails_alone(
    start_engine: StartEngine, name: str, sampling: SamplingParams
) -> None:
    async with start_engine("onnx-community") as engine:
        (alone,) = await run(engine, request(1, 8, 6))
        free, dead = engine.submit([request(1, 8, 6), dataclasses.replace(DEAD_ENDS[name], sampling=sampling)])
        with pytest.raises(InvalidRequestError, match="No token can come next"):
            await tokens_of(dead)
        assert await tokens_of(free) == alone
