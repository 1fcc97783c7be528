"""A sequence: one request's tokens, how far the model has computed them, and what its sampling remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.engine.types import (
    FinishReason,
    GenerationRequest,
    PromptLogprobs,
    PromptProgress,
    TokenEvent,
    TokenLogprobs,
)
from server.errors import LfmServeError

Event = TokenEvent | PromptProgress | PromptLogprobs | LfmServeError
Deliver = Callable[[Event], None]


@dataclass(slots=True, eq=False)
class Sequence:
    """State of one request inside the engine; touched only under the engine's lock or by the step that carries it.

    `tokens[:length]` are prompt and answer; the first `computed` of them are in the slot's state. `deliver` is called
    on the event loop, once for each token, before them once with the prompt's log-probabilities if they are asked for,
    and once with an error if it fails. `prompt_logprobs` are those of `tokens[1 : computed + 1]` until then. `cached`
    prompt tokens did not have to be computed; times are of the monotonic clock, in seconds.
    """

    request: GenerationRequest
    deliver: Deliver
    tokens: npt.NDArray[np.int64] = field(init=False)
    length: int = field(init=False)
    computed: int = 0
    slot: int | None = None
    in_flight: bool = False
    cancelled: bool = False
    cached: int = 0
    started_at: float = 0.0
    last_token_at: float = 0.0
    rng: np.random.Generator = field(init=False)
    counts: dict[int, int] = field(default_factory=dict)
    seen: npt.NDArray[np.int64] = field(init=False)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)

    def __post_init__(self) -> None:
        prompt = np.array(self.request.prompt, np.int64)
        self.length = len(prompt)
        self.tokens = np.concatenate([prompt, np.empty(self.request.max_tokens, np.int64)])
        # Counter-based and its own: what else is running does not change what a seed draws.
        seed = self.request.sampling.seed
        self.rng = np.random.Generator(np.random.Philox(None if seed is None else seed % 2**64))
        self.seen = np.unique(prompt)

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt)

    @property
    def generated(self) -> int:
        return self.length - self.prompt_length

    @property
    def remaining(self) -> int:
        """Tokens whose state is still to be computed: the rest of the prompt, or the one drawn last."""
        return self.length - self.computed

    def append(self, token: int) -> FinishReason | None:
        """Take a drawn token; says whether the sequence ends with it."""
        self.tokens[self.length] = token
        self.length += 1
        if token not in self.counts and token not in self.seen:
            self.seen = np.append(self.seen, token)
        self.counts[token] = self.counts.get(token, 0) + 1
        if token in self.request.stop_token_ids:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.generated == self.request.max_tokens else None


def is_last(event: Event) -> bool:
    """Whether nothing comes after `event`."""
    if isinstance(event, PromptProgress):
        return False
    return isinstance(event, LfmServeError) or event.finish is not None
