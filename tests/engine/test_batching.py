"""Batched runs of a session against a single run of each sequence.

Sequences of different lengths join and leave the batch, and prompts are prefilled in chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.runtime.session import ModelSession
from server.runtime.slots import SlotPool
from tests import models
from tests.engine.conftest import OpenSession

MAX_LEN = 96
Logits = npt.NDArray[np.float32]

float32_kinds = pytest.mark.parametrize("kind", ["onnx-community", "liquid", "genai", *models.WITHOUT_CONVOLUTIONS])
float16_kinds = pytest.mark.parametrize("kind", ["float16-state"])


@dataclass
class Row:
    """A sequence of given tokens.

    `join_at`: the step at which it joins the batch.
    `seen`: logits after each step, by the number of computed tokens.
    """

    tokens: npt.NDArray[np.int64]
    prompt_length: int
    join_at: int
    computed: int = 0
    seen: dict[int, Logits] = field(default_factory=dict)


rows_strategy = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 16), st.integers(0, 12)), min_size=1, max_size=16
)  # prompt length, tokens to decode, step at which the row joins


def alone_logits(session: ModelSession, tokens: npt.NDArray[np.int64], ends: list[int]) -> dict[int, Logits]:
    """Return the logits after each of `ends` tokens, each computed in one run."""
    logits = {}
    for end in ends:
        slots = SlotPool(session.contract.states, 1, MAX_LEN)
        logits[end] = session.run(slots, 0, tokens[None, :end], np.array([0]))[0].copy()
    return logits


def play(session: ModelSession, rows: list[Row], chunks: list[int]) -> None:
    """Decode all rows in one batch; each joins at its step and leaves when done."""
    slots = SlotPool(session.contract.states, len(rows), MAX_LEN)
    waiting, batch = sorted(rows, key=lambda row: row.join_at), list[Row]()
    step = 0
    while waiting or batch:
        while waiting and waiting[0].join_at <= step:
            row = waiting.pop(0)
            prefill(session, slots, len(batch), row, chunks)
            batch.append(row)
        if batch:
            past = np.array([row.computed for row in batch])
            tokens = np.array([[row.tokens[row.computed]] for row in batch])
            for row, logits in zip(batch, session.run(slots, 0, tokens, past), strict=True):
                row.computed += 1
                row.seen[row.computed] = logits.copy()
        for place in reversed(range(len(batch))):
            if batch[place].computed == len(batch[place].tokens):
                leave(slots, batch, place)
        step += 1


def prefill(session: ModelSession, slots: SlotPool, slot: int, row: Row, chunks: list[int]) -> None:
    slots.clear(slot)
    turn = 0
    while row.computed < row.prompt_length:
        count = min(chunks[turn % len(chunks)], row.prompt_length - row.computed)
        tokens = row.tokens[None, row.computed : row.computed + count]
        row.seen[row.computed + count] = session.run(slots, slot, tokens, np.array([row.computed]))[0].copy()
        row.computed += count
        turn += 1


def leave(slots: SlotPool, batch: list[Row], place: int) -> None:
    last = batch.pop()
    if place < len(batch):
        slots.move(len(batch), place, last.computed)
        batch[place] = last
    else:
        slots.release(place)


def differences(session: ModelSession, plan: list[tuple[int, int, int]], chunks: list[int], seed: int) -> list[float]:
    """Compare the logits of each row and step with a run of that row alone.

    Returns the largest difference in each of them.
    """
    rng = np.random.default_rng(seed)
    vocab = min(session.contract.vocab_size, 1024)
    rows = [Row(rng.integers(0, vocab, prompt + decode), prompt, join) for prompt, decode, join in plan]
    play(session, rows, chunks)
    found = []
    for row in rows:
        alone = alone_logits(session, row.tokens, sorted(row.seen))
        found += [float(np.abs(row.seen[end] - alone[end]).max()) for end in row.seen]
    return found


@float32_kinds
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=rows_strategy, chunks=st.lists(st.integers(1, 40), min_size=1, max_size=3), seed=st.integers(0, 2**16))
def test_batches_and_chunks_do_not_change_logits(
    open_session: OpenSession, kind: str, plan: list[tuple[int, int, int]], chunks: list[int], seed: int
) -> None:
    assert max(differences(open_session(kind), plan, chunks, seed)) < 1e-4


@float16_kinds
def test_with_float16_state_batches_and_chunks_hardly_change_logits(open_session: OpenSession, kind: str) -> None:
    session = open_session(kind)
    rng = np.random.default_rng(0)
    found: list[float] = []
    for seed in range(10):
        plan = [(int(rng.integers(1, 40)), int(rng.integers(1, 16)), int(rng.integers(0, 12))) for _ in range(12)]
        found += differences(session, plan, [int(rng.integers(1, 40))], seed)
    assert np.median(found) <= 0.01
    assert np.mean(np.array(found) > 0.05) <= 0.02  # a rounding step can flip an expert


def test_a_failed_run_leaves_the_state_unchanged(open_session: OpenSession) -> None:
    session = open_session("onnx-community")
    slots = SlotPool(session.contract.states, 1, MAX_LEN)
    slots.clear(0)
    prompt = np.arange(10)[None]
    session.run(slots, 0, prompt, np.array([0]))
    with pytest.raises(Exception, match="indices"):
        session.run(slots, 0, np.array([[10**6]]), np.array([10]))
    after = session.run(slots, 0, np.array([[7]]), np.array([10]))[0].copy()
    whole = alone_logits(session, np.append(prompt[0], 7), [11])[11]
    np.testing.assert_allclose(after, whole, atol=1e-4)
