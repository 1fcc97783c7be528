"""Compares narrow sessions with prefill in chunks on a single session.

Repeats `pace` with 4 streams. Without a prepared copy, the server of a large model has one session. It then uses
onnxruntime's kernels, so the comparison needs a copy for these: `lfm-serve prepare --kernels onnxruntime`.
"""

from __future__ import annotations

import tempfile

from benchmarks.servers import OURS, Bench, own_server
from server.bench.pace import COLUMNS, charts, paces_of
from server.bench.report import Report

PART = "chunks"
QUESTION = "ITL of 4 streams during prefill, compared with chunks on one session"
STREAMS = 4
TARGETS = (0.25, 0.5, 1.0)
"""ITL targets, in seconds."""


async def measure(bench: Bench) -> Report:
    """Measure one server after another."""
    paces = {}
    with tempfile.TemporaryDirectory() as empty:
        one_session = ("--no-prepare", "--prepared-folder", empty)
        chunks = {f"chunks, {target:g} s": (*one_session, "--itl-target", str(target)) for target in TARGETS}
        for name, options in ({OURS: ()} | chunks).items():
            async with own_server(bench.model, "--kernels", "onnxruntime", *options, name=name) as server:
                (paces[name],) = await paces_of(server.endpoint, [STREAMS], bench.sizes.pace)
    rows = [pace.row(name) for name, pace in paces.items()]
    return Report(PART, QUESTION, COLUMNS, rows, charts(list(paces), list(paces.values())))
