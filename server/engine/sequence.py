"""A sequence inside the engine: its tokens, progress and sampling state."""

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
"""Tokens between regular checkpoints in the prefix cache.

After a branch anywhere, at most this many are computed again.
"""

MAX_BACKLOG = 256
"""Tokens that may wait for a stream's consumer before the sequence is suspended."""

RESUME_BACKLOG = 128
"""A suspended sequence resumes once no more tokens than these wait for its consumer."""

MIN_HINT_SPACING = 16
"""Tokens between checkpoints at hints.

A checkpoint takes as much memory as the KV of several tokens.
"""


@dataclass(slots=True, eq=False)
class Sequence:
    """State of one sequence.

    Accessed only under the engine's lock, or by the running step that has the sequence. Times are in seconds of the
    monotonic clock.

    `deliver`: called on the event loop with each event.
    `queued_at`: when the request was submitted.
    `tokens`: int64 [prompt length + max_tokens]; `tokens[:length]` are the prompt and the answer so far.
    `computed`: number of leading tokens whose state is in the slot, once `prefill_started`.
    `expected_cached`: tokens the prefix cache had when the sequence got its slot; 0 once `prefill_started`.
    `prefill_total`: tokens that were left to compute when prefill last started.
    `saved`: number of leading tokens whose state is in the prefix cache.
    `cached`: prompt tokens found in the prefix cache when prefill first started.
    `slot`: index of the slot; None while the sequence waits and after it has left.
    `prefill_started`: whether the slot holds state of this sequence; False again after a preemption.
    `in_step`: whether a running step has the sequence.
    `cancelled`: whether the sequence leaves as soon as no step has it.
    `started_at`: when prefill first started; 0 before that.
    `last_token_at`: when the last token was drawn; 0 before the first.
    `rng`: random numbers for sampling, which depend on the seed alone.
    `bias_ids`, `biases`: the request's logit_bias, int64 and float32 [entries].
    `consumed`: tokens that the stream's consumer has taken; written on the event loop only.
    `counts`: how often each token occurs in the answer.
    `prompt_logprobs`: log-probabilities of `tokens[1 : computed + 1]`, if the request wants those of the prompt.
    `branch_points`: numbers of tokens after which other prompts are likely to differ, so a checkpoint is useful.
    """

    request: GenerationRequest
    deliver: Deliver
    queued_at: float
    tokens: npt.NDArray[np.int64] = field(init=False)
    length: int = field(init=False)
    computed: int = 0
    expected_cached: int = 0
    prefill_total: int = 0
    saved: int = 0
    cached: int = 0
    slot: int | None = None
    prefill_started: bool = False
    in_step: bool = False
    cancelled: bool = False
    consumed: int = 0
    started_at: float = 0.0
    last_token_at: float = 0.0
    rng: np.random.Generator = field(init=False)
    bias_ids: npt.NDArray[np.int64] = field(init=False)
    biases: npt.NDArray[np.float32] = field(init=False)
    counts: dict[int, int] = field(default_factory=dict)
    _seen: npt.NDArray[np.int64] = field(init=False)
    _seen_set: set[int] = field(init=False)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    branch_points: set[int] = field(init=False)

    def __post_init__(self) -> None:
        prompt = np.array(self.request.prompt, np.int64)
        self.length = len(prompt)
        self.tokens = np.concatenate([prompt, np.empty(self.request.max_tokens, np.int64)])
        # One counter-based generator per sequence: other sequences do not change what a seed draws.
        seed = self.request.sampling.seed
        self.rng = np.random.Generator(np.random.Philox(None if seed is None else seed % 2**64))
        bias = self.request.sampling.logit_bias
        self.bias_ids = np.fromiter(bias.keys(), np.int64, len(bias))
        self.biases = np.fromiter(bias.values(), np.float32, len(bias))
        self._seen_set = set(self.request.prompt)
        self._seen = np.empty(len(self._seen_set) + self.request.max_tokens, np.int64)
        self._seen[: len(self._seen_set)] = sorted(self._seen_set)
        # One token before the end of the prompt: if the same prompt comes again, its last token must be computed to
        # get logits.
        self.branch_points = {*_space_out(self.request.checkpoints), len(prompt) - 1}

    @property
    def prompt_length(self) -> int:
        """Number of tokens in the prompt."""
        return len(self.request.prompt)

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        """Distinct tokens of the prompt and the answer, int64 [distinct tokens]."""
        return self._seen[: len(self._seen_set)]

    @property
    def generated(self) -> int:
        """Number of tokens in the answer so far."""
        return self.length - self.prompt_length

    @property
    def backlog(self) -> int:
        """Number of tokens that wait for the stream's consumer."""
        return self.generated - self.consumed

    @property
    def remaining(self) -> int:
        """Number of tokens still to compute.

        These are the rest of the prompt, then the tokens drawn since the last step.
        """
        return self.length - max(self.computed, self.expected_cached)

    @property
    def is_ready_to_decode(self) -> bool:
        """Whether the only token still to compute is the one drawn last."""
        return self.prefill_started and self.generated > 0 and self.remaining == 1

    def checkpoints(self, begin: int, end: int) -> list[int]:
        """Return the numbers of tokens after which state is worth caching.

        They are more than `begin`, at most `end`, and ascending.
        """
        first = begin // CHECKPOINT_INTERVAL + 1
        regular = range(first * CHECKPOINT_INTERVAL, end + 1, CHECKPOINT_INTERVAL)
        return sorted({*regular, *(at for at in self.branch_points if begin < at <= end)})

    def reset_after_preemption(self) -> None:
        """Forget the state lost with the slot.

        It is restored from the prefix cache or computed again.
        """
        self.prefill_started, self.computed, self.saved = False, 0, 0
        if not self.generated:
            self.prompt_logprobs.clear()

    def append(self, token: int) -> FinishReason | None:
        """Add a drawn token; return the finish reason if it ends the sequence."""
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
    """Return whether `event` is the last one of its sequence."""
    if isinstance(event, PromptProgress):
        return False
    return isinstance(event, LfmServeError) or event.finish is not None


def _space_out(hints: tuple[int, ...]) -> list[int]:
    """Drop the hints that are too close before another one that is kept."""
    kept: list[int] = []
    for hint in sorted(hints, reverse=True):
        if not kept or kept[-1] - hint >= MIN_HINT_SPACING:
            kept.append(hint)
    return kept
