"""Graphs of tiny models, and counts of their operators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from server.runtime.graph import Graph, Precision, load
from server.runtime.model_folder import open_model_folder
from tests import models


def build(kind: str, folder: Path, **options: Any) -> Graph:
    """Write the model `kind` to `folder`, and load its graph for the native kernels.

    options: see `models.build`.
    """
    model = open_model_folder(models.build(kind, folder, **options))
    return load(model.graph, Precision.FAST, native=True)


def operators(graph: Graph) -> Counter[tuple[str, str]]:
    return Counter((node.domain, node.op_type) for node in onnx.load_from_string(graph.model).graph.node)
