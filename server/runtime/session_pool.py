"""Opens the sessions of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from server.runtime.graph import Graph
from server.runtime.machine.memory import HEADROOM, memory_left
from server.runtime.native.library import load_library
from server.runtime.native.packing import pack_in_memory
from server.runtime.prepared_copy import lookup
from server.runtime.prepared_copy.lookup import gigabytes
from server.runtime.prepared_copy.placement import bytes_needed
from server.runtime.session import ModelSession, SessionOptions

SMALL = 256_000_000
"""The size in bytes below which weights need no prepared copy: packing is fast."""


@dataclass(frozen=True, slots=True)
class SessionPool:
    """A model's sessions: a wide one with all threads, and narrow ones with half.

    sessions: the sessions that are already open.
    droppable_bytes: size of the weights that the system may drop and therefore counts as free memory.
    open_narrow: opens the narrow sessions later; None if there are none left to open.
    """

    sessions: list[ModelSession]
    droppable_bytes: int
    open_narrow: Callable[[], list[ModelSession]] | None


def choose_graph(graph: Graph, prepared_folder: Path, say: Callable[[str], None]) -> Graph:
    """Return the graph to load: a prepared copy, a packed graph, or `graph` itself.

    say: receives messages about prepared copies.
    """
    if (copy := _copy(graph, prepared_folder, say)) is not None:
        return copy
    if not graph.native:
        return graph
    if graph.weight_bytes < SMALL:
        return pack_in_memory(graph, load_library())
    # A large graph without a copy runs on onnxruntime's kernels.
    say("There is no prepared copy for the native kernels, which large models need.")
    return choose_graph(replace(graph, native=False), prepared_folder, say)


def open_sessions(graph: Graph, threads: int, max_tokens: int, head_dim: int | None = None) -> SessionPool:
    """Open the wide session, and narrow ones if they need little memory.

    If they need more, the result's `open_narrow` can open them later.

    Raises UnsupportedModelError if the graph cannot be served.
    """

    def open_narrow() -> list[ModelSession]:
        options = SessionOptions(threads // 2, max_tokens)
        return [ModelSession(graph, options, head_dim, proven=wide) for _ in range(2)]

    # Narrow sessions need little memory if the weights are small or shared. onnxruntime opens prepared copies slowly.
    wide = ModelSession(graph, SessionOptions(threads, max_tokens), head_dim)
    if threads > 1 and (graph.weight_bytes < SMALL or (graph.prepared and graph.native)):
        return SessionPool([wide, *open_narrow()], graph.droppable_bytes, None)
    return SessionPool([wide], graph.droppable_bytes, open_narrow if threads > 1 and graph.prepared else None)


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
    if bytes_needed(copy.graph) + HEADROOM > left:
        say(
            f"The prepared copy, {gigabytes(copy.manifest.bytes)}, does not fit into the {gigabytes(left)} of memory "
            "that are left: the model is served without it."
        )
        return None
    say(f"Prepared copy of {gigabytes(copy.manifest.bytes)}; when it was made, {copy.manifest.checked}.")
    return copy.graph
