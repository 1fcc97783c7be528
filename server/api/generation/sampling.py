"""Converts the sampling fields of a request to the engine's `SamplingParams`."""

from __future__ import annotations

from dataclasses import replace

from server.api.generation.fields import GenerationFields
from server.engine.types import SamplingParams

FIELDS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip


def sampling_params(body: GenerationFields, defaults: SamplingParams, top_logprobs: int | None) -> SamplingParams:
    """Return the sampling parameters of a request.

    defaults: values of parameters that `body` does not set.
    top_logprobs: number of most likely tokens to report per position; None to report no log-probabilities.
    """
    given = {name: value for name in FIELDS if (value := getattr(body, name)) is not None}
    return replace(
        defaults,
        **given,
        seed=body.seed,
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
        top_logprobs=top_logprobs,
    )
