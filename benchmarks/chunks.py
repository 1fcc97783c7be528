"""What would chunks of the long prompt between the streams' steps, all on one session, do in its place?

As in `pace`, with 4 streams: the server as it is, and servers that have only one session, since they find no prepared
copy of the model; there a chunk may take as long as the target time between tokens allows. (A small model needs no
copy and has all its sessions everywhere.)
"""

from __future__ import annotations

import tempfile

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
    paces = {}
    with tempfile.TemporaryDirectory() as empty:
        one_session = ("--prepared-folder", empty, "--itl-target")
        options = {OURS: ()} | {f"chunks, {target:g} s": (*one_session, str(target)) for target in TARGETS}
        for name, chosen in options.items():
            async with own_server(bench.model, *chosen, name=name) as server:
                (paces[name],) = await paces_of(server.endpoint, [STREAMS], bench.sizes)
    rows = [pace.row(name) for name, pace in paces.items()]
    return Report(PART, QUESTION, COLUMNS, rows, charts(list(paces), list(paces.values())))
