"""Parses a model's architecture from its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.errors import ExportError
from server.runtime.checkpoints import EXPORTED_TYPES, OTHER_EXPORTERS


@dataclass(frozen=True, slots=True)
class MoeConfig:
    """The configuration of a model's experts.

    num_dense_layers: number of layers at the start that have no experts.
    normalize: whether the chosen experts' weights are scaled to a sum of 1.
    scaling_factor: factor by which the experts' output is multiplied.
    """

    num_dense_layers: int
    num_experts: int
    experts_per_token: int
    intermediate_size: int
    use_expert_bias: bool
    normalize: bool
    scaling_factor: float


@dataclass(frozen=True, slots=True)
class Lfm2Config:
    """The configuration of an LFM2 model.

    attention_layers: for each layer, True for attention and False for a gated short convolution.
    conv_length: length of the convolution's window, in tokens.
    tied_head: whether the output matrix is the embedding matrix.
    moe: configuration of the experts; None for a dense model.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    attention_layers: tuple[bool, ...]
    heads: int
    kv_heads: int
    head_dim: int
    conv_length: int
    conv_bias: bool
    norm_eps: float
    rope_theta: float
    max_positions: int
    tied_head: bool
    moe: MoeConfig | None

    def is_sparse(self, layer: int) -> bool:
        """Return whether a layer has experts instead of one feed-forward network."""
        return self.moe is not None and layer >= self.moe.num_dense_layers

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> Lfm2Config:
        """Parse the content of a `config.json`.

        Raises ExportError if the architecture is not supported or a field is missing.
        """
        model_type = config.get("model_type")
        if model_type not in EXPORTED_TYPES:
            message = (
                f"model_type in config.json is {model_type!r}; only {' and '.join(EXPORTED_TYPES)} can be exported."
            )
            raise ExportError(f"{message} Export other models with {OTHER_EXPORTERS}." if model_type else message)
        try:
            return cls._parse(config, sparse=model_type == "lfm2_moe")
        except KeyError as error:
            raise ExportError(f"config.json lacks {error.args[0]}.") from None

    @classmethod
    def _parse(cls, config: Mapping[str, Any], sparse: bool) -> Lfm2Config:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        return cls(
            vocab_size=config["vocab_size"],
            hidden_size=hidden,
            intermediate_size=config["intermediate_size"] if sparse else _dense_width(config),
            attention_layers=_attention_layers(config),
            heads=heads,
            kv_heads=config["num_key_value_heads"],
            head_dim=config.get("head_dim") or hidden // heads,
            conv_length=config.get("conv_L_cache", 3),
            conv_bias=config.get("conv_bias", False),
            norm_eps=config.get("norm_eps", 1e-5),
            rope_theta=_rope_theta(config),
            max_positions=config["max_position_embeddings"],
            # As in transformers, the older name, which LFM2's configs have, takes precedence.
            tied_head=config.get("tie_embedding", config.get("tie_word_embeddings", True)),
            moe=_moe(config) if sparse else None,
        )


def _moe(config: Mapping[str, Any]) -> MoeConfig:
    return MoeConfig(
        num_dense_layers=config["num_dense_layers"],
        num_experts=config["num_experts"],
        experts_per_token=config["num_experts_per_tok"],
        intermediate_size=config["moe_intermediate_size"],
        use_expert_bias=config.get("use_expert_bias", True),
        normalize=config.get("norm_topk_prob", True),
        scaling_factor=float(config.get("routed_scaling_factor", 1.0)),
    )


def _dense_width(config: Mapping[str, Any]) -> int:
    """Return the width of a dense feed-forward network.

    If `block_auto_adjust_ff_dim` is false, this is the width in `config.json`. Otherwise, it is two thirds of that
    width, as in Llama 1. Unless `block_ffn_dim_multiplier` is null, the result is multiplied by it and rounded up to a
    multiple of `block_multiple_of`.
    """
    nominal: int = config["block_ff_dim"] if "block_ff_dim" in config else config["intermediate_size"]
    if not config.get("block_auto_adjust_ff_dim", True):
        return nominal
    multiple: int = config.get("block_multiple_of", 256)
    width = int(2 * nominal / 3)
    if (factor := config.get("block_ffn_dim_multiplier", 1.0)) is None:
        return width
    return -(-int(factor * width) // multiple) * multiple


def _attention_layers(config: Mapping[str, Any]) -> tuple[bool, ...]:
    if types := config.get("layer_types"):
        return tuple(kind == "full_attention" for kind in types)
    indices = config.get("full_attn_idxs")
    if indices is None:
        raise KeyError("layer_types")
    return tuple(i in indices for i in range(config["num_hidden_layers"]))


def _rope_theta(config: Mapping[str, Any]) -> float:
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (kind := parameters.get("rope_type", "default")) != "default":
        raise ExportError(f"rope_type in config.json is {kind!r}; only 'default' can be exported.")
    return float(parameters.get("rope_theta") or config.get("rope_theta") or 1e6)
