"""Hugging Face checkpoints of tiny random LFM2s, the same on every machine and with every numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import ml_dtypes  # noqa: F401  (defines dtype="bfloat16")
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from server.export.config import Lfm2Config
from server.export.tensors import tensor_shapes

SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "conv_L_cache": 3,
    "norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "layer_types": ["conv", "full_attention", "conv", "full_attention"],
    "bos_token_id": 1,
    "eos_token_id": 7,
    "pad_token_id": 0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "dense": SIZES | {"model_type": "lfm2", "block_multiple_of": 32, "rope_theta": 10000.0},
    "moe": SIZES
    | {
        "model_type": "lfm2_moe",
        "moe_intermediate_size": 32,
        "num_dense_layers": 1,
        "num_experts": 8,
        "num_experts_per_tok": 3,
    },
    "unusual-moe": SIZES
    | {
        "model_type": "lfm2_moe",
        "moe_intermediate_size": 64,
        "num_dense_layers": 0,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "use_expert_bias": False,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.5,
        "conv_bias": True,
        "conv_L_cache": 4,
        "norm_eps": 1e-3,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
}

Tensors = dict[str, NDArray[Any]]


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> Tensors:
    """float32 tensors of a checkpoint, of sizes that keep activations and logits near unit scale."""
    random = np.random.RandomState(seed)  # its stream is frozen; a Generator's may change with numpy
    tensors: Tensors = {}
    for name, shape in tensor_shapes(Lfm2Config.parse(config)).items():
        if name.endswith("norm.weight"):
            tensors[name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            scale = 0.3 if len(shape) == 1 else shape[-1] ** -0.5
            tensors[name] = (random.standard_normal(shape) * scale).astype(np.float32)
    return tensors


def fuse_experts(tensors: Tensors) -> Tensors:
    """The same weights with each layer's experts in two tensors, as transformers computes with them."""
    fused = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for prefix in {name.split(".experts.")[0] for name in tensors if ".experts." in name}:
        count = len([name for name in tensors if name.startswith(f"{prefix}.experts.") and ".w1." in name])
        w1, w2, w3 = (
            np.stack([tensors[f"{prefix}.experts.{i}.{matrix}.weight"] for i in range(count)])
            for matrix in ("w1", "w2", "w3")
        )
        fused[f"{prefix}.experts.gate_up_proj"] = np.concatenate([w1, w3], axis=1)
        fused[f"{prefix}.experts.down_proj"] = w2
    return fused


def write_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Tensors,
    shards: int = 1,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> Path:
    """Write config.json, a tokenizer.json that only has to be there, and the tensors in one file or more."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    stored = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    if shards == 1:
        save_file(stored, folder / "model.safetensors")
        return folder
    files = [f"model-{shard + 1:05}-of-{shards:05}.safetensors" for shard in range(shards)]
    for shard, file in enumerate(files):
        save_file({name: stored[name] for name in list(stored)[shard::shards]}, folder / file)
    weight_map = {name: files[i % shards] for i, name in enumerate(stored)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder
