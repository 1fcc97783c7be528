"""What must hold of the engine's state between steps; the tests check it after each step."""

from __future__ import annotations

from server.engine.state import EngineState


def check(state: EngineState) -> None:
    """Raise AssertionError, with the numbers, where the state contradicts itself."""
    sequences = [*state.prefilling, *state.decoding]
    owned = [s.slot for s in sequences]
    assert len(set(owned)) == len(owned), f"a slot has two owners: {owned}"
    assert all(slot is not None and 0 <= slot < state.slots.n_slots for slot in owned), f"no such slot: {owned}"
    assert [s.slot for s in state.decoding] == list(range(len(state.decoding))), "the decode batch is not the front"
    assert all(s.slot is None for s in state.waiting), "a waiting sequence has a slot"
    everyone = [*state.waiting, *sequences]
    assert len({id(s) for s in everyone}) == len(everyone), "a sequence is in two places"
    for s in sequences:
        assert 0 <= s.computed < s.length <= len(s.tokens), f"tokens do not add up: {s.computed} of {s.length}"
    for s in state.decoding:
        assert s.remaining == 1, f"a decoding sequence has {s.remaining} tokens to compute"
        assert s.generated > 0, "a decoding sequence has drawn no token"
    flying = [s for s in state.decoding if s.in_flight]
    assert not flying or state.decode_in_flight, "sequences in flight without a step"
