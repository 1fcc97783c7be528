"""Tiny models in every dialect and state dtype, which look to the server like the real ones.

`build` writes one of KINDS; all have the built-in model's vocabulary and template, two convolutions and two attention
layers (WITHOUT_CONVOLUTIONS: attention alone) and random weights. The graph is the exporter's own; the other dialects
are made from it. A model that generates given texts is in `tests.scripted`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from server.export import export_random
from server.export.tokenizer import BUILT_IN_TOKENIZER
from tests.joined_caches import join_caches

TOKENIZER = BUILT_IN_TOKENIZER

LAYER_TYPES = ["conv", "full_attention", "conv", "full_attention"]
DENSE: dict[str, Any] = {
    "architectures": ["Lfm2ForCausalLM"],
    "model_type": "lfm2",
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 96,
    "block_auto_adjust_ff_dim": False,
    "num_hidden_layers": 4,
    "layer_types": LAYER_TYPES,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "conv_L_cache": 3,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 7,
    "pad_token_id": 0,
}
MOE: dict[str, Any] = DENSE | {
    "architectures": ["Lfm2MoeForCausalLM"],
    "model_type": "lfm2_moe",
    "moe_intermediate_size": 32,
    "num_dense_layers": 1,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}
ATTENTION_ONLY = DENSE | {"layer_types": ["full_attention"] * 4}

Rewrite = Callable[[onnx.ModelProto], None]


def build(
    kind: str,
    folder: Path,
    seed: int = 0,
    layer_types: list[str] | None = None,
    more_rewrites: tuple[Rewrite, ...] = (),
) -> Path:
    """Write the model `kind` (one of KINDS) to `folder`, which must not exist or be empty; returns `folder`.

    layer_types: kinds of the layers; None for the model's own.
    """
    config, dtype, rewrites, file = _RECIPES[kind]
    if layer_types is not None:
        config = config | {"layer_types": layer_types, "num_hidden_layers": len(layer_types)}
    export_random(config, folder, dtype, TOKENIZER, seed)
    exported = next((folder / "onnx").glob("*.onnx"))
    model = onnx.load(exported)
    for path in exported.parent.iterdir():
        path.unlink()
    for rewrite in (*rewrites, *more_rewrites):
        rewrite(model)
    _drop_unused(model.graph)
    _save(model, folder / file)
    if kind in WITHOUT_CONVOLUTIONS:
        _update_json(folder / "config.json", model_type="llama", architectures=["LlamaForCausalLM"])
    if kind == "genai":
        exported.parent.rmdir()
        (folder / "genai_config.json").write_text(json.dumps(_genai_config(config), indent=2))
    return folder


def all_positions(model: onnx.ModelProto) -> None:
    """Return the logits of every position, without the input `num_logits_to_keep`."""
    graph = model.graph
    negated = _consumer(graph, "num_logits_to_keep")
    start = _consumer(graph, negated.output[0])
    kept = _consumer(graph, start.output[0])
    _rename(graph, kept.output[0], kept.input[0])
    _remove(graph.node, negated, start, kept)
    _remove(graph.input, _named(graph.input, "num_logits_to_keep"))
    _named(graph.output, "logits").type.tensor_type.shape.dim[1].dim_param = "sequence_length"


def explicit_positions(model: onnx.ModelProto) -> None:
    """Take positions from an input `position_ids` [batch, sequence] instead of the mask."""
    shape = ["batch_size", "sequence_length"]
    model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, shape))
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            node.input.append("position_ids")


def float16(model: onnx.ModelProto) -> None:
    """Compute in float16, with weights and state in it; logits stay float32."""
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            lowest = np.finfo(np.float16).min
            tensor.CopyFrom(numpy_helper.from_array(np.maximum(values, lowest).astype(np.float16), tensor.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name != "logits":
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    _rename(graph, "logits", "logits_float16")
    graph.node.append(helper.make_node("Cast", ["logits_float16"], ["logits"], to=TensorProto.FLOAT))


def fused_convolutions(model: onnx.ModelProto) -> None:
    """Make each convolution one CausalConvWithState, with a state `past.N.conv` [batch, hidden, L - 1]."""
    graph = model.graph
    for past in [value for value in graph.input if value.name.startswith("past_conv.")]:
        layer = past.name.removeprefix("past_conv.")
        window = _consumer(graph, past.name)
        present = _named(graph.output, f"present_conv.{layer}")
        sliced = next(node for node in graph.node if present.name in node.output)
        conv = next(node for node in graph.node if node.op_type == "Conv" and window.output[0] in node.input)
        new = _consumer(graph, conv.output[0])
        for value, name in ((past, f"past.{layer}.conv"), (present, f"present.{layer}.conv")):
            value.name = name
            value.type.tensor_type.shape.dim[2].dim_value -= 1
        inputs = [window.input[1], conv.input[1], "", past.name]
        outputs = [new.output[0], present.name]
        fused = helper.make_node("CausalConvWithState", inputs, outputs, domain="com.microsoft", activation="none")
        graph.node.insert(list(graph.node).index(window), fused)
        _remove(graph.node, window, sliced, conv, new)


def symbolic_head_dim(model: onnx.ModelProto) -> None:
    """Give the last axis of KV caches a name instead of a size."""
    for value in (*model.graph.input, *model.graph.output):
        if value.name.endswith((".key", ".value")):
            value.type.tensor_type.shape.dim[3].dim_param = "kv_cache_dim"


_COMMUNITY, _GENAI = "onnx/model{}.onnx", "model.onnx"
_RECIPES: dict[str, tuple[dict[str, Any], Any, tuple[Rewrite, ...], str]] = {
    "onnx-community": (MOE, "fp32", (), _COMMUNITY.format("")),
    "q4": (MOE, "q4", (), _COMMUNITY.format("_q4")),
    "float16-state": (MOE, "fp32", (float16,), _COMMUNITY.format("_fp16")),
    "q4f16": (MOE, "q4", (float16,), _COMMUNITY.format("_q4f16")),
    "dense": (DENSE, "fp32", (), _COMMUNITY.format("")),
    "liquid": (MOE, "fp32", (all_positions,), _COMMUNITY.format("")),
    "liquid-positions": (MOE, "fp32", (all_positions, explicit_positions), _COMMUNITY.format("")),
    "genai": (MOE, "fp32", (all_positions, fused_convolutions, symbolic_head_dim), _GENAI),
    "attention-only": (ATTENTION_ONLY, "fp32", (all_positions, explicit_positions), _COMMUNITY.format("")),
    "joined-caches": (ATTENTION_ONLY, "fp32", (all_positions, explicit_positions, join_caches), _COMMUNITY.format("")),
    "large-vocabulary": (MOE | {"vocab_size": 65_536}, "fp32", (), _COMMUNITY.format("")),
}
KINDS = tuple(kind for kind in _RECIPES if kind != "large-vocabulary")
WITHOUT_CONVOLUTIONS = ("attention-only", "joined-caches")


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Save the graph, and its weights as `<name>_data` or, at the folder's root (genai), `<name>.data`."""
    data = f"{path.name}.data" if path.parent.name != "onnx" else f"{path.name}_data"
    onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data, size_threshold=1024)


