"""Defines a sequence inside the engine: its tokens, progress and sampling state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.engine.disk_tier.sequence_blocks import SequenceBlocks
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
"""The number of tokens between regular checkpoints in the prefix cache.

If a prompt diverges from a cached prompt, at most this many of their shared tokens are computed again.
"""

MAX_BACKLOG = 256
"""The backlog, in tokens, at which a sequence is suspended.

The backlog of a sequence is the number of generated tokens that its stream's consumer has not received yet.
"""

RESUME_BACKLOG = 128
"""The backlog, in tokens, at or below which a suspended sequence resumes."""

MIN_HINT_SPACING = 16
"""The minimum number of tokens between two checkpoints that a request suggests.

`GenerationRequest.checkpoints` contains these suggestions, called hints. A checkpoint takes as much memory as the KV of
several tokens.
"""


@dataclass(slots=True, eq=False)
class Sequence:
    """The state of one sequence.

    A sequence may be accessed only under the engine's lock, or by the running step that includes the sequence. Times
    are in seconds of the monotonic clock.

    `deliver`: called on the event loop with each event.
    `queued_at`: time when the request was submitted.
    `tokens`: int64 [prompt length + max_tokens]; `tokens[:length]` contains the prompt and the answer so far.
    `computed`: number of leading tokens whose state is in the slot; 0 before prefill starts.
    `expected_cached`: number of tokens found in the prefix cache when the sequence got its slot; 0 after prefill has
    started.
    `prefill_total`: number of tokens that were left to compute when prefill last started.
    `saved`: number of leading tokens whose state is in the prefix cache.
    `cached`: number of prompt tokens found in the prefix cache when prefill first started.
    `slot`: index of the slot; None if the sequence has no slot.
    `prefill_started`: whether the slot holds state of this sequence; False again after a preemption.
    `in_step`: whether the sequence is part of a running step.
    `cancelled`: whether the sequence must be removed as soon as no running step includes it.
    `started_at`: time when prefill first started; 0 before that.
    `last_token_at`: time when the last token was drawn; 0 before the first.
    `rng`: generator of the random numbers for sampling. The numbers depend on the request's seed only.
    `bias_ids`, `biases`: the request's logit_bias, int64 and float32 [entries].
    `consumed`: number of tokens that the stream's consumer has received; written on the event loop only.
    `counts`: number of occurrences of each token in the answer.
    `prompt_logprobs`: log-probabilities of `tokens[1 : computed + 1]`; empty unless the request wants them.
    `blocks`: the sequence's blocks in the prefix cache on disk; None if there is no such cache.
    `branch_points`: positions at which other prompts are likely to diverge, so that checkpoints are useful. A position
    is a number of leading tokens.
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
    blocks: SequenceBlocks | None = None
    branch_points: set[int] = field(init=False)

    def __post_init__(self) -> None:
        prompt = np.array(self.request.prompt, np.int64)
        self.length = len(prompt)
        self.tokens = np.concatenate([prompt, np.empty(self.request.max_tokens, np.int64)])
        # Each sequence has its own counter-based generator, so its draws do not depend on other sequences.
        seed = self.request.sampling.seed
        self.rng = np.random.Generator(np.random.Philox(None if seed is None else seed % 2**64))
        bias = self.request.sampling.logit_bias
        self.bias_ids = np.fromiter(bias.keys(), np.int64, len(bias))
        self.biases = np.fromiter(bias.values(), np.float32, len(bias))
        self._seen_set = set(self.request.prompt)
        self._seen = np.empty(len(self._seen_set) + self.request.max_tokens, np.int64)
        self._seen[: len(self._seen_set)] = sorted(self._seen_set)
        # Add a branch point one token before the end of the prompt: if the same prompt comes again, its last token must
        # be computed to get its logits.
        self.branch_points = {*_space_out(self.request.checkpoints), len(prompt) - 1}

    @property
    def prompt_length(self) -> int:
        """Number of tokens in the prompt."""
        return len(self.request.prompt)

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        """The distinct tokens of the prompt and the answer, int64 [distinct tokens]."""
        return self._seen[: len(self._seen_set)]

    @property
    def generated(self) -> int:
        """Number of tokens in the answer so far."""
        return self.length - self.prompt_length

    @property
    def backlog(self) -> int:
        """Number of tokens that the stream's consumer has not received yet."""
        return self.generated - self.consumed

    @property
    def remaining(self) -> int:
        """Number of known tokens that are not computed yet.

        During prefill, this is the number of prompt tokens left. Afterwards, it is the number of tokens drawn in the
        last step. Tokens that the prefix cache is expected to supply do not count.
        """
        return self.length - max(self.computed, self.expected_cached)

    @property
    def awaits_disk(self) -> bool:
        """Whether prefill must not start yet because cached state is being read from disk."""
        return self.blocks is not None and self.blocks.deadline is not None

    @property
    def is_ready_to_decode(self) -> bool:
        """Whether the last drawn token is the only token not computed yet."""
        return self.prefill_started and self.generated > 0 and self.remaining == 1

    def checkpoints(self, begin: int, end: int) -> list[int]:
        """Return the positions from `begin` + 1 to `end` at which to cache the state.

        A position is a number of leading tokens. The positions are in ascending order.
        """
        first = begin // CHECKPOINT_INTERVAL + 1
        regular = range(first * CHECKPOINT_INTERVAL, end + 1, CHECKPOINT_INTERVAL)
        return sorted({*regular, *(at for at in self.branch_points if begin < at <= end)})

    def reset_after_preemption(self) -> None:
        """Reset the fields that describe the state in the lost slot.

        That state is later restored from the prefix cache or computed again.
        """
        self.prefill_started, self.computed, self.saved = False, 0, 0
        if not self.generated:
            self.prompt_logprobs.clear()

    def append(self, token: int) -> FinishReason | None:
        """Append a drawn token.

        Returns the finish reason if the token ends the sequence, otherwise None.
        """
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
    """Drop suggested checkpoints that are too close to others.

    `hints`: positions of the checkpoints that a request suggests.

    Returns positions at least MIN_HINT_SPACING tokens apart, in descending order. Of two positions that are too close,
    the later one is kept.
    """
    kept: list[int] = []
    for hint in sorted(hints, reverse=True):
        if not kept or kept[-1] - hint >= MIN_HINT_SPACING:
            kept.append(hint)
    return kept
