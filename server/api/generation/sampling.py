"""How a request wants tokens drawn, in the engine's terms: the model's defaults where it says nothing."""

from __future__ import annotations

from dataclasses import replace

from server.api.generation.fields import GenerationFields
from server.engine.types import SamplingParams

FIELDS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip


def sampling_params(asked: GenerationFields, defaults: SamplingParams, top_logprobs: int | None) -> SamplingParams:
    """The request's own values over `defaults`; `top_logprobs` as in SamplingParams."""
    given = {name: value for name in FIELDS if (value := getattr(asked, name)) is not None}
    return replace(
        defaults,
        **given,
        seed=asked.seed,
        logit_bias={int(token): bias for token, bias in (asked.logit_bias or {}).items()},
        top_logprobs=top_logprobs,
    )
