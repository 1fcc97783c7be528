"""File descriptors: raises the process's limit and tells how many connections fit under it."""

from __future__ import annotations

import resource
from contextlib import suppress

RESERVED = 128
"""Descriptors kept for everything but connections: files, worker processes, the event loop."""

CROWDED = 256
"""Connections that may be open above `max_connections`, so that their requests can be refused."""


def raise_limit(max_connections: int) -> int:
    """Raise the soft limit of descriptors, and return how many connections may be served under it.

    The result is `max_connections`, or less if the hard limit is too low.
    """
    wanted = max_connections + CROWDED + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # the kernel's own limit may be lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    room = _room()
    return max_connections if max_connections + CROWDED <= room else min(max_connections, room - room // 8)


def max_open(max_connections: int) -> int:
    """Return how many connections may be open at once, including those whose requests are refused."""
    return min(max_connections + CROWDED, _room())


def _room() -> int:
    """Return how many descriptors connections may use."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft - min(RESERVED, soft // 2)
