"""Defines the observation of a step and the statistics of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StepKind(StrEnum):
    """The kind of a step.

    DECODE: one token of every decoding sequence. PREFILL: one chunk of a prompt.
    """

    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class StepObservation:
    """Facts about one executed step.

    `threads`: number of threads of the session that executed the step.
    `sequences`: number of sequences in the batch.
    `tokens`: number of tokens computed, summed over the batch.
    `seconds`: duration of the whole step.
    `run_seconds`: duration of the model's run within the step; 0 if the step failed.
    `intervals`: for each sequence of a decode step, seconds since its previous token. Empty for a prefill step.
    `failed`: whether the step raised an error. The sequences of a failed step end.
    """

    kind: StepKind
    threads: int
    sequences: int
    tokens: int
    seconds: float
    run_seconds: float
    intervals: tuple[float, ...] = ()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Statistics of the engine at one moment.

    `cache_queried_tokens`, `cache_hit_tokens`, `cache_evicted_tokens` and `preemptions` are totals since the start of
    the engine. The other fields are current values.

    `running`: number of sequences with a slot.
    `waiting`: number of sequences in the queue.
    `suspended`: number of sequences whose client does not keep up. They have no slot and are not in the queue.
    `waiting_tokens`: number of tokens of the sequences in the queue.
    `slots`: maximum number of sequences that can run at once.
    `slot_tokens`: number of tokens that running sequences hold in their slots.
    `slot_tokens_budget`: limit on `slot_tokens`.
    `cache_tokens`: number of tokens in the prefix cache.
    `cache_bytes`: size of the prefix cache.
    `cache_bytes_budget`: limit on `cache_bytes`.
    `cache_window_bytes`: the part of `cache_bytes` that the convolution windows of checkpoints take.
    `cache_queried_tokens`: number of prompt tokens looked up in the prefix cache.
    `cache_hit_tokens`: number of prompt tokens found in the prefix cache.
    `cache_evicted_tokens`: number of tokens evicted from the prefix cache.
    `preemptions`: number of times that a sequence lost its slot because the slots held too many tokens.
    `oldest_step_since`: start of the step that has been running longest (monotonic clock, in seconds); None if no step
    is running.
    """

    running: int
    waiting: int
    waiting_tokens: int
    slots: int
    slot_tokens: int
    slot_tokens_budget: int
    suspended: int = 0
    cache_tokens: int = 0
    cache_bytes: int = 0
    cache_window_bytes: int = 0
    cache_bytes_budget: int = 0
    cache_queried_tokens: int = 0
    cache_hit_tokens: int = 0
    cache_evicted_tokens: int = 0
    preemptions: int = 0
    oldest_step_since: float | None = None

    @property
    def slot_usage(self) -> float:
        """Share of `slot_tokens_budget` in use, from 0 to 1. A sequence that runs alone may exceed the budget."""
        return min(1.0, self.slot_tokens / self.slot_tokens_budget)
