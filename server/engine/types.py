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
    """Parameters for drawing the next token. The defaults change no probabilities.

    temperature: divides the logits; 0 draws the likeliest token.
    top_k: keeps the k likeliest tokens; 0 keeps all.
    top_p: keeps the likeliest tokens until their probabilities add up to this; 1 keeps all.
    min_p: keeps tokens with at least this fraction of the highest probability; 0 keeps all.
    repetition_penalty: divides positive and multiplies negative logits of tokens in prompt and answer; 1 is off.
    frequency_penalty: subtracted from a token's logit for each occurrence in the answer; 0 is off.
    presence_penalty: subtracted once from the logit of each token in the answer; 0 is off.
    logit_bias: maps token ids to the values added to their logits.
    seed: seed of the draws; None for a random one.
    top_logprobs: number of likeliest tokens to report besides the drawn one; None for no log-probabilities.
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

    id: id in the log.
    tenant: owner of the request; tenants take turns for slots.
    priority: order within a tenant, lowest first.
    cache_salt: only requests with the same salt share cached prefixes.
    deadline: time at which the API layer ends the request, in monotonic seconds.
    """

    id: str = ""
    tenant: str = ""
    priority: int = 0
    cache_salt: str = ""
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to generate.

    Its prompt and answer have at most `max_model_len` tokens together.

    prompt: token ids, at least one.
    max_tokens: maximum number of tokens to generate; 0 only with `prompt_logprobs`.
    stop_token_ids: tokens that end the answer.
    min_tokens: minimum number of tokens before a stop token; ignored if `constraint` sets a mask.
    constraint: decides which tokens may come next, for this sequence only; None if all may.
    prompt_logprobs: number of likeliest tokens to report besides each prompt token; None for no log-probabilities.
    checkpoints: numbers of prompt tokens after which other prompts may diverge.
    report_progress: whether to send PromptProgress events.
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

    STOP: it drew a stop token.
    LENGTH: it reached `max_tokens`.
    """

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural log-probabilities at one position, from the unmodified logits.

    logprob: log-probability of the token itself.
    top: (token id, log-probability) of the likeliest tokens, likeliest first.
    """

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Log-probabilities of a prompt's own tokens.

    tokens: one entry for each token but the first, which nothing predicts.
    finish: LENGTH if `max_tokens` is 0, otherwise None.
    """

    tokens: tuple[TokenLogprobs, ...]
    finish: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """Progress of a prefill.

    total: number of tokens in the prompt.
    cached: number of tokens found in the prefix cache.
    processed: number of tokens whose state is available, including cached ones.
    seconds: time since prefill started.
    """

    total: int
    cached: int
    processed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token.

    drawn_at: when the token was drawn (monotonic clock, in seconds).
    logprobs: None unless the request wants them.
    finish: why the sequence ended; None if more events follow. If it is STOP, `token` is the stop token.
    """

    token: int
    drawn_at: float
    logprobs: TokenLogprobs | None = None
    finish: FinishReason | None = None
