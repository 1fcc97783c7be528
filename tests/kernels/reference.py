"""Quantized matrices, their products in float64, and direct calls of the kernels."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_int64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.runtime.native.library import ArrayPointer, Library, MatrixFormat

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Quantized:
    """A matrix [rows, depth] in onnxruntime's layout; `dense` is the same in float64, padding left out."""

    weights: NDArray[np.uint8]
    scales: NDArray[np.float16]
    zeros: NDArray[np.uint8] | None
    dense: FloatArray
    depth: int
    block: int
    bits: int

    @property
    def form(self) -> MatrixFormat:
        return MatrixFormat(len(self.dense), self.depth, self.bits, self.zeros is not None)

    def packed(self, library: Library) -> NDArray[np.uint8]:
        return library.pack(self.form, self.weights, self.scales, self.zeros, len(self.dense), self.block, 0)


def quantized(
    rng: np.random.Generator, rows: int, depth: int, bits: int = 4, zeros: bool = False, block: int = 32
) -> Quantized:
    """Random weights over the whole range of their bits."""
    blocks = -(-depth // block)
    values = rng.integers(0, 1 << bits, (rows, blocks * block), np.uint8)
    scales = rng.uniform(0.001, 0.02, (rows, blocks)).astype(np.float16)
    zero = rng.integers(0, 1 << bits, (rows, blocks), np.uint8) if zeros else np.full((rows, blocks), 1 << bits - 1)
    centred = values.astype(np.float64) - np.repeat(zero, block, axis=1)
    dense = (centred * np.repeat(scales.astype(np.float64), block, axis=1))[:, :depth]
    packed_zeros = pack_nibbles(zero.astype(np.uint8), bits) if zeros else None
    return Quantized(pack_nibbles(values, bits), scales, packed_zeros, dense, depth, block, bits)


def pack_nibbles(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return np.ascontiguousarray(values)
    if values.shape[1] % 2:
        values = np.pad(values, ((0, 0), (0, 1)))
    return np.ascontiguousarray(values[:, ::2] | values[:, 1::2] << 4)


def rounded(x: NDArray[Any]) -> FloatArray:
    """Activations as the kernels round them: int8 in blocks of 32."""
    x = np.asarray(x, np.float64)
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % 32))).reshape(len(x), -1, 32)
    scale = np.abs(padded).max(axis=2, keepdims=True) / 127
    scale = np.where(scale * 127 > 4e-37, scale, np.inf)
    q = np.round(padded / scale)
    return np.where(np.isinf(scale), 0, q * np.where(np.isinf(scale), 0, scale)).reshape(len(x), -1)[:, : x.shape[1]]


def matmul_error_bound(x: NDArray[Any], dense: FloatArray) -> FloatArray:
    """What rounding activations to int8, and float32 sums, can change at most: [rows, columns]."""
    x = np.abs(np.asarray(x, np.float64))
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % 32))).reshape(len(x), -1, 32)
    step = np.repeat(padded.max(axis=2) / 254 * 1.001, 32, axis=1)[:, : x.shape[1]]
    return step @ np.abs(dense).T + 1e-5 * (x @ np.abs(dense).T) + 1e-33


def top_softmax(logits: NDArray[Any], chosen: int) -> FloatArray:
    """[rows, experts]: softmax over each row's largest, 0 for the others."""
    logits = logits.astype(np.float64)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :chosen]
    weights = np.zeros_like(logits)
    best = np.take_along_axis(logits, order, axis=1)
    best = np.exp(best - best[:, :1])
    np.put_along_axis(weights, order, best / best.sum(axis=1, keepdims=True), axis=1)
    return weights


@dataclass(frozen=True)
class ExpertBlock:
    """Experts whose gates and ups lie in turn."""

    up: list[Quantized]
    down: list[Quantized]
    chosen: int
    up_bias: NDArray[np.float32] | None = None
    down_bias: NDArray[np.float32] | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Hidden and inner."""
        return self.down[0].dense.shape

    def packed(self, library: Library, gated: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        inner = self.sizes[1]
        form = MatrixFormat(-(-inner // 32) * 64, self.up[0].depth, self.up[0].bits, self.up[0].zeros is not None)
        up = [library.pack(form, e.weights, e.scales, e.zeros, 2 * inner, e.block, gated) for e in self.up]
        return np.stack(up), np.stack([e.packed(library) for e in self.down])

    def reference(self, x: NDArray[Any], logits: NDArray[Any]) -> FloatArray:
        """In float64, with activations rounded as the kernels round them."""
        weights = top_softmax(logits, self.chosen)
        y = np.zeros((len(x), self.sizes[0]))
        for expert, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            pairs = rounded(x) @ up.dense.T + (0 if self.up_bias is None else self.up_bias[expert])
            gate, value = pairs[:, ::2], pairs[:, 1::2]
            inner = gate / (1 + np.exp(-gate)) * value
            bias = 0 if self.down_bias is None else self.down_bias[expert]
            y += weights[:, expert, None] * (rounded(inner) @ down.dense.T + bias)
        return y


def expert_block(
    rng: np.random.Generator, experts: int, chosen: int, hidden: int, inner: int, **options: Any
) -> ExpertBlock:
    up = [quantized(rng, 2 * inner, hidden, **options) for _ in range(experts)]
    return ExpertBlock(up, [quantized(rng, hidden, inner, **options) for _ in range(experts)], chosen)


class Direct:
    """The library's experts and router on one thread, with an instruction set of choice."""

    def __init__(self, library: Library) -> None:
        self._library = library
        if isinstance(functions := library.functions, ctypes.CDLL):
            sizes = [c_int, c_int, c_int64]
            matrices = [c_int, *[ArrayPointer] * 4, *sizes, c_int64, *[c_int] * 4]
            functions.lfm_run_experts.argtypes = [*matrices, ArrayPointer, ArrayPointer, c_int64, ArrayPointer]
            weights = [c_int, ArrayPointer, ArrayPointer, *sizes]
            functions.lfm_run_router.argtypes = [*weights, ArrayPointer, c_int64, ArrayPointer]

    def experts(self, block: ExpertBlock, x: NDArray[Any], logits: NDArray[Any], isa: str) -> NDArray[np.float32]:
        up, down = block.packed(self._library)
        (hidden, inner), zeros = block.sizes, block.up[0].zeros is not None
        y = np.empty((len(x), hidden), np.float32)
        sizes = (len(block.up), block.chosen, hidden, inner, block.up[0].bits, zeros, zeros, 1)
        run = self._library.functions.lfm_run_experts
        biases = (block.up_bias, block.down_bias)
        assert not run(self._library.isas[isa], up, down, *biases, *sizes, x, logits, len(x), y)
        return y

    def router(
        self, weights: NDArray[Any], bias: NDArray[Any] | None, chosen: int, x: NDArray[Any], isa: str
    ) -> NDArray[np.float32]:
        y = np.empty((len(x), len(weights)), np.float32)
        sizes = (len(weights), chosen, weights.shape[1])
        self._library.functions.lfm_run_router(self._library.isas[isa], weights, bias, *sizes, x, len(x), y)
        return y
