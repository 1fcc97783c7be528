"""What the engine tells whoever watches it: a record of each step, and counts at any moment. Knows no metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StepKind(StrEnum):
    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step that was carried out. `seconds` is all of it, `run_seconds` the model's part.

    `sequences` rows, `tokens` computed in all, `threads` of the session it ran on.
    `intervals`: for each token that was drawn and was not its sequence's first, the seconds since the one before it.
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
    """The engine at one moment. All but the running, waiting, used and budget figures only ever grow.

    `slot_tokens` are held by running sequences, of at most `slot_tokens_budget`; `cache_tokens` and `cache_bytes` by
    the prefix cache, of at most `cache_bytes_budget`, and `cache_window_bytes` of them are its checkpoints' convolution
    windows. Of `cache_queried_tokens` prompt tokens looked up,
    `cache_hit_tokens` were found; `cache_evicted_tokens` had to go. `preemptions` counts sequences set aside for want
    of memory. `oldest_step_since` (seconds of the monotonic clock) says when the longest of the steps in flight began,
    None where there is none.
    """

    running: int
    waiting: int
    waiting_tokens: int
    slots: int
    slot_tokens: int
    slot_tokens_budget: int
    cache_tokens: int = 0
    cache_bytes: int = 0
    cache_window_bytes: int = 0
    cache_bytes_budget: int = 0
    cache_queried_tokens: int = 0
    cache_hit_tokens: int = 0
    cache_evicted_tokens: int = 0
    preemptions: int = 0
    oldest_step_since: float | None = None
