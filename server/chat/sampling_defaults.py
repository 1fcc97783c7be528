"""Chooses the sampling parameters for requests that set none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip


def sampling_defaults(
    generation_config: Mapping[str, Any] | None, card: Mapping[str, float] | None, override: Mapping[str, float]
) -> dict[str, Any]:
    """Return the default sampling parameters of a model; those it leaves out are neutral.

    They come from its generation_config.json. A model that sets none of `KEYS` there gets the values of its `card`.
    Entries of `override` replace both. Values from the file are not checked, but whole numbers written as floats
    become integers.
    """
    own = {key: value for key, value in (generation_config or {}).items() if key in KEYS and value is not None}
    return {key: _whole(value) for key, value in (own or dict(card or {})).items()} | dict(override)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
