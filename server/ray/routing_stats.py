"""Reports to the routers which blocks a replica holds and how fast it is."""

from __future__ import annotations

from dataclasses import dataclass

from server.engine.engine import Engine
from server.kv_events.blocks import NAME_BYTES

MAX_REPORTED = 4096
"""The maximum number of blocks in a report.

4,096 blocks are 262,144 tokens, and their names take 64 KiB.
"""


@dataclass(frozen=True, slots=True)
class RoutingStats:
    """A replica's report to the routers.

    blocks: the names of the blocks in its prefix cache, joined into one byte string.
    ongoing: number of sequences that it is answering or has queued.
    slots: number of requests that it can answer at once.
    token_seconds: predicted time to prefill one token.
    request_seconds: average time from the end of one answer to the end of the next.
    """

    blocks: bytes = b""
    ongoing: int = 0
    slots: int = 1
    token_seconds: float = 0.0
    request_seconds: float = 0.0

    def block_names(self) -> frozenset[bytes]:
        """Return the names in `blocks`."""
        return frozenset(self.blocks[at : at + NAME_BYTES] for at in range(0, len(self.blocks), NAME_BYTES))


def routing_stats(engine: Engine) -> RoutingStats:
    """Return the current report of a replica. Any thread may call this."""
    stats = engine.stats()
    return RoutingStats(
        blocks=b"".join(engine.held_blocks.names(MAX_REPORTED)),
        ongoing=stats.running + stats.waiting + stats.suspended,
        slots=stats.slots,
        token_seconds=stats.prefill_token_seconds,
        request_seconds=engine.rate.interval,
    )
