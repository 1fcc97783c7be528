"""The prefix cache on its own: lookups, splits and evictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.invariants import check_cache
from server.engine.prefix_cache import PrefixCache
from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Snapshot

KV = StateTensor("past.0.key", "present.0.key", StateKind.KV, (1, 1), np.dtype(np.float32))
CONV = StateTensor("past_conv.1", "present_conv.1", StateKind.CONV, (1, 2), np.dtype(np.float32))
HYBRID, ATTENTION = (KV, CONV), (KV,)
ROOM = 1 << 20


def snapshot(tokens: Sequence[int], begin: int, states: tuple[StateTensor, ...] = HYBRID) -> Snapshot:
    """Return a snapshot whose state identifies its tokens.

    KV holds the tokens; windows hold the last token and the number of tokens.
    """
    made = Snapshot(states, len(tokens) - begin)
    made.kv[KV.past][0, :, 0] = tokens[begin:]
    for window in made.windows.values():
        window[0] = tokens[-1], len(tokens)
    return made


def put(cache: PrefixCache, tokens: Sequence[int], begin: int = 0, states: tuple[StateTensor, ...] = HYBRID) -> None:
    cache.insert(np.array(tokens), "", snapshot(tokens, begin, states))


def found(cache: PrefixCache, tokens: Sequence[int], salt: str = "") -> int:
    """Return the length of a match, after checking its state."""
    match = cache.match(np.array(tokens, np.int64), salt)
    if match.snapshots:
        kv = np.concatenate([piece.kv[KV.past][0, :, 0] for piece in match.snapshots])
        assert kv.tolist() == list(tokens[: match.length])
        for window in match.snapshots[-1].windows.values():
            assert window[0].tolist() == [tokens[match.length - 1], match.length]
    return match.length


def test_a_prompt_continues_from_the_last_shared_checkpoint() -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3])
    put(cache, [1, 2, 3, 4, 5], 3)
    assert found(cache, [1, 2, 3, 4, 5, 6]) == 5
    assert found(cache, [1, 2, 3, 4, 9]) == 3
    assert found(cache, [1, 2]) == 0
    assert found(cache, []) == 0


def test_a_match_reports_a_branch_without_a_checkpoint() -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3])
    put(cache, [1, 2, 3, 4, 5, 6], 3)
    match = cache.match(np.array([1, 2, 3, 4, 5, 9]), "")
    assert (match.length, match.branch) == (3, 5)


def test_a_checkpoint_within_a_node_splits_it() -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3, 4, 5])
    put(cache, [1, 2, 3])
    put(cache, [1, 2, 3, 7, 8], 3)
    assert [found(cache, [1, 2, 3, *rest]) for rest in ([4, 5, 6], [7, 8, 9], [9])] == [5, 5, 3]
    assert cache.tokens == 7


def test_state_without_its_prefix_is_dropped() -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3, 4], 2)
    assert (cache.tokens, cache.nbytes) == (0, 0)


def test_without_convolutions_any_token_is_a_checkpoint() -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3, 4], states=ATTENTION)
    assert found(cache, [1, 2, 3, 9]) == 3
    put(cache, [1, 2, 9], states=ATTENTION)
    assert found(cache, [1, 2, 9, 9]) == 3
    assert cache.tokens == 5


def test_the_least_recently_used_is_evicted_but_no_prefix_before_its_continuation() -> None:
    page = snapshot([1], 0).nbytes
    cache = PrefixCache(3 * page)
    put(cache, [1, 2])
    put(cache, [1, 2, 3], 2)
    put(cache, [5])
    assert found(cache, [1, 2, 3, 4]) == 3
    put(cache, [6])
    assert [found(cache, tokens) for tokens in ([5], [6], [1, 2, 3])] == [0, 1, 3]
    assert cache.evicted_tokens == 1


def test_salts_share_no_prefixes() -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3])
    assert found(cache, [1, 2, 3], "other") == 0


def test_a_cache_without_room_keeps_nothing() -> None:
    cache = PrefixCache(0)
    put(cache, [1, 2, 3])
    assert cache.nbytes == 0
    assert found(cache, [1, 2, 3]) == 0


texts = st.lists(st.integers(1, 2), min_size=1, max_size=12)


@pytest.mark.parametrize("states", [HYBRID, ATTENTION], ids=["hybrid", "attention"])
@given(steps=st.lists(st.tuples(texts, st.sets(st.integers(1, 12))), max_size=12), pages=st.integers(0, 12))
def test_a_match_is_the_state_of_its_tokens(
    states: tuple[StateTensor, ...], steps: list[tuple[list[int], set[int]]], pages: int
) -> None:
    cache = PrefixCache(pages * 4096)
    for tokens, checkpoints in steps:
        begin = found(cache, tokens)
        for end in sorted(at for at in {*checkpoints, len(tokens)} if begin < at <= len(tokens)):
            put(cache, tokens[:end], begin, states)
            begin = end
            check_cache(cache)
        assert found(cache, tokens) <= len(tokens)