def _genai_config(config: dict[str, Any]) -> dict[str, Any]:
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    names = {"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"}
    present = {"present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}
    decoder = {
        "filename": _GENAI,
        "head_size": head_dim,
        "hidden_size": config["hidden_size"],
        "num_attention_heads": config["num_attention_heads"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_key_value_heads": config["num_key_value_heads"],
        "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **names},
        "outputs": {"logits": "logits", **present},
    }
    model = {"type": "lfm2", "context_length": config["max_position_embeddings"], "decoder": decoder}
    model |= {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size")}
    return {"model": model, "search": {"max_length": config["max_position_embeddings"]}}


def _update_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))


def _consumer(graph: onnx.GraphProto, value: str) -> onnx.NodeProto:
    """The one node that reads a value."""
    (node,) = (node for node in graph.node if value in node.input)
    return node


def _named(items: Any, name: str) -> Any:
    return next(item for item in items if item.name == name)


def _remove(items: Any, *gone: Any) -> None:
    for item in gone:
        items.remove(item)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Take away the constants that a rewrite has left without a reader."""
    read = {name for node in graph.node for name in node.input}
    _remove(graph.initializer, *[tensor for tensor in graph.initializer if tensor.name not in read])


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Call a value by another name wherever a node writes or reads it."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def leave_vocabulary_open(path: Path) -> None:
    """Let a graph no longer say how many logits it has."""
    model = onnx.load(path, load_external_data=False)
    logits = next(output for output in model.graph.output if output.name == "logits")
    logits.type.tensor_type.shape.dim[-1].dim_param = "vocab_size"
    onnx.save(model, path)
