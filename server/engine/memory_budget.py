"""Divides the available memory between the slots and the prefix cache.

All functions are pure and take plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

USABLE = 0.8
"""The fraction of the available memory for the slots and the prefix cache.

The rest is for activations and requests, and serves as a reserve.
"""

CACHE_BYTES = 4 << 30
"""The default size of the prefix cache in bytes, if memory allows it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The memory limits of the slots and the prefix cache.

    `slot_tokens`: maximum number of tokens of all running sequences together.
    `cache_bytes`: size of the prefix cache.
    """

    slot_tokens: int
    cache_bytes: int


def share_memory(available: int, bytes_per_token: int, max_slot_tokens: int, cache_bytes: int | None) -> Budget:
    """Divide `available` bytes between the slots and the prefix cache.

    Only the fraction USABLE of `available` is usable. The slots get at most `max_slot_tokens` tokens of
    `bytes_per_token` each. The cache gets `cache_bytes`, or all usable memory if that is less. If `cache_bytes` is
    None, the cache gets CACHE_BYTES, or half of the usable memory if that is less.
    """
    usable = int(available * USABLE)
    cache = min(CACHE_BYTES, usable // 2) if cache_bytes is None else min(cache_bytes, usable)
    slot_tokens = min(max_slot_tokens, (usable - cache) // max(1, bytes_per_token))
    return Budget(slot_tokens, cache)
