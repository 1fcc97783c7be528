"""Checks the engine's state for consistency. Tests run it after every step."""

from __future__ import annotations

from server.engine.engine_state import EngineState
from server.engine.prefix_cache import PrefixCache


def check(state: EngineState) -> None:
    """Raise AssertionError if the engine's state is inconsistent."""
    sequences = [*state.prefilling, *state.decoding]
    owned = [s.slot for s in sequences]
    assert len(set(owned)) == len(owned), f"a slot has two owners: {owned}"
    assert all(slot is not None and 0 <= slot < state.slots.n_slots for slot in owned), f"no such slot: {owned}"
    assert [s.slot for s in state.decoding] == list(range(len(state.decoding))), (
        "the decoding sequences do not have the first slots"
    )
    assert all(s.slot is None for s in (*state.waiting, *state.suspended)), "a waiting sequence has a slot"
    everyone = state.unfinished()
    assert len({id(s) for s in everyone}) == len(everyone), "a sequence is in two lists"
    assert state.held_tokens <= state.slot_tokens or state.running_steps or state.running == 1, (
        f"the slots hold {state.held_tokens} tokens, more than {state.slot_tokens}"
    )
    for s in sequences:
        assert 0 <= s.computed < s.length <= len(s.tokens), f"{s.computed} of {s.length} tokens are computed"
    for s in state.decoding:
        assert s.remaining == 1, f"a decoding sequence has {s.remaining} tokens to compute"
        assert s.generated > 0, "a decoding sequence has no generated token"
    in_step = [s for s in state.decoding if s.in_step]
    assert not in_step or state.decode_is_running, "decoding sequences are in a step, but no decode step is running"
    check_cache(state.cache)


def check_cache(cache: PrefixCache) -> None:
    """Raise AssertionError if the prefix cache is inconsistent."""
    nodes = list(cache)
    assert sum(len(node.tokens) for node in nodes) == cache.tokens, "the cache's token count is wrong"
    assert sum(node.snapshot.nbytes for node in nodes) == cache.nbytes <= cache.budget, "the cache's size is wrong"
    assert sum(node.snapshot.window_bytes for node in nodes) == cache.window_bytes, "the cache's window size is wrong"
    last_use = {id(node): i for i, node in enumerate(nodes)}
    for node in nodes:
        assert len(node.tokens) == node.snapshot.length, "a node's tokens and its snapshot differ in length"
        assert last_use.get(id(node.parent), len(nodes)) > last_use[id(node)], (
            "a prefix would be evicted before its continuation"
        )
