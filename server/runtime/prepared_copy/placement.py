"""Brings the weights of a prepared copy into memory, and keeps them there.

Mapped weights are pages of the copy's file. The system may drop them unless the process can lock them. Shared weights
are a second file, in shared memory, which the system keeps. Either way, all servers on a machine share the pages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import onnx

from server.errors import SharedMemoryError
from server.runtime.graph import Graph
from server.runtime.machine.mapped_file import is_kept, keep, map_file
from server.runtime.machine.memory import lies_in_memory
from server.runtime.native.tensors import Weights
from server.runtime.prepared_copy.lookup import WEIGHTS
from server.runtime.prepared_copy.shared_weights import share

SHARED_MEMORY = Path("/dev/shm")
NOT_LOCKED = (
    "The limit on locked memory is too low for the weights: the system may drop them from memory while the server "
    "idles. Raise the limit (ulimit -l), or serve with --weights shared."
)


class Placement(StrEnum):
    """Where the weights of a prepared copy are in memory.

    MAPPED: in pages of the copy's file.
    SHARED: in a second file, in shared memory.
    """

    MAPPED = "mapped"
    SHARED = "shared"


def bytes_needed(copy: Graph) -> int:
    """Return how many more bytes of memory the weights of a prepared copy need.

    Returns 0 if the weights are in memory already, and stay there.
    """
    file = copy.weights / WEIGHTS
    return 0 if is_kept(file) or lies_in_memory(file) else file.stat().st_size


def place(
    graph: Graph, placement: Placement, tell: Callable[[str], None], shared_memory: Path = SHARED_MEMORY
) -> Graph:
    """Bring the weights of `graph` into memory if it is a prepared copy.

    If `placement` is SHARED but the weights cannot be shared, they are mapped.

    Returns the graph to load.
    """
    if not graph.prepared:
        return graph
    original = graph.weights / WEIGHTS
    if placement is Placement.SHARED:
        try:
            graph = replace(graph, weights=share(graph.weights, shared_memory, tell))
        except SharedMemoryError as error:
            tell(f"The weights are mapped, not shared: {error}.")
    file = graph.weights / WEIGHTS
    mapped = map_file(file)
    if stays := mapped.locked or lies_in_memory(file):
        keep(original)
    else:
        tell(NOT_LOCKED)
    graph = replace(graph, droppable_bytes=0 if stays else file.stat().st_size)
    if not graph.native:  # onnxruntime has added packed weights to its own copies, and must map them itself
        return graph
    weights = Weights(onnx.load_from_string(graph.model).graph, graph.weights, {WEIGHTS: mapped.data})
    return replace(graph, tensors=weights.external())
