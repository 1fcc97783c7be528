"""Raises the limit of file descriptors and computes how many connections fit."""

from __future__ import annotations

import resource
from contextlib import suppress

RESERVED = 128
"""Number of descriptors kept free for files, worker processes and the event loop."""

CROWDED = 256
"""Number of connections that may be open in addition to `max_connections`.

Requests on these connections are refused with an error.
"""


def raise_limit(max_connections: int) -> int:
    """Raise the soft limit of file descriptors so that it allows `max_connections`.

    Returns how many connections the raised limit allows. This is `max_connections`, or a lower number if the hard limit
    is too low.
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
    """Return how many connections may be open at once.

    This includes up to CROWDED connections above `max_connections`, whose requests are refused.
    """
    return min(max_connections + CROWDED, _room())


def _room() -> int:
    """Return how many file descriptors are available for connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft - min(RESERVED, soft // 2)
