"""Decides whether the queue has room for more sequences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The load of the queue, as one tenant sees it.

    "Waiting" includes places reserved for prompts that are being tokenized.

    `waiting`: waiting sequences of all tenants.
    `own`: waiting sequences of this tenant.
    `tenants`: tenants with waiting sequences, plus this one.
    `tokens`: prompt tokens of the waiting sequences.
    `free_slots`: slots without a sequence.
    """

    waiting: int
    own: int
    tenants: int
    tokens: int
    free_slots: int

    @property
    def spare_slots(self) -> int:
        """Slots left if every waiting sequence gets one. Negative if there are too few."""
        return self.free_slots - self.waiting


def is_below_fair_share(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences keep the tenant within its fair share.

    If several tenants wait, the fair share of each is an equal part of `max_waiting`. The queue never exceeds twice
    `max_waiting`.
    """
    fair = load.tenants > 1 and load.own + count <= max_waiting // load.tenants
    return fair and count <= 2 * max_waiting + load.spare_slots


def has_places(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences may be queued."""
    return is_below_fair_share(load, count, max_waiting) or count <= max_waiting + load.spare_slots


def has_tokens(load: QueueLoad, count: int, tokens: int, max_waiting: int, max_waiting_tokens: int | None) -> bool:
    """Return whether the prompts of `count` more sequences fit into the queue.

    The limit does not apply to an empty queue, or if there are free slots. A long prompt can then be queued. It does
    not apply to a tenant within its fair share either.

    `tokens`: tokens of these prompts.
    `max_waiting_tokens`: maximum prompt tokens in the queue; None for no limit.
    """
    if max_waiting_tokens is None or not load.waiting or count <= load.spare_slots:
        return True
    return is_below_fair_share(load, count, max_waiting) or load.tokens + tokens <= max_waiting_tokens
