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

CHECKPOINT_INTERVAL = 64
"""Tokens between checkpoints in the prefix cache, so that few are computed again behind any branch."""

HINT_DISTANCE = 16
"""Tokens between checkpoints that are only likely to be of use: one takes as much memory as some KV."""


@dataclass(slots=True, eq=False)
class Sequence:
    """State of one request inside the engine; touched only under the engine's lock or by the step that carries it.

    `tokens[:length]` are prompt and answer; the first `computed` of them are in the slot's state once it is `begun`,
    the first `saved` in the prefix cache. `known` is how many a look into the cache has found, before it is begun;
    `to_read` were left when its reading was begun last. `cached` prompt tokens did not have to be computed. `deliver`
    is called on the event loop: once for each token, before them once with the prompt's log-probabilities if they are
    asked for, and once with an error if it fails. `prompt_logprobs` are those of `tokens[1 : computed + 1]` until then.
    Times are of the monotonic clock, in seconds.
    """

    request: GenerationRequest
    deliver: Deliver
    queued_at: float
    tokens: npt.NDArray[np.int64] = field(init=False)
    length: int = field(init=False)
    computed: int = 0
    known: int = 0
    to_read: int = 0
    saved: int = 0
    cached: int = 0
    slot: int | None = None
    begun: bool = False
    in_flight: bool = False
    cancelled: bool = False
    started_at: float = 0.0
    last_token_at: float = 0.0
    rng: np.random.Generator = field(init=False)
    counts: dict[int, int] = field(default_factory=dict)
    _seen: npt.NDArray[np.int64] = field(init=False)
    _seen_set: set[int] = field(init=False)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    branches: set[int] = field(init=False)

    def __post_init__(self) -> None:
        prompt = np.array(self.request.prompt, np.int64)
        self.length = len(prompt)
        self.tokens = np.concatenate([prompt, np.empty(self.request.max_tokens, np.int64)])
        # Counter-based and its own: what else is running does not change what a seed draws.
        seed = self.request.sampling.seed
        self.rng = np.random.Generator(np.random.Philox(None if seed is None else seed % 2**64))
        self._seen_set = set(self.request.prompt)
        self._seen = np.empty(len(self._seen_set) + self.request.max_tokens, np.int64)
        self._seen[: len(self._seen_set)] = sorted(self._seen_set)
        # One token before the prompt's end: the same prompt again needs the logits after its last.
        self.branches = {*_spaced(self.request.checkpoints), len(prompt) - 1}

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt)

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        """The different tokens of prompt and answer."""
        return self._seen[: len(self._seen_set)]

    @property
    def generated(self) -> int:
        return self.length - self.prompt_length

    @property
    def remaining(self) -> int:
        """Tokens whose state is still to be computed: the rest of the prompt, or the one drawn last."""
        return self.length - max(self.computed, self.known)

    @property
    def is_ready(self) -> bool:
        """Whether all is computed but the token drawn last, so that it can decode."""
        return self.begun and self.generated > 0 and self.remaining == 1

    def checkpoints(self, begin: int, end: int) -> list[int]:
        """The numbers of tokens, more than `begin` and at most `end`, whose state is worth keeping."""
        first = begin // CHECKPOINT_INTERVAL + 1
        regular = range(first * CHECKPOINT_INTERVAL, end + 1, CHECKPOINT_INTERVAL)
        return sorted({*regular, *(at for at in self.branches if begin < at <= end)})

    def begin_again(self) -> None:
        """It has lost its slot: what was computed is to be found in the cache, or computed again."""
        self.begun, self.computed, self.saved = False, 0, 0
        if not self.generated:
            self.prompt_logprobs.clear()

    def append(self, token: int) -> FinishReason | None:
        """Take a drawn token; says whether the sequence ends with it."""
        self.tokens[self.length] = token
        self.length += 1
        if token not in self._seen_set:
            self._seen[len(self._seen_set)] = token
            self._seen_set.add(token)
        self.counts[token] = self.counts.get(token, 0) + 1
        if token in self.request.stop_token_ids:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.generated == self.request.max_tokens else None


def is_last(event: Event) -> bool:
    """Whether nothing comes after `event`."""
    if isinstance(event, PromptProgress):
        return False
    return isinstance(event, LfmServeError) or event.finish is not None


def _spaced(hints: tuple[int, ...]) -> list[int]:
    """`hints` without those close before another."""
    kept: list[int] = []
    for hint in sorted(hints, reverse=True):
        if not kept or kept[-1] - hint >= HINT_DISTANCE:
            kept.append(hint)
    return kept
