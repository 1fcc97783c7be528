"""Prepared copies for the native kernels, of models that are small but count as large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from server.prepare import renew
from server.runtime import session_pool
from server.runtime.graph import Graph, Precision, load
from server.runtime.model_folder import open_model_folder
from server.runtime.session_pool import choose_graph, open_sessions
from server.runtime.slots import SlotPool


def make_large(patch: pytest.MonkeyPatch) -> None:
    """Make every model large."""
    patch.setattr(session_pool, "SMALL", 0)
    patch.setattr("server.prepare.SMALL", 0)


def graph_of(model: Path) -> Graph:
    return load(open_model_folder(model).graph, Precision.FAST, native=True)


def first_start(model: Path, root: Path, create: bool = True) -> tuple[Graph, list[str]]:
    """Return the graph that a server would run, and its progress messages."""
    said: list[str] = []
    graph = graph_of(model)
    renew(open_model_folder(model), graph, Precision.FAST, 1, root, said.append, create)
    return choose_graph(graph, root, said.append), said


def logits(graph: Graph) -> np.ndarray:
    session = open_sessions(graph, 1, 16).sessions[0]
    slots = SlotPool(session.contract.states, 1, 16)
    return session.run(slots, 0, np.arange(8, 20)[None], np.array([0])).copy()
