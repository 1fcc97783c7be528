"""Divides the available memory between the slots and the prefix cache."""

from __future__ import annotations

from dataclasses import dataclass

USABLE = 0.8
"""Fraction of the available memory for slots and prefix cache.

The rest is for activations and requests.
"""

CACHE_BYTES = 4 << 30
"""Default size of the prefix cache in bytes, if memory allows it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The sizes of the slots and the prefix cache.

    slot_tokens: maximum number of tokens in all running sequences together.
    cache_bytes: maximum size of the prefix cache.
    """

    slot_tokens: int
    cache_bytes: int


def share_memory(available: int, bytes_per_token: int, max_slot_tokens: int, cache_bytes: int | None) -> Budget:
    """Divide `available` bytes between the slots and the prefix cache.

    Only the fraction USABLE of them is divided. The slots get what the cache leaves, up to `max_slot_tokens`.

    cache_bytes: size of the cache, capped at the usable memory; None for CACHE_BYTES or half of the usable memory,
        whichever is less.
    """
    usable = int(available * USABLE)
    cache = min(CACHE_BYTES, usable // 2) if cache_bytes is None else min(cache_bytes, usable)
    slot_tokens = min(max_slot_tokens, (usable - cache) // max(1, bytes_per_token))
    return Budget(slot_tokens, cache)
