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

    card: values from the model card, used if `generation_config` sets none of `KEYS`.
    override: values that take precedence over both.
    """
    own = {key: value for key, value in (generation_config or {}).items() if key in KEYS and value is not None}
    return {key: _whole(value) for key, value in (own or dict(card or {})).items()} | dict(override)


def _whole(value: Any) -> Any:
    # Some files have whole numbers as floats.
    return int(value) if isinstance(value, float) and value.is_integer() else value
