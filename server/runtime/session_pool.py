"""Opens the sessions a model is served with: from a prepared copy where there is one, in the widths the machine allows.

Knows nothing of what the sessions will run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from server.runtime.graph import Graph
from server.runtime.machine.memory import lies_in_memory, memory_left
from server.runtime.native.library import load_library
from server.runtime.native.packing import pack_in_memory
from server.runtime.prepared_copy import lookup
from server.runtime.prepared_copy.lookup import WEIGHTS, gigabytes
from server.runtime.session import ModelSession, SessionOptions

SMALL = 256_000_000
"""Weights of fewer bytes are packed when the model is loaded; preparing them saves nothing worth it."""
HEADROOM = 1_000_000_000
"""Bytes that must be left beside a mapped copy, or the system would read the weights from disk again and again."""


@dataclass(frozen=True, slots=True)
class SessionPool:
    """One wide session, with all threads, and maybe two narrow ones, with half of them.

    `open_narrow` opens those that are to follow, None where none are. `mapped_bytes` are those of mapped weights,
    which look free and must not be taken.
    """

    sessions: list[ModelSession]
    mapped_bytes: int
    open_narrow: Callable[[], list[ModelSession]] | None


def choose_graph(graph: Graph, prepared_folder: Path, say: Callable[[str], None]) -> Graph:
    """Return the prepared copy of `graph` if there is one that fits into memory, else the graph itself.

    For the native kernels a small graph is then packed in memory, and a large one stays with onnxruntime's. `say` gets
    what was decided if the model is large.
    """
    if (copy := _copy(graph, prepared_folder, say)) is not None:
        return copy
    if not graph.native:
        return graph
    if graph.weight_bytes < SMALL:
        return pack_in_memory(graph, load_library())
    say("Large models need a prepared copy for the native kernels: onnxruntime's are used.")
    return choose_graph(replace(graph, native=False), prepared_folder, say)


def open_sessions(graph: Graph, threads: int, max_tokens: int, head_dim: int | None = None) -> SessionPool:
    """Open the wide session, and narrow ones if weights are shared or small.

    They follow later if onnxruntime has a large copy to open, which takes long.
    Raises UnsupportedModelError.
    """

    def open_(width: int) -> ModelSession:
        return ModelSession(graph, SessionOptions(width, max_tokens), head_dim)

    def open_narrow() -> list[ModelSession]:
        return [open_(threads // 2) for _ in range(2)]

    wide, mapped_bytes = open_(threads), _droppable_bytes(graph) if graph.prepared else 0
    if threads > 1 and (graph.weight_bytes < SMALL or (graph.prepared and graph.native)):
        return SessionPool([wide, *open_narrow()], mapped_bytes, None)
    return SessionPool([wide], mapped_bytes, open_narrow if threads > 1 and graph.prepared else None)


def _copy(graph: Graph, prepared_folder: Path, say: Callable[[str], None]) -> Graph | None:
    copy = lookup.find(graph, prepared_folder, say)
    if copy is None:
        if graph.weight_bytes >= SMALL and not graph.native:
            say(
                "Not prepared: the start takes longer, weights are not shared and the rewritten graph was not checked. "
                "`lfm-serve prepare` with the same --model, --dtype and --precision does it once."
            )
        return None
    left = memory_left()
    if _droppable_bytes(copy.graph) + HEADROOM > left:
        say(
            f"The prepared copy, {gigabytes(copy.manifest.bytes)}, does not fit into the {gigabytes(left)} of memory "
            "that are left: the model is served without it."
        )
        return None
    say(f"Prepared copy of {gigabytes(copy.manifest.bytes)}; when it was made, {copy.manifest.checked}.")
    return copy.graph


def _droppable_bytes(copy: Graph) -> int:
    """Bytes of a copy's weights that the system takes for free memory once they are mapped."""
    return 0 if lies_in_memory(copy.weights / WEIGHTS) else (copy.weights / WEIGHTS).stat().st_size
