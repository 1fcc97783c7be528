"""The few values everything above the engine speaks in: what to generate, and the tokens that come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from server.engine.sampling.constraint import Constraint


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn; the defaults change nothing (a draw from the model's own distribution).

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1, `min_p` 0 and a penalty of 1 (repetition) or 0 (frequency,
    presence) are off. `logit_bias` is added to the logits of the token ids it names. `seed` None draws one.
    `top_logprobs` None gives no logprobs, 0 only the chosen token's.
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
    """Whose request it is and how to schedule it; travels unchanged from admission to the engine.

    id: names the request in the log.
    tenant: tenants take turns in the queue, however many requests each has.
    priority: among one tenant's requests, the lowest goes first.
    cache_salt: only requests with the same salt share cached prefixes.
    deadline: when the request must have finished (monotonic clock, seconds).
    """

    id: str = ""
    tenant: str = ""
    priority: int = 0
    cache_salt: str = ""
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to generate. `len(prompt) + max_tokens` is at most the engine's `max_model_len`, both at least 1.

    `prompt_logprobs` asks for the log-probabilities of the prompt's own tokens with that many alternatives to each;
    `max_tokens` may then be 0.

    Before `min_tokens` are generated none of `stop_token_ids` is drawn, unless the `constraint`, which is this
    sequence's alone, says when to end.

    `checkpoints` are positions in the prompt, in tokens, after which another request is likely to differ.
    `report_progress` requests PromptProgress events.
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
    """Why a sequence ended by itself."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural-log probabilities from the unmodified logits: the token's own, and the most likely ones with theirs."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Those of the prompt's tokens from the second on: nothing says how likely the first is.

    `finish` is set where nothing else was asked for (`max_tokens` 0).
    """

    tokens: tuple[TokenLogprobs, ...]
    finish: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How far a prompt of `total` tokens is: `processed`, of which `cached` were found; `seconds` since its start."""

    total: int
    cached: int
    processed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token. A sequence's last event has `finish`; with STOP, `token` is the stop token (no text)."""

    token: int
    logprobs: TokenLogprobs | None = None
    finish: FinishReason | None = None
