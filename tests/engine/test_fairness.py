"""A tenant that holds all slots gives up some of them for a tenant that waits."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from server.engine.fairness import PATIENCE, Handover, next_handover
from server.engine.types import GenerationRequest, RequestContext
from tests.engine.conftest import StartEngine
from tests.engine.requests import request, run, tokens_of, until_idle

LONG = 200


def of(tenant: str, one: GenerationRequest) -> GenerationRequest:
    return dataclasses.replace(one, context=RequestContext(tenant=tenant))


@pytest.mark.parametrize(
    ("held", "waits", "expected"),
    [
        ({"a": 4}, {"b": PATIENCE + 1}, Handover("a", "b", 2)),
        ({"a": 4}, {"b": PATIENCE / 2}, None),  # b has not waited long
        ({"a": 4}, {"a": 60}, None),  # no other tenant waits
        ({"a": 2, "b": 2}, {"b": 60}, None),  # b has its fair share
        ({"a": 3, "b": 1}, {"b": 60}, Handover("a", "b", 1)),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, {"e": 60}, None),  # nobody has more than one slot
        ({"a": 2, "b": 1, "c": 1}, {"d": 60, "e": 90}, Handover("a", "e", 1)),  # the longest wait first
        ({}, {"b": 60}, None),
    ],
)
def test_a_handover_is_due(held: dict[str, int], waits: dict[str, float], expected: Handover | None) -> None:
    assert next_handover(held, waits, 4) == expected


@pytest.mark.parametrize("kind", ["onnx-community", "attention-only"])
async def test_a_tenant_that_waits_gets_a_slot_and_no_tokens_change(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    long = [request(i, 20, LONG) for i in range(4)]
    short = request(9, 20, 5)
    async with start_engine(kind) as engine:
        expected = [(await run(engine, one))[0] for one in (*long, short)]
    monkeypatch.setattr("server.engine.fairness.PATIENCE", 0.0)
    async with start_engine(kind) as engine:
        first = [asyncio.create_task(tokens_of(stream)) for stream in engine.submit([of("a", one) for one in long])]
        while engine.running < 4:
            await asyncio.sleep(0.001)
        (stream,) = engine.submit([of("b", short)])
        tokens = await tokens_of(stream)
        assert not any(task.done() for task in first)
        assert [*await asyncio.gather(*first), tokens] == expected
        assert engine.stats().preemptions == 1
        await until_idle(engine)


async def test_tenants_end_with_their_fair_shares(start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engine.fairness.PATIENCE", 0.0)
    async with start_engine("onnx-community") as engine:
        streams = engine.submit([of("a", request(i, 20, LONG)) for i in range(8)])
        while engine.running < 4:
            await asyncio.sleep(0.001)
        streams += engine.submit([of("b", request(10 + i, 20, LONG)) for i in range(8)])

        def shares() -> list[int]:
            running = [s.request.context.tenant for s in (*engine.state.prefilling, *engine.state.decoding)]
            return [running.count("a"), running.count("b")]

        while shares() != [2, 2]:
            await asyncio.sleep(0.001)
        preemptions = engine.stats().preemptions
        for stream in streams[:2]:
            await tokens_of(stream)
        assert engine.stats().preemptions <= preemptions + 2
        for stream in streams:
            stream.cancel()
        await until_idle(engine)
