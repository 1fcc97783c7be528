"""Decides whether the queue has room for more sequences: pure functions over plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The queue as one tenant finds it: what waits, and the places reserved for prompts being tokenized.

    waiting: sequences of all tenants. own: this tenant's. tenants: how many have any, this one included.
    tokens: of the prompts that wait. free_slots: slots that waiting sequences will take first.
    """

    waiting: int
    own: int
    tenants: int
    tokens: int
    free_slots: int

    @property
    def spare_slots(self) -> int:
        """Slots left once everything that waits has one; negative if there are too few."""
        return self.free_slots - self.waiting


def is_below_fair_share(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more leave the tenant within an equal share of a queue that others use too.

    Such a tenant is admitted even if others have filled the queue, up to twice `max_waiting` in total.
    """
    fair = load.tenants > 1 and load.own + count <= max_waiting // load.tenants
    return fair and count <= 2 * max_waiting + load.spare_slots


def has_places(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences may be queued."""
    return is_below_fair_share(load, count, max_waiting) or count <= max_waiting + load.spare_slots


def has_tokens(load: QueueLoad, count: int, tokens: int, max_waiting: int, max_waiting_tokens: int | None) -> bool:
    """Return whether `count` more sequences with prompts of `tokens` tokens may be queued.

    A prompt longer than `max_waiting_tokens` is admitted if nothing else waits.
    """
    if max_waiting_tokens is None or not load.waiting or count <= load.spare_slots:
        return True
    return is_below_fair_share(load, count, max_waiting) or load.tokens + tokens <= max_waiting_tokens
