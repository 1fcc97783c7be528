"""The prefix cache on its own: lookups, splits and evictions."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
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
        assert kv[: match.length].tolist() == list(tokens[: match.length])
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


def test_without_convolutions_a_prompt_that_shares_only_its_beginning_is_kept() -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3, 4, 5, 6], states=ATTENTION)
    begin = found(cache, [1, 2, 3, 7, 8, 9])
    assert begin == 3
    put(cache, [1, 2, 3, 7, 8], begin, ATTENTION)
    put(cache, [1, 2, 3, 7, 8, 9], 5, ATTENTION)
    assert [found(cache, [1, 2, 3, *rest]) for rest in ([7, 8, 9, 1], [4, 5, 6, 1], [7, 1])] == [6, 6, 4]
    assert cache.tokens == 9


def test_without_convolutions_tokens_in_the_middle_of_a_node_need_no_split() -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3, 4], states=ATTENTION)
    put(cache, [1, 2], states=ATTENTION)
    assert len(list(cache)) == 1
    assert cache.count_cached(np.array([1, 2, 9]), "") == 2


def test_a_match_within_a_node_counts_as_its_use() -> None:
    page = snapshot([1], 0, ATTENTION).nbytes
    cache = PrefixCache(2 * page)
    put(cache, [1, 2], states=ATTENTION)
    put(cache, [5], states=ATTENTION)
    assert found(cache, [1, 9]) == 1
    put(cache, [6], states=ATTENTION)
    assert [found(cache, tokens) for tokens in ([1, 2], [5], [6])] == [2, 0, 1]


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


@pytest.mark.parametrize("states", [HYBRID, ATTENTION], ids=["hybrid", "attention"])
def test_an_insertion_without_memory_changes_nothing(
    states: tuple[StateTensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PrefixCache(ROOM)
    put(cache, [1, 2, 3, 4], states=states)
    put(cache, [1, 2, 3, 5, 6], states=states)
    new = [1, 2, 3] if states is HYBRID else [1, 2, 3, 5, 7]  # both split a node
    added, system_mmap = snapshot(new, 0, states), mmap.mmap
    before, room, failures = cache.nbytes, 0, 0

    def refuse(*arguments: Any, **options: Any) -> mmap.mmap:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return system_mmap(*arguments, **options)

    monkeypatch.setattr("mmap.mmap", refuse)
    while cache.nbytes == before:
        room = failures
        try:
            cache.insert(np.array(new), "", added)
        except MemoryError:
            failures += 1
        check_cache(cache)
    assert failures == 3
    assert found(cache, new) == len(new)


def test_a_salt_without_state_takes_no_memory() -> None:
    page = snapshot([1], 0).nbytes
    cache = PrefixCache(2 * page)
    for number in range(10):
        cache.insert(np.array([1]), f"salt {number}", snapshot([1], 0))
    assert [found(cache, [1], f"salt {number}") for number in range(10)] == [0] * 8 + [1] * 2
    assert len(cache._roots) == 2


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
@settings(deadline=None)
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


def shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the longest common prefix."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


@pytest.mark.parametrize("states", [HYBRID, ATTENTION], ids=["hybrid", "attention"])
@settings(deadline=None)
@given(steps=st.lists(st.tuples(texts, st.sets(st.integers(1, 12))), max_size=12))
def test_with_room_every_prompt_is_found_as_far_as_an_earlier_one_goes(
    states: tuple[StateTensor, ...], steps: list[tuple[list[int], set[int]]]
) -> None:
    """An earlier prompt goes as far as a checkpoint or, without convolutions, as far as its tokens are the same."""
    cache = PrefixCache(1 << 30)
    kept: set[tuple[int, ...]] = set()
    for tokens, checkpoints in steps:
        if states is ATTENTION:
            expected = max((shared(tokens, earlier) for earlier in kept), default=0)
        else:
            expected = max((len(end) for end in kept if tokens[: len(end)] == list(end)), default=0)
        begin = found(cache, tokens)
        assert begin == expected == cache.count_cached(np.array(tokens), "")
        for end in sorted(at for at in {*checkpoints, len(tokens)} if begin < at <= len(tokens)):
            put(cache, tokens[:end], begin, states)
            kept.add(tuple(tokens[:end]))
            begin = end
            check_cache(cache)
        assert found(cache, tokens) == len(tokens)
    if states is ATTENTION:
        assert cache.tokens == len({earlier[:n] for earlier in kept for n in range(1, len(earlier) + 1)})
