"""A sequence inside the engine: its tokens, progress and sampling state."""

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
"""Number of tokens between regular checkpoints in the prefix cache.

A prompt that diverges from a cached one recomputes at most this many shared tokens.
"""

MAX_BACKLOG = 256
"""Backlog at which a sequence is suspended, so that it loses its slot.

The backlog is the number of tokens that the consumer has not received.
"""

RESUME_BACKLOG = 128
"""Backlog at which a suspended sequence resumes."""

MIN_HINT_SPACING = 16
"""Minimum number of tokens between two checkpoints that a request suggests.

A checkpoint takes as much memory as the KV of several tokens.
"""


@dataclass(slots=True, eq=False)
class Sequence:
    """The state of one sequence. Times are monotonic seconds.

    Access needs the engine's lock, except for the worker that runs the sequence's current step.

    deliver: called on the event loop with each event.
    queued_at: time of the request.
    tokens: int64 [prompt length + max_tokens]; `tokens[:length]` are prompt and answer so far.
    computed: number of leading tokens whose state is in the slot.
    expected_cached: number of tokens that prefill is expected to find in the prefix cache; 0 once prefill starts.
    prefill_total: number of tokens that were left to compute when prefill last started.
    saved: number of leading tokens whose state is in the prefix cache.
    cached: number of prompt tokens found in the prefix cache when prefill first started.
    slot: index of the slot; None if the sequence is not running.
    prefill_started: whether the slot holds state of this sequence.
    in_step: whether a running step includes the sequence.
    cancelled: whether to remove the sequence once no step includes it.
    started_at: time at which prefill first started; 0 before.
    last_token_at: time of the last draw; 0 before the first draw.
    rng: generator of random numbers for the draws; independent of other sequences.
    bias_ids: token ids in logit_bias, int64 [entries].
    biases: values in logit_bias, float32 [entries].
    consumed: number of tokens that the consumer has received; written on the event loop only.
    counts: number of occurrences of each token in the answer.
    prompt_logprobs: log-probabilities of the computed prompt tokens, from the second on; empty unless requested.
    blocks: the sequence's blocks in the prefix cache on disk; None before they are looked up.
    branch_points: numbers of leading tokens after which other prompts may diverge.
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
        """Distinct tokens of prompt and answer, int64 [distinct tokens]."""
        return self._seen[: len(self._seen_set)]

    @property
    def generated(self) -> int:
        """Number of tokens in the answer so far."""
        return self.length - self.prompt_length

    @property
    def backlog(self) -> int:
        """Number of tokens that the consumer has not received yet."""
        return self.generated - self.consumed

    @property
    def remaining(self) -> int:
        """Number of known tokens that are not computed yet.

        Tokens that the prefix cache is expected to supply do not count.
        """
        return self.length - max(self.computed, self.expected_cached)

    @property
    def awaits_disk(self) -> bool:
        """Whether prefill is waiting for cached state from disk."""
        return self.blocks is not None and self.blocks.deadline is not None

    @property
    def is_ready_to_decode(self) -> bool:
        """Whether all tokens but the last drawn one are computed."""
        return self.prefill_started and self.generated > 0 and self.remaining == 1

    def checkpoints(self, begin: int, end: int) -> list[int]:
        """Return where to cache the state within a range of tokens.

        The positions are ascending numbers of leading tokens, from `begin` + 1 to `end`.
        """
        first = begin // CHECKPOINT_INTERVAL + 1
        regular = range(first * CHECKPOINT_INTERVAL, end + 1, CHECKPOINT_INTERVAL)
        return sorted({*regular, *(at for at in self.branch_points if begin < at <= end)})

    def reset_after_preemption(self) -> None:
        """Reset the fields that describe the lost slot's state."""
        self.prefill_started, self.computed, self.saved = False, 0, 0
        if not self.generated:
            self.prompt_logprobs.clear()

    def append(self, token: int) -> FinishReason | None:
        """Append a drawn token.

        Returns the finish reason, or None if the sequence goes on.
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
    """Drop suggested checkpoints that are too close to a later one.

    Returns the remaining ones in descending order, at least MIN_HINT_SPACING tokens apart.
    """
    kept: list[int] = []
    for hint in sorted(hints, reverse=True):
        if not kept or kept[-1] - hint >= MIN_HINT_SPACING:
            kept.append(hint)
    return kept
