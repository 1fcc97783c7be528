"""What must hold of the engine's state between steps; the tests check it after each step."""

from __future__ import annotations

from server.engine.engine_state import EngineState
from server.engine.prefix_cache import PrefixCache


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
    assert state.held_tokens <= state.slot_tokens or state.flights or state.running == 1, "the slots hold too much"
    for s in sequences:
        assert 0 <= s.computed < s.length <= len(s.tokens), f"tokens do not add up: {s.computed} of {s.length}"
    for s in state.decoding:
        assert s.remaining == 1, f"a decoding sequence has {s.remaining} tokens to compute"
        assert s.generated > 0, "a decoding sequence has drawn no token"
    flying = [s for s in state.decoding if s.in_flight]
    assert not flying or state.decodes, "sequences in flight without a step"
    check_cache(state.cache)


def check_cache(cache: PrefixCache) -> None:
    """As `check`, for the prefix cache."""
    nodes = list(cache)
    assert sum(len(node.tokens) for node in nodes) == cache.tokens, "the cache's tokens do not add up"
    assert sum(node.snapshot.nbytes for node in nodes) == cache.nbytes <= cache.budget, (
        "the cache's bytes do not add up"
    )
    assert sum(node.snapshot.window_bytes for node in nodes) == cache.window_bytes, "its windows' do not"
    used = {id(node): i for i, node in enumerate(nodes)}
    for node in nodes:
        assert len(node.tokens) == node.snapshot.length, "a node's tokens are not those of its state"
        assert used.get(id(node.parent), len(nodes)) > used[id(node)], (
            "a prefix would be evicted before what follows it"
        )
