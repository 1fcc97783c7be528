"""Round-to-nearest 4-bit weights in the packing of MatMulNBits, QMoE and GatherBlockQuantized. Knows no graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]

BLOCK = 32
"""Columns that share a scale and a zero point."""


@dataclass(frozen=True, slots=True)
class Int4:
    """A matrix [rows, columns] as `(nibble - zero_point) * scale`, two nibbles a byte, the lower one first.

    `packed` is [rows, columns / 2], `scales` [rows, blocks], `zero_points` [rows, ceil(blocks / 2)], where there are
    columns / BLOCK blocks. A stack of matrices has one axis more in front.
    """

    packed: ByteArray
    scales: FloatArray
    zero_points: ByteArray


def quantize(matrix: FloatArray) -> Int4:
    """Quantize [rows, columns], columns a multiple of BLOCK; no weight moves by more than half its block's scale.

    A block's 16 steps span its values and zero, so that zero stays exactly zero.
    """
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK)
    low = np.minimum(blocks.min(axis=2), 0)
    high = np.maximum(blocks.max(axis=2), 0)
    scales = (high - low) / np.float32(15)
    scales[scales == 0] = 1
    zero_points = np.round(-low / scales)
    steps = np.round(blocks / scales[..., None])
    steps += zero_points[..., None]
    nibbles = np.clip(steps, 0, 15, out=steps).astype(np.uint8).reshape(rows, columns)
    return Int4(_pack(nibbles), scales, _pack(zero_points.astype(np.uint8)))


def _pack(nibbles: ByteArray) -> ByteArray:
    """Two neighbours a byte; a last one without neighbour is paired with 0."""
    if nibbles.shape[1] % 2:
        nibbles = np.pad(nibbles, ((0, 0), (0, 1)))
    return nibbles[:, ::2] | nibbles[:, 1::2] << np.uint8(4)
