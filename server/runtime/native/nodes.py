"""Small helpers for the nodes of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx
from onnx import helper

DOMAIN = "lfm"
"""The domain of the native kernels' operators."""


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Yield the graphs inside nodes, such as the branches of an If, at all depths."""
    for node in nodes:
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield graph
                yield from subgraphs(graph.node)


def values_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of the values that a node or its subgraphs read."""
    yield from node.input
    for graph in subgraphs([node]):
        for inner in graph.node:
            yield from inner.input


def needed(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes on which `outputs` depend, in their original order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(values_read(node))
    return kept[::-1]
