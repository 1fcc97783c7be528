"""Decides whether the queue has room for more sequences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The load of the queue, as one tenant sees it.

    Places reserved for prompts that are being tokenized count as waiting sequences without tokens.

    waiting: number of waiting sequences of all tenants.
    own: number of waiting sequences of this tenant.
    tenants: number of tenants with waiting sequences. This tenant always counts.
    tokens: number of prompt tokens in the waiting sequences.
    free_slots: number of slots without a sequence.
    """

    waiting: int
    own: int
    tenants: int
    tokens: int
    free_slots: int

    @property
    def spare_slots(self) -> int:
        """Number of slots left if every waiting sequence gets one; negative if too few."""
        return self.free_slots - self.waiting


def is_below_fair_share(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences leave the tenant within its fair share.

    The fair share of each waiting tenant is an equal part of `max_waiting`. The result is False if no other tenant is
    waiting, or if the queue would exceed twice `max_waiting`.
    """
    fair = load.tenants > 1 and load.own + count <= max_waiting // load.tenants
    return fair and count <= 2 * max_waiting + load.spare_slots


def has_places(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences may be queued."""
    return is_below_fair_share(load, count, max_waiting) or count <= max_waiting + load.spare_slots


def has_tokens(load: QueueLoad, count: int, tokens: int, max_waiting: int, max_waiting_tokens: int | None) -> bool:
    """Return whether the prompts of `count` more sequences fit into the queue.

    The limit does not apply if the queue is empty, if there are spare slots for these sequences, or if the tenant stays
    within its fair share. An empty queue therefore has room for a prompt of any length.

    tokens: number of tokens in these prompts.
    max_waiting_tokens: maximum number of prompt tokens in the queue; None if unlimited.
    """
    if max_waiting_tokens is None or not load.waiting or count <= load.spare_slots:
        return True
    return is_below_fair_share(load, count, max_waiting) or load.tokens + tokens <= max_waiting_tokens
