"""Gives onnxruntime random nodes of the native operators, half of them with sizes that do not fit.

    python -m tests.kernels.fuzz_operators SECONDS SEED

Operands that fit must have a result, others a result or a refusal. Prints how many had which.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import numpy as np

from server.runtime.native.library import Library, load_library
from tests.kernels.reference import expert_block, quantized
from tests.kernels.test_operators import Arrays, session

Case = tuple[str, Arrays, Arrays, dict[str, int]]
"""The operator, its constants, its other inputs, and its attributes."""


def product(library: Library, rng: np.random.Generator, rows: int) -> Case:
    columns, depth = (int(n) for n in rng.integers(1, 200, 2))
    bits, zeros = int(rng.choice([4, 8])), bool(rng.integers(2))
    packed = quantized(rng, columns, depth, bits, zeros).packed(library)
    attributes = {"columns": columns, "depth": depth, "bits": bits, "zero_points": int(zeros)}
    bias = {"bias": rng.standard_normal(columns).astype(np.float32)} if rng.integers(2) else {}
    return "MatMul", {"w": packed, **bias}, {"x": rng.standard_normal((rows, depth)).astype(np.float32)}, attributes


def experts(library: Library, rng: np.random.Generator, rows: int) -> Case:
    count, hidden, inner = (int(n) for n in rng.integers((1, 1, 1), (6, 100, 60)))
    bits, zeros, chosen = int(rng.choice([4, 8])), bool(rng.integers(2)), int(rng.integers(1, count + 1))
    up, down = expert_block(rng, count, chosen, hidden, inner, bits=bits, zeros=zeros).packed(library)
    sizes = {"experts": count, "chosen": chosen, "hidden": hidden, "inner": inner, "bits": bits}
    biases = {
        "up_bias": rng.standard_normal((count, 2 * inner)).astype(np.float32),
        "down_bias": rng.standard_normal((count, hidden)).astype(np.float32),
    }
    x, logits = (rng.standard_normal((rows, n)).astype(np.float32) for n in (hidden, count))
    constants = {"logits": logits, "up": up, "down": down, **(biases if rng.integers(2) else {})}
    attributes = {**sizes, "up_zero_points": int(zeros), "down_zero_points": int(zeros), "gated": 1}
    return "Experts", constants, {"x": x, "logits": logits}, attributes


def router(library: Library, rng: np.random.Generator, rows: int) -> Case:
    count, hidden = (int(n) for n in rng.integers(1, 80, 2))
    x, weights = (rng.standard_normal((n, hidden)).astype(np.float32) for n in (rows, count))
    bias = {"bias": rng.standard_normal(count).astype(np.float32)} if rng.integers(2) else {}
    return "Router", {"w": weights, **bias}, {"x": x}, {"chosen": int(rng.integers(count + 1))}


def convolution(library: Library, rng: np.random.Generator, rows: int) -> Case:
    batch, hidden, taps = (int(n) for n in rng.integers((1, 1, 1), (4, 150, 8)))
    columns = taps - 1 + int(rng.integers(0 if taps > 1 else 1, 3))
    past, weight = (rng.standard_normal(shape, np.float32) for shape in ((batch, hidden, columns), (hidden, 1, taps)))
    x = rng.standard_normal((batch, rows, 3 * hidden), np.float32)
    bias = {"bias": rng.standard_normal(hidden).astype(np.float32)} if rng.integers(2) else {}
    return "Convolution", {"past": past, "weight": weight, **bias}, {"x": x, "past": past}, {}


def spoil(rng: np.random.Generator, constants: Arrays, inputs: Arrays, attributes: dict[str, int]) -> None:
    """Change one attribute, or the size of one input."""
    if attributes and rng.integers(2):
        name = str(rng.choice(list(attributes)))
        near = attributes[name] + int(rng.integers(-3, 4))
        attributes[name] = int(rng.choice([near, 0, -1, 1 << 24, 1 << 40, -(1 << 63)]))
        return
    arrays: Arrays = constants if rng.integers(2) else inputs
    name = str(rng.choice([n for n in arrays if n not in inputs] or ["x"]))
    if name in arrays:
        axis = int(rng.integers(arrays[name].ndim))
        arrays[name] = np.take(arrays[name], np.arange(int(rng.integers(arrays[name].shape[axis] + 1))), axis=axis)


def attempt(library: Library, rng: np.random.Generator) -> str:
    kinds = (product, experts, router, convolution)
    op, constants, inputs, attributes = kinds[rng.integers(len(kinds))](library, rng, int(rng.integers(0, 40)))
    if spoiled := bool(rng.integers(2)):
        spoil(rng, constants, inputs, attributes)
    try:
        shape: list[Any] = [None] * inputs["x"].ndim
        outputs = session(library, op, shape, constants, int(rng.integers(1, 4)), **attributes).run(None, inputs)
    except Exception:
        if not spoiled:
            raise
        return "refused"
    assert spoiled or np.isfinite(outputs[0]).all()
    return "computed"


def main() -> None:
    seconds, seed = (int(text) for text in sys.argv[1:])
    library, end, found = load_library(), time.monotonic() + seconds, Counter[str]()
    while time.monotonic() < end:
        case = seed + found.total()
        try:
            found[attempt(library, np.random.default_rng(case))] += 1
        except Exception:
            print(f"seed {case} fails")
            raise
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(found.items())))


if __name__ == "__main__":
    main()
