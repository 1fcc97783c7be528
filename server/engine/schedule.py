"""Decides what a free session does next: a pure function over plain numbers, so that it can be tested without a model.

Decode batches and prefill chunks take turns while both wait: a long prompt costs running streams one chunk between two
of their tokens, and running streams cost a prompt one decode step between two of its chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StepKind(StrEnum):
    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do. Whatever is in flight in another session is left out of all numbers.

    `decoding`: sequences that wait for their next token (0 while a decode batch is in flight: it is one batch).
    `prompt_tokens`: for each sequence whose prompt is not done, in order of arrival, the tokens left of it.
    `last`: the kind of the step begun before this one.
    """

    decoding: int
    prompt_tokens: tuple[int, ...]
    last: StepKind | None


@dataclass(frozen=True, slots=True)
class Step:
    """One decode of the whole batch, or `tokens` more of the prompt at `index` of `Load.prompt_tokens`."""

    kind: StepKind
    index: int = 0
    tokens: int = 0


def next_step(load: Load, prefill_chunk: int) -> Step | None:
    """The next step of at most `prefill_chunk` prompt tokens, or None when there is nothing to do."""
    if load.prompt_tokens and not (load.decoding and load.last is StepKind.PREFILL):
        return Step(StepKind.PREFILL, 0, min(prefill_chunk, load.prompt_tokens[0]))
    if load.decoding:
        return Step(StepKind.DECODE)
    return None
