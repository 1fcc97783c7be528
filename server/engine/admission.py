"""Decides whether the queue has room for more sequences.

All functions are pure and take plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The load of the queue from the point of view of one tenant.

    While prompts are tokenized, places in the queue are reserved for them.

    `waiting`: number of waiting sequences and reserved places of all tenants.
    `own`: number of waiting sequences and reserved places of this tenant.
    `tenants`: number of tenants with waiting sequences or reserved places. This tenant always counts.
    `tokens`: number of prompt tokens of the waiting sequences.
    `free_slots`: number of slots without a sequence. Sequences that already wait take these slots first.
    """

    waiting: int
    own: int
    tenants: int
    tokens: int
    free_slots: int

    @property
    def spare_slots(self) -> int:
        """Number of slots left if every waiting sequence gets one.

        The number is negative if there are too few slots.
        """
        return self.free_slots - self.waiting


def is_below_fair_share(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences keep the tenant within its fair share.

    If several tenants use the queue, the fair share of each is an equal part of `max_waiting`. A tenant within its fair
    share is admitted even if others have filled the queue, until the queue is twice as long as `max_waiting`. Returns
    False if no other tenant uses the queue.
    """
    fair = load.tenants > 1 and load.own + count <= max_waiting // load.tenants
    return fair and count <= 2 * max_waiting + load.spare_slots


def has_places(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences may be queued."""
    return is_below_fair_share(load, count, max_waiting) or count <= max_waiting + load.spare_slots


def has_tokens(load: QueueLoad, count: int, tokens: int, max_waiting: int, max_waiting_tokens: int | None) -> bool:
    """Return whether the prompts of `count` more sequences fit into the queue.

    `tokens`: total number of tokens in these prompts.
    `max_waiting_tokens`: maximum number of prompt tokens in the queue; None for no limit.

    The limit does not apply if the queue is empty, if there is a free slot for each sequence, or if the tenant stays
    within its fair share. A single prompt longer than the limit can therefore be queued.
    """
    if max_waiting_tokens is None or not load.waiting or count <= load.spare_slots:
        return True
    return is_below_fair_share(load, count, max_waiting) or load.tokens + tokens <= max_waiting_tokens
