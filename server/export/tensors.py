"""Defines the names and shapes of the tensors in an LFM2 checkpoint.

The names and shapes are those in transformers.
"""

from __future__ import annotations

from server.export.config import Lfm2Config

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.embedding_norm.weight", "lm_head.weight"

Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(config: Lfm2Config) -> Shapes:
    """Return the shape of each tensor of a model, keyed by name.

    Matrices are [out, in]. The depthwise kernel of a convolution is [hidden, 1, conv_length].
    """
    shapes: Shapes = {EMBEDDING: (config.vocab_size, config.hidden_size)}
    for layer in range(len(config.attention_layers)):
        prefix = f"model.layers.{layer}"
        operator = _attention(config) if config.attention_layers[layer] else _convolution(config)
        feed_forward = (
            _experts(config) if config.is_sparse(layer) else _swiglu(config.hidden_size, config.intermediate_size)
        )
        norms: Shapes = {f"{name}_norm.weight": (config.hidden_size,) for name in ("operator", "ffn")}
        shapes |= {f"{prefix}.{name}": shape for name, shape in (norms | operator).items()}
        shapes |= {f"{prefix}.feed_forward.{name}": shape for name, shape in feed_forward.items()}
    shapes[FINAL_NORM] = (config.hidden_size,)
    if not config.tied_head:
        shapes[HEAD] = (config.vocab_size, config.hidden_size)
    return shapes


def _attention(config: Lfm2Config) -> Shapes:
    hidden, width, kv_width = (
        config.hidden_size,
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    )
    shapes: Shapes = {
        "q_proj.weight": (width, hidden),
        "k_proj.weight": (kv_width, hidden),
        "v_proj.weight": (kv_width, hidden),
        "out_proj.weight": (hidden, width),
        "q_layernorm.weight": (config.head_dim,),
        "k_layernorm.weight": (config.head_dim,),
    }
    return {f"self_attn.{name}": shape for name, shape in shapes.items()}


def _convolution(config: Lfm2Config) -> Shapes:
    hidden = config.hidden_size
    shapes: Shapes = {
        "in_proj.weight": (3 * hidden, hidden),
        "conv.weight": (hidden, 1, config.conv_length),
        "out_proj.weight": (hidden, hidden),
    }
    if config.conv_bias:
        shapes |= {"in_proj.bias": (3 * hidden,), "conv.bias": (hidden,), "out_proj.bias": (hidden,)}
    return {f"conv.{name}": shape for name, shape in shapes.items()}


def _swiglu(hidden: int, width: int) -> Shapes:
    return {"w1.weight": (width, hidden), "w2.weight": (hidden, width), "w3.weight": (width, hidden)}


def _experts(config: Lfm2Config) -> Shapes:
    assert config.moe is not None
    shapes: Shapes = {"gate.weight": (config.moe.num_experts, config.hidden_size)}
    if config.moe.use_expert_bias:
        shapes["expert_bias"] = (config.moe.num_experts,)
    one = _swiglu(config.hidden_size, config.moe.intermediate_size)
    for expert in range(config.moe.num_experts):
        shapes |= {f"experts.{expert}.{name}": shape for name, shape in one.items()}
    return shapes
