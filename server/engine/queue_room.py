"""Decides whether the queue has room. Pure functions over plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The queue from the point of view of one tenant.

    Places are reserved for prompts while they are tokenized.

    `waiting`: waiting sequences and reserved places of all tenants.
    `own`: waiting sequences and reserved places of this tenant.
    `tenants`: number of tenants that have any, counting this one in any case.
    `tokens`: prompt tokens of the waiting sequences.
    `free_slots`: slots without a sequence, which waiting sequences will take first.
    """

    waiting: int
    own: int
    tenants: int
    tokens: int
    free_slots: int

    @property
    def spare_slots(self) -> int:
        """Slots left once every waiting sequence has one; negative if there are too few."""
        return self.free_slots - self.waiting


def is_below_fair_share(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences keep the tenant within its fair share.

    The fair share is an equal part of `max_waiting`, if other tenants use the queue too. A tenant within it is admitted
    even if others have filled the queue, until the queue is twice as long as `max_waiting`.
    """
    fair = load.tenants > 1 and load.own + count <= max_waiting // load.tenants
    return fair and count <= 2 * max_waiting + load.spare_slots


def has_places(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences may be queued."""
    return is_below_fair_share(load, count, max_waiting) or count <= max_waiting + load.spare_slots


def has_tokens(load: QueueLoad, count: int, tokens: int, max_waiting: int, max_waiting_tokens: int | None) -> bool:
    """Return whether `count` more sequences may be queued, given their prompts.

    `tokens`: length of their prompts together.

    A prompt longer than `max_waiting_tokens` is admitted if nothing else waits.
    """
    if max_waiting_tokens is None or not load.waiting or count <= load.spare_slots:
        return True
    return is_below_fair_share(load, count, max_waiting) or load.tokens + tokens <= max_waiting_tokens
