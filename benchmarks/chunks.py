"""What would chunks of the long prompt between the streams' steps, all on one session, do in its place?

As in `pace`, with 4 streams: the server as it is, and servers whose sessions do nothing side by side, where a chunk
may take as long as the target time between tokens allows.
"""

from __future__ import annotations

from benchmarks.pace import COLUMNS, charts, paces_of
from benchmarks.report import Report
from benchmarks.servers import OURS, Bench, own_server

PART = "chunks"
QUESTION = "The same with 4 streams, against chunks on one session"
STREAMS = 4
TARGETS = (0.25, 0.5, 1.0)
"""Seconds from token to token."""


async def measure(bench: Bench) -> Report:
    """A server after the other."""
    options = {OURS: ()} | {f"chunks, {target:g} s": ("--itl-target", str(target)) for target in TARGETS}
    paces = {}
    for name, chosen in options.items():
        async with own_server(bench.model, *chosen, name=name) as server:
            (paces[name],) = await paces_of(server.endpoint, [STREAMS], bench.sizes)
    rows = [pace.row(name) for name, pace in paces.items()]
    return Report(PART, QUESTION, COLUMNS, rows, charts(list(paces), list(paces.values())))
