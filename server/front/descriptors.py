"""Raises the limit on file descriptors, and computes how many connections fit."""

from __future__ import annotations

import resource
from contextlib import suppress

RESERVED = 128
"""Descriptors kept free for files, worker processes and the event loop."""

CROWDED = 256
"""Maximum number of connections above `max_connections`. They are accepted, but get errors."""


def raise_limit(max_connections: int) -> int:
    """Raise the soft limit on file descriptors to fit `max_connections`.

    Returns how many connections fit: at most `max_connections`, fewer if the hard limit is too low.
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
    """Return how many connections may be open, including up to CROWDED refused ones."""
    return min(max_connections + CROWDED, _room())


def _room() -> int:
    """Return how many descriptors are available for connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft - min(RESERVED, soft // 2)
