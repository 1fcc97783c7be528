"""Reads `genai_config.json`, which describes a graph for onnxruntime-genai."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

QUANTIZED = ("MatMulNBits", "QMoE", "GatherBlockQuantized")


def decoder_file(genai: Mapping[str, Any]) -> str | None:
    """Return the file name of the decoder's graph, or None if it is not specified."""
    name = _object(_object(genai, "model"), "decoder").get("filename")
    return name if isinstance(name, str) else None


def hugging_face_names(genai: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a genai_config.json under their names in config.json."""
    model = _object(genai, "model")
    decoder = _object(model, "decoder")
    renamed = {
        "model_type": model.get("type"),
        "max_position_embeddings": model.get("context_length"),
        "head_dim": decoder.get("head_size"),
    }
    same = {name: model.get(name) for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = ("hidden_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads")
    found = renamed | same | {name: decoder.get(name) for name in sizes}
    return {name: value for name, value in found.items() if value is not None}


def dtype_of_content(path: Path) -> str:
    """Return a graph's dtype, such as q4 or fp16, from its content.

    If layers differ, the smallest dtype counts. Returns fp32 for an unreadable graph.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf raises various exceptions for invalid bytes; opening the graph reports them
        return "fp32"
    half = any(_is_half(value) for value in model.graph.input if value.name.startswith("past"))
    bits = {_bits(node) for node in model.graph.node if node.op_type in QUANTIZED}
    if not bits:
        return "fp16" if half else "fp32"
    return f"q{min(bits)}{'f16' if half else ''}"


def _bits(node: onnx.NodeProto) -> int:
    names = ("bits", "expert_weight_bits")
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name in names), 4)


def _is_half(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT16)


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}
