"""Chooses the sampling parameters for requests that set none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.engine.types import SamplingParams

KEYS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip
CARD = {"temperature": 0.3, "min_p": 0.15, "repetition_penalty": 1.05}
"""Recommended by the model cards of the LFM2 family (LFM2-8B-A1B, "Generation parameters")."""


def sampling_defaults(
    generation_config: Mapping[str, Any] | None, is_lfm2: bool, override: Mapping[str, float]
) -> SamplingParams:
    """Return the default sampling parameters of a model.

    They come from its generation_config.json. A model that sets none of `KEYS` there gets `CARD` if it is an LFM2
    model, and neutral values otherwise. Entries of `override` replace both.
    """
    own = {key: value for key, value in (generation_config or {}).items() if key in KEYS and value is not None}
    if not own and is_lfm2:
        own = dict(CARD)
    return SamplingParams(**(own | dict(override)))
