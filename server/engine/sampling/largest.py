"""Finds the largest values of a row of logits or weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CLASSES = 1024
"""Number of classes that a long row is divided into, by id modulo CLASSES."""


def largest(row: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.int64]:
    """Return the ids of the `count` largest values of a row, ascending.

    row: [n], without NaN.
    count: 1 to n.
    """
    if count <= CLASSES <= len(row):
        # `count` classes have a maximum of at least `floor`, so no value below `floor` is among the largest.
        maxima = row[: len(row) // CLASSES * CLASSES].reshape(-1, CLASSES).max(axis=0)
        floor = np.partition(maxima, -count)[-count]
        ids = np.flatnonzero(row >= floor)
    else:
        ids = np.arange(len(row))
    return np.sort(ids[np.argpartition(row[ids], -count)[-count:]])
