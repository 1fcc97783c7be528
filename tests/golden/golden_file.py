"""The answers of transformers in one small file, which tools/record_goldens.py writes and test_golden.py reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STRIDE = 4
"""Logits are kept of every fourth id of the vocabulary."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One prompt, the greedy answer, and two rows of logits [2, vocabulary / STRIDE].

    The rows are those that chose the answer's first and its last token.
    """

    prompt: list[int]
    answer: list[int]
    logits: NDArray[np.float32]


def save(path: Path, goldens: list[Golden]) -> None:
    np.savez_compressed(
        path,
        prompts=_flat([golden.prompt for golden in goldens]),
        prompt_lengths=[len(golden.prompt) for golden in goldens],
        answers=_flat([golden.answer for golden in goldens]),
        answer_lengths=[len(golden.answer) for golden in goldens],
        logits=np.stack([golden.logits for golden in goldens]),
    )


def load(path: Path) -> list[Golden]:
    with np.load(path) as file:
        prompts = _split(file["prompts"], file["prompt_lengths"])
        answers = _split(file["answers"], file["answer_lengths"])
        return [Golden(*parts) for parts in zip(prompts, answers, file["logits"], strict=True)]


def _flat(rows: list[list[int]]) -> NDArray[np.int32]:
    return np.array([token for row in rows for token in row], np.int32)


def _split(flat: NDArray[np.int32], lengths: NDArray[np.int64]) -> list[list[int]]:
    return [part.tolist() for part in np.split(flat, np.cumsum(lengths)[:-1])]
