"""Decides whether the queue has room for more sequences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The load of the queue, as one tenant sees it.

    Sequences whose prompts are still being tokenized count as waiting, with 0 tokens.

    waiting: number of waiting sequences of all tenants.
    own: number of waiting sequences of this tenant.
    tenants: number of tenants with waiting sequences, counting this tenant even if it has none.
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
        """Number of free slots minus the number of waiting sequences; may be negative."""
        return self.free_slots - self.waiting


def is_below_fair_share(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether `count` more sequences leave the tenant within its fair share.

    The fair share is `max_waiting` divided by `load.tenants`. Returns False if no other tenant is waiting, or if
    the queue would exceed twice `max_waiting`.

    max_waiting: usual maximum number of sequences in the queue.
    """
    fair = load.tenants > 1 and load.own + count <= max_waiting // load.tenants
    return fair and count <= 2 * max_waiting + load.spare_slots


def has_places(load: QueueLoad, count: int, max_waiting: int) -> bool:
    """Return whether the queue has room for `count` more sequences.

    The queue may exceed `max_waiting` sequences if the tenant stays within its fair share.
    """
    return is_below_fair_share(load, count, max_waiting) or count <= max_waiting + load.spare_slots


def has_tokens(load: QueueLoad, count: int, tokens: int, max_waiting: int, max_waiting_tokens: int | None) -> bool:
    """Return whether the prompts of `count` more sequences fit into the queue.

    `max_waiting_tokens` does not apply if the queue is empty, if there are spare slots for these sequences, or if the
    tenant stays within its fair share.

    tokens: number of tokens in these prompts.
    max_waiting_tokens: maximum number of prompt tokens in the queue; None if unlimited.
    """
    if max_waiting_tokens is None or not load.waiting or count <= load.spare_slots:
        return True
    return is_below_fair_share(load, count, max_waiting) or load.tokens + tokens <= max_waiting_tokens
