"""Decides which tenant gives slots to a tenant that has waited too long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE = 1.0
"""Seconds that a tenant below its fair share waits before another gives up slots for it."""


@dataclass(frozen=True, slots=True)
class Handover:
    """A transfer of slots from one tenant to another.

    most: maximum number of slots to transfer: the number that `giver` has above its fair share.
    """

    giver: str
    taker: str
    most: int


def next_handover(held: Mapping[str, int], waits: Mapping[str, float], slots: int) -> Handover | None:
    """Return the handover that is due, or None if none is due.

    The taker is below its fair share and has been waiting for more than PATIENCE. The giver is above its fair share and
    has the most slots. All tenants have the same fair share.

    held: number of slots that each tenant holds; tenants without slots are left out.
    waits: seconds that each waiting tenant has been waiting.
    slots: total number of slots.
    """
    fair = max(1, slots // max(1, len(held.keys() | waits.keys())))
    starved = [tenant for tenant, wait in waits.items() if wait > PATIENCE and held.get(tenant, 0) < fair]
    if not starved or not held:
        return None
    giver = max(held, key=lambda tenant: held[tenant])
    if held[giver] <= fair:
        return None
    return Handover(giver, max(starved, key=lambda tenant: waits[tenant]), held[giver] - fair)
