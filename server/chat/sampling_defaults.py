"""Chooses the default sampling parameters of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip


def sampling_defaults(
    generation_config: Mapping[str, Any] | None, card: Mapping[str, float] | None, override: Mapping[str, float]
) -> dict[str, Any]:
    """Return the default sampling parameters of a model.

    generation_config: the content of generation_config.json. Values are not checked, but whole numbers written as
        floats become integers.
    card: the values of the model card. They apply only if generation_config sets none of `KEYS`.
    override: values that replace those of generation_config and card.
    A parameter that is missing from the result has its neutral value.
    """
    own = {key: value for key, value in (generation_config or {}).items() if key in KEYS and value is not None}
    return {key: _whole(value) for key, value in (own or dict(card or {})).items()} | dict(override)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
