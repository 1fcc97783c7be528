"""How many tokens of state fit into the memory that is left. Plain numbers in and out."""

from __future__ import annotations

from dataclasses import dataclass

USABLE = 0.8
"""The part of what is left that state may take; the rest is for activations, requests and the unforeseen."""

CACHE_BYTES = 4 << 30
"""The prefix cache's size where there is room for it and no other is asked for."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`slot_tokens` of all running sequences together, `cache_bytes` of the prefix cache."""

    slot_tokens: int
    cache_bytes: int


def share_memory(left: int, bytes_per_token: int, most_tokens: int, cache_bytes: int | None) -> Budget:
    """Share `left` bytes among slots, which never need more than `most_tokens`, and the prefix cache.

    `cache_bytes` are given to the cache if they are there, half of what there is at the most where None asks for them.
    """
    usable = int(left * USABLE)
    cache = min(CACHE_BYTES, usable // 2) if cache_bytes is None else min(cache_bytes, usable)
    slot_tokens = min(most_tokens, (usable - cache) // max(1, bytes_per_token))
    return Budget(slot_tokens, cache)
