"""Quantizes matrices to 4 bits by rounding to nearest.

The layout is that of onnxruntime's operators MatMulNBits, QMoE and GatherBlockQuantized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]

BLOCK = 32
"""The number of adjacent columns that share a scale and a zero point."""


@dataclass(frozen=True, slots=True)
class Int4:
    """A quantized matrix [rows, columns] with values `(nibble - zero_point) * scale`.

    packed: uint8 [rows, columns / 2].
    scales: float32 [rows, blocks], with one block for every BLOCK columns.
    zero_points: uint8 [rows, ceil(blocks / 2)].

    Two nibbles or zero points share a byte, the first one in the low bits. In a stack of matrices, each array has one
    more axis in front.
    """

    packed: ByteArray
    scales: FloatArray
    zero_points: ByteArray


def quantize(matrix: FloatArray) -> Int4:
    """Quantize a float32 matrix [rows, columns].

    `columns` must be a multiple of BLOCK. Zero is represented exactly.
    """
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK)
    low = np.minimum(blocks.min(axis=2), 0)
    high = np.maximum(blocks.max(axis=2), 0)
    scales = (high - low) / np.float32(15)  # 16 evenly spaced levels
    scales[scales == 0] = 1
    zero_points = np.round(-low / scales)
    steps = np.round(blocks / scales[..., None])
    steps += zero_points[..., None]
    nibbles = np.clip(steps, 0, 15, out=steps).astype(np.uint8).reshape(rows, columns)
    return Int4(_pack(nibbles), scales, _pack(zero_points.astype(np.uint8)))


def _pack(nibbles: ByteArray) -> ByteArray:
    """Pack pairs of adjacent nibbles into bytes. An odd last column is paired with 0."""
    if nibbles.shape[1] % 2:
        nibbles = np.pad(nibbles, ((0, 0), (0, 1)))
    return nibbles[:, ::2] | nibbles[:, 1::2] << np.uint8(4)
