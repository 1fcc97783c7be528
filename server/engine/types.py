"""Defines the engine's inputs and outputs: generation requests and events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from server.engine.sampling.constraint import Constraint


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Parameters for drawing the next token.

    With the defaults, tokens are drawn from the model's unmodified distribution.

    `temperature`: divides the logits; 0 always draws the likeliest token.
    `top_k`: keep only the k likeliest tokens; 0 keeps all.
    `top_p`: keep only as many of the likeliest tokens as are needed for their probabilities to add up to `top_p`. 1
    keeps all tokens, and 0 only the likeliest.
    `min_p`: keep only tokens whose probability is at least this fraction of the likeliest token's; 0 keeps all.
    `repetition_penalty`: divides positive logits, and multiplies negative logits, of tokens that occur in the prompt or
    the answer; 1 is off.
    `frequency_penalty`: subtracted from a token's logit for each time it occurs in the answer; 0 is off.
    `presence_penalty`: subtracted once from the logit of each token that occurs in the answer; 0 is off.
    `logit_bias`: numbers to add to logits, by token id.
    `seed`: seed of the draws; None uses a random seed.
    `top_logprobs`: number of the likeliest tokens to return at each position of the answer, with their
    log-probabilities. The log-probability of the drawn token is returned as well. None returns no log-probabilities.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    seed: int | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The identity of a request, and how the engine schedules it.

    The context is created when the request is admitted, and does not change on its way to the engine.

    `id`: identifies the request in the log.
    `tenant`: owner of the request. Tenants take turns for slots, regardless of how many requests each tenant has.
    `priority`: within a tenant, requests with lower values go first.
    `cache_salt`: only requests with the same salt share cached prefixes.
    `deadline`: time by which the request must have finished (monotonic clock, in seconds).
    """

    id: str = ""
    tenant: str = ""
    priority: int = 0
    cache_salt: str = ""
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to generate.

    `len(prompt) + max_tokens` must not exceed the engine's `max_model_len`.

    `prompt`: token ids, at least one.
    `max_tokens`: maximum number of tokens to generate; at least 1, or 0 if `prompt_logprobs` is set.
    `stop_token_ids`: tokens that end the answer.
    `min_tokens`: no stop token is drawn before the answer has this many tokens. Ignored whenever `constraint` sets a
    mask.
    `constraint`: decides which tokens may come next; must not be shared with other sequences.
    `prompt_logprobs`: number of the likeliest tokens to return at each position of the prompt, with their
    log-probabilities. The log-probability of the prompt's own token is returned as well. None returns no
    log-probabilities for the prompt.
    `checkpoints`: numbers of prompt tokens after which other prompts are likely to diverge from this one. They suggest
    where the prefix cache should save checkpoints.
    `report_progress`: whether to send PromptProgress events.
    `context`: identity and scheduling of the request.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop_token_ids: frozenset[int] = frozenset()
    min_tokens: int = 0
    constraint: Constraint | None = None
    prompt_logprobs: int | None = None
    checkpoints: tuple[int, ...] = ()
    report_progress: bool = False
    context: RequestContext = RequestContext()


class FinishReason(StrEnum):
    """The reason why a sequence ended without an error.

    STOP: the sequence drew a stop token. LENGTH: the sequence reached `max_tokens` tokens.
    """

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural log-probabilities at one position.

    They are computed from the unmodified logits.

    `logprob`: log-probability of the token itself.
    `top`: (token id, log-probability) pairs of the likeliest tokens, the likeliest first.
    """

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Log-probabilities of a prompt's own tokens.

    `tokens`: one entry for each prompt token after the first. No logits predict the first token.
    `finish`: LENGTH if `max_tokens` is 0, so that the sequence ends with this event; otherwise None.
    """

    tokens: tuple[TokenLogprobs, ...]
    finish: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """Progress of a prefill.

    `total`: number of tokens in the prompt.
    `cached`: number of prompt tokens found in the prefix cache.
    `processed`: number of prompt tokens whose state is available, including the cached ones.
    `seconds`: time since prefill started.
    """

    total: int
    cached: int
    processed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token.

    `logprobs`: None unless the request wants log-probabilities.
    `finish`: reason why the sequence ended; None unless this is its last event. With STOP, `token` is the stop token.
    The stop token is not part of the text.
    """

    token: int
    logprobs: TokenLogprobs | None = None
    finish: FinishReason | None = None
