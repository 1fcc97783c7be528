"""Builds the ONNX graph of the LFM2 architecture, dense or with experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from server.export.config import Lfm2Config, MoeConfig
from server.export.graph_builder import MICROSOFT, GraphBuilder, Shape
from server.export.tensors import EMBEDDING, FINAL_NORM, HEAD
from server.export.weighted_operators import Layers


class Lfm2Graph:
    """A model's graph, with the inputs and outputs of onnx-community graphs.

    State of layer N:

    - convolution: `past_conv.N` -> `present_conv.N`, [batch, hidden, conv_length]
    - attention: `past_key_values.N.key`, `.value` -> `present.N.key`, `.value`, [batch, kv_heads, length, head_dim]

    `num_logits_to_keep` is the number of last positions that get logits.
    """

    def __init__(self, graph: GraphBuilder, layers: Layers, config: Lfm2Config) -> None:
        self._g, self._layers, self._config = graph, layers, config
        self._ids = graph.input("input_ids", ["batch_size", "sequence_length"], TensorProto.INT64)
        graph.input("attention_mask", ["batch_size", "total_sequence_length"], TensorProto.INT64)
        graph.input("num_logits_to_keep", [], TensorProto.INT64)
        graph.output("logits", ["batch_size", "num_logits_to_keep", config.vocab_size])
        cosines, sines = rotary_tables(config)
        self._rotary = (graph.weight("cosines", cosines), graph.weight("sines", sines))
        self._lengths = self._sequence_lengths()

    def build(self, advance: Callable[[int], None]) -> None:
        """Add all layers and the head.

        advance: called with the number of finished layers.
        """
        g, config = self._g, self._config
        hidden = self._layers.embed(self._ids, EMBEDDING)
        for layer in range(len(config.attention_layers)):
            advance(layer)
            with g.scope(f"layer.{layer}"):
                hidden = self._layer(hidden, layer)
        advance(len(config.attention_layers))
        kept = g.node("Unsqueeze", g.node("Neg", "num_logits_to_keep"), g.constant([0]))
        last = g.tail(hidden, kept, axis=1)
        self._layers.linear(self._norm(last, FINAL_NORM), EMBEDDING if config.tied_head else HEAD, out="logits")

    def _layer(self, hidden: str, layer: int) -> str:
        name = f"model.layers.{layer}"
        operator = self._attention if self._config.attention_layers[layer] else self._convolution
        mixed = operator(self._norm(hidden, f"{name}.operator_norm.weight"), name, layer)
        hidden = self._g.node("Add", hidden, mixed)
        feed_forward = self._experts if self._config.is_sparse(layer) else self._swiglu
        fed = feed_forward(self._norm(hidden, f"{name}.ffn_norm.weight"), f"{name}.feed_forward")
        return self._g.node("Add", hidden, fed)

    def _convolution(self, x: str, name: str, layer: int) -> str:
        """Add the gated short convolution C * conv(B * v).

        `in_proj` yields B, C and v. The layer's state is B * v of the last `conv_length` tokens.
        """
        g, hidden, length = self._g, self._config.hidden_size, self._config.conv_length
        past = g.input(f"past_conv.{layer}", ["batch_size", hidden, length])
        projected = self._linear(x, f"{name}.conv.in_proj")
        channels_first = g.node("Transpose", projected, perm=[0, 2, 1])
        gate_in, gate_out, value = g.nodes("Split", channels_first, outs=[None] * 3, axis=1, num_outputs=3)
        window = g.node("Concat", past, g.node("Mul", gate_in, value), axis=2)
        present = g.output(f"present_conv.{layer}", ["batch_size", hidden, length])
        g.tail(window, g.constant([-length]), axis=2, out=present)
        weights = [self._layers.exact(f"{name}.conv.conv.weight")]
        if self._config.conv_bias:
            weights.append(self._layers.exact(f"{name}.conv.conv.bias"))
        convolved = g.node("Conv", window, *weights, kernel_shape=[length], group=hidden)
        new = g.tail(convolved, g.constant([1]), axis=2)
        gated = g.node("Transpose", g.node("Mul", gate_out, new), perm=[0, 2, 1])
        return self._linear(gated, f"{name}.conv.out_proj")

    def _attention(self, x: str, name: str, layer: int) -> str:
        """Add grouped-query attention with rotary position embeddings."""
        g, config = self._g, self._config
        query, key = (self._head_norm(x, f"{name}.self_attn.{part}") for part in "qk")
        value = self._layers.linear(x, f"{name}.self_attn.v_proj.weight")
        cache: Shape = ["batch_size", config.kv_heads, "past_sequence_length", config.head_dim]
        grown: Shape = ["batch_size", config.kv_heads, "total_sequence_length", config.head_dim]
        past = [g.input(f"past_key_values.{layer}.{part}", cache) for part in ("key", "value")]
        present = [g.output(f"present.{layer}.{part}", grown) for part in ("key", "value")]
        inputs, outs = (query, key, value, *past, *self._lengths, *self._rotary), [None, *present]
        heads: dict[str, Any] = {"num_heads": config.heads, "kv_num_heads": config.kv_heads}
        heads |= {"scale": config.head_dim**-0.5, "do_rotary": 1}
        attended, *_ = g.nodes("GroupQueryAttention", *inputs, outs=outs, domain=MICROSOFT, **heads)
        return self._layers.linear(attended, f"{name}.self_attn.out_proj.weight")

    def _head_norm(self, x: str, name: str) -> str:
        """Add a projection of `x` and normalize each head of the result separately.

        name: prefix of the weights' names, ending with `q` or `k`.
        """
        g, config = self._g, self._config
        projected = self._layers.linear(x, f"{name}_proj.weight")
        heads = g.node("Reshape", projected, g.constant([0, 0, -1, config.head_dim]))
        return g.node("Reshape", self._norm(heads, f"{name}_layernorm.weight"), g.constant([0, 0, -1]))

    def _swiglu(self, x: str, name: str) -> str:
        g = self._g
        gate, up = (self._layers.linear(x, f"{name}.{part}.weight") for part in ("w1", "w3"))
        activated = g.node("Mul", gate, g.node("Sigmoid", gate))
        return self._layers.linear(g.node("Mul", activated, up), f"{name}.w2.weight")

    def _experts(self, x: str, name: str) -> str:
        """Add the experts of a layer.

        LFM2 chooses experts by score plus bias, but weights them by score alone. The operators MoE and QMoE take one
        routing value per expert: they choose the largest values, and weight by their softmax. The routing value of a
        chosen expert is therefore log(score), since softmax(log s) = s / sum(s). Other experts get the lowest float32.
        """
        g, moe = self._g, self._config.moe
        assert moe is not None
        router = self._layers.exact(f"{name}.gate.weight")
        scores = g.node("Sigmoid", g.node("FusedMatMul", x, router, domain=MICROSOFT, transB=1))
        ranked = g.node("Add", scores, self._layers.exact(f"{name}.expert_bias")) if moe.use_expert_bias else scores
        _, chosen = g.nodes("TopK", ranked, g.constant([moe.experts_per_token]), outs=[None, None])
        weights = g.node("GatherElements", scores, chosen, axis=-1)
        nothing = g.node("Expand", g.constant([np.finfo(np.float32).min], np.float32), g.node("Shape", scores))
        routing = g.node("ScatterElements", nothing, chosen, g.node("Log", weights), axis=-1)
        routing = g.node("Reshape", routing, g.constant([-1, moe.num_experts]))
        mixed = self._layers.experts(x, routing, f"{name}.experts", moe.num_experts, moe.experts_per_token)
        return self._scale(mixed, weights, moe)

    def _scale(self, mixed: str, weights: str, moe: MoeConfig) -> str:
        """Multiply the experts' output by the factors that MoE and QMoE do not apply.

        mixed: name of the experts' output.
        weights: name of the chosen experts' scores.
        """
        g = self._g
        if not moe.normalize:  # the operators always normalize
            mixed = g.node("Mul", mixed, g.node("ReduceSum", weights, g.constant([-1]), keepdims=1))
        if moe.scaling_factor != 1:
            mixed = g.node("Mul", mixed, g.constant(moe.scaling_factor, np.float32))
        return mixed

    def _linear(self, x: str, name: str) -> str:
        """Add a projection of a convolution layer, with a bias if the model has one."""
        y = self._layers.linear(x, f"{name}.weight")
        return self._g.node("Add", y, self._layers.exact(f"{name}.bias")) if self._config.conv_bias else y

    def _norm(self, x: str, name: str) -> str:
        attributes: dict[str, Any] = {"epsilon": self._config.norm_eps, "axis": -1, "stash_type": 1}
        return self._g.node("SimplifiedLayerNormalization", x, self._layers.exact(name), **attributes)

    def _sequence_lengths(self) -> tuple[str, str]:
        """Add the two int32 length inputs of GroupQueryAttention, and return their names.

        The first is each row's length minus 1. The second is the longest row's length.
        """
        g = self._g
        lengths = g.node("ReduceSum", "attention_mask", g.constant([1]), keepdims=0)
        last = g.node("Cast", g.node("Sub", lengths, g.constant([1])), to=TensorProto.INT32)
        total = g.node("Gather", g.node("Shape", "attention_mask"), g.constant(1), axis=0)
        return last, g.node("Cast", total, to=TensorProto.INT32)


def rotary_tables(config: Lfm2Config) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines and sines for rotary position embeddings.

    Both are float32 [positions, head_dim / 2].
    """
    # In float32 throughout, for the same rounding errors as in transformers.
    even = np.arange(0, config.head_dim, 2, dtype=np.float32)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** (even / np.float32(config.head_dim))
    angles = np.outer(np.arange(config.max_positions, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)
