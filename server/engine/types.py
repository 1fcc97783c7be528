"""The engine's inputs and outputs: generation requests and events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from server.engine.sampling.constraint import Constraint


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to draw the next token.

    The defaults draw from the model's own distribution.

    `temperature`: divides the logits; 0 draws greedily.
    `top_k`: keep the k likeliest tokens; 0 keeps all.
    `top_p`: keep the smallest set of likeliest tokens with this probability, at least one; 1 keeps all.
    `min_p`: keep tokens with at least this fraction of the likeliest token's probability; 0 keeps all.
    `repetition_penalty`: divides (or multiplies, if negative) the logits of tokens that occurred; 1 is off.
    `frequency_penalty`: subtracted from a token's logit for each time it occurs in the answer; 0 is off.
    `presence_penalty`: subtracted once from the logit of each token that occurs in the answer; 0 is off.
    `logit_bias`: added to logits, by token id.
    `seed`: seed of the draws; None picks a random one.
    `top_logprobs`: number of alternatives whose log-probabilities are returned besides the drawn token's; None
    returns no log-probabilities.
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
    """The identity of a request and how to schedule it.

    It stays unchanged from admission to the engine.

    `id`: identifies the request in the log.
    `tenant`: tenants take turns for slots, regardless of how many requests each has.
    `priority`: within a tenant, lower values go first.
    `cache_salt`: only requests with the same salt share cached prefixes.
    `deadline`: when the request must have finished (monotonic clock, in seconds).
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
    `max_tokens`: most tokens to generate; at least 1, or 0 if `prompt_logprobs` is set.
    `stop_token_ids`: tokens that end the answer.
    `min_tokens`: no stop token is drawn before this many tokens, unless the `constraint` sets a mask.
    `constraint`: masks the next tokens; must not be shared with other sequences.
    `prompt_logprobs`: number of alternatives to return with the log-probability of each prompt token; None returns
    no log-probabilities of the prompt.
    `checkpoints`: numbers of prompt tokens after which other requests are likely to differ.
    `report_progress`: whether to send PromptProgress events.
    `context`: tenant, priority and cache salt of the request.
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
    """Why a sequence ended without an error.

    STOP: it drew a stop token. LENGTH: it has `max_tokens` tokens.
    """

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural log-probabilities at one position, computed from the unmodified logits.

    `logprob`: that of the token itself.
    `top`: (token id, log-probability) of the likeliest tokens, the likeliest first.
    """

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Log-probabilities of a prompt's own tokens.

    `tokens`: one entry per prompt token from the second on; no logits precede the first.
    `finish`: set if the sequence ends with this event, because `max_tokens` is 0.
    """

    tokens: tuple[TokenLogprobs, ...]
    finish: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """Progress of a prefill.

    `total`: tokens in the prompt.
    `cached`: prompt tokens found in the prefix cache.
    `processed`: prompt tokens whose state is available, including the cached ones.
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
    `finish`: set on the last event of a sequence. With STOP, `token` is the stop token, which is not part of the text.
    """

    token: int
    logprobs: TokenLogprobs | None = None
    finish: FinishReason | None = None
