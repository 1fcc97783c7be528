"""The observation of each step, and the engine's statistics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StepKind(StrEnum):
    """One token of every decoding sequence, or one chunk of a prompt."""

    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class StepObservation:
    """Facts about one executed step.

    `threads`: threads of the session that ran it.
    `sequences`: number of sequences in the batch.
    `tokens`: tokens computed, summed over the batch.
    `seconds`: duration of the whole step.
    `run_seconds`: duration of the model's run within it; 0 if the step failed.
    `intervals`: in a decode step, seconds since the previous token of each sequence.
    `failed`: whether the step raised an error, which ends its sequences.
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

    Queried, hit and evicted tokens and preemptions count from the start of the engine; the rest are current values.

    `running`, `waiting`: sequences with a slot, and sequences in the queue.
    `suspended`: sequences whose client does not keep up; they have no slot and are not in the queue.
    `waiting_tokens`: tokens of the sequences in the queue.
    `slots`: most sequences that can run at once.
    `slot_tokens`, `slot_tokens_budget`: tokens that running sequences hold in their slots, and the limit.
    `cache_tokens`, `cache_bytes`, `cache_bytes_budget`: tokens and bytes in the prefix cache, and the limit in bytes.
    `cache_window_bytes`: the part of `cache_bytes` that holds the convolution windows of checkpoints.
    `cache_queried_tokens`, `cache_hit_tokens`: prompt tokens looked up in the prefix cache, and tokens found.
    `cache_evicted_tokens`: tokens evicted from the prefix cache.
    `preemptions`: sequences that lost their slot because memory ran out.
    `oldest_step_since`: start of the longest-running step (monotonic clock, in seconds); None if no step is running.
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
