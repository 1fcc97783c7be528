"""Which sampling is in force where a request says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.engine.types import SamplingParams

KEYS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip
CARD = {"temperature": 0.3, "min_p": 0.15, "repetition_penalty": 1.05}
"""What the model cards of the LFM2 family recommend (LFM2-8B-A1B, "Generation parameters")."""


def sampling_defaults(
    generation_config: Mapping[str, Any] | None, is_lfm2: bool, override: Mapping[str, float]
) -> SamplingParams:
    """The model's own generation_config.json, else the card's for LFM2, else neutral; `override` wins over each."""
    own = {key: value for key, value in (generation_config or {}).items() if key in KEYS and value is not None}
    if not own and is_lfm2:
        own = dict(CARD)
    return SamplingParams(**(own | dict(override)))
