"""Decides which tenant gives up slots for another tenant that has waited too long.

All functions are pure and take plain numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PATIENCE = 1.0
"""Seconds that a tenant below its fair share of the slots waits before another tenant gives up slots."""


@dataclass(frozen=True, slots=True)
class Handover:
    """A transfer of slots from one tenant to another.

    giver: the tenant that gives up slots.
    taker: the tenant that gets them.
    most: how many slots the giver can give up without falling below its fair share.
    """

    giver: str
    taker: str
    most: int


def next_handover(held: Mapping[str, int], waits: Mapping[str, float], slots: int) -> Handover | None:
    """Return the handover that is due, or None.

    A handover is due if a tenant below its fair share has waited longer than PATIENCE and another tenant is above its
    fair share. Each tenant with running or waiting sequences has the same fair share of the slots.

    held: number of slots of each tenant with running sequences.
    waits: seconds that each tenant with waiting sequences has waited for its next slot.
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
