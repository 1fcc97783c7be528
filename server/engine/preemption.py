"""Preempts running sequences to free memory or for fairness.

A preempted sequence loses its slot. It resumes later from the prefix cache.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from server.engine.fairness import next_handover
from server.engine.sequence import Sequence

if TYPE_CHECKING:
    from server.engine.engine_state import EngineState


def preempt_for_memory(state: EngineState) -> None:
    """Preempt the youngest sequences until the remaining ones fit into memory.

    Running sequences may have at most `slot_tokens` tokens together. Never preempts a sequence in a step, or the last
    running one.
    """
    while state.held_tokens > state.slot_tokens and state.running > 1:
        candidates = _youngest_first(state)
        if not candidates:
            return
        _preempt(state, candidates[0])
        state.waiting.requeue(candidates[0])


def preempt_for_fairness(state: EngineState, now: float) -> None:
    """Preempt sequences of one tenant if another has waited too long.

    Preempts the youngest first, and only as many as make room for the other tenant's next sequence.

    now: the current monotonic time.
    """
    if not len(state.waiting):
        return
    held = Counter(_tenant(s) for s in (*state.prefilling, *state.decoding))
    handover = next_handover(held, state.waiting.waits(now), state.slots.n_slots)
    if handover is None:
        return
    state.waiting.give_turn(handover.taker)
    candidates = [s for s in _youngest_first(state) if _tenant(s) == handover.giver][: handover.most]
    leavers = _fewest_that_make_room(state, candidates)
    for sequence in leavers:
        _preempt(state, sequence)
    state.admit()
    for sequence in leavers:  # only now, because their tenant then has the next turn
        state.waiting.requeue(sequence)


def _fewest_that_make_room(state: EngineState, candidates: list[Sequence]) -> list[Sequence]:
    """Return the fewest leading candidates that make room for one more sequence.

    The sequence is the queue's next one. Returns [] if all candidates together do not make enough room.
    """
    taker = state.waiting.peek()
    assert taker is not None
    for count in range(1, len(candidates) + 1):
        if state.has_room(taker, candidates[:count]):
            return candidates[:count]
    return []


def _preempt(state: EngineState, sequence: Sequence) -> None:
    state.vacate(sequence)
    state.preemptions += 1


def _youngest_first(state: EngineState) -> list[Sequence]:
    """Return the running sequences that are not in a step, latest request first."""
    return sorted(state.between_steps, key=lambda s: s.queued_at, reverse=True)


def _tenant(sequence: Sequence) -> str:
    return sequence.request.context.tenant
