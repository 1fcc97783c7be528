"""The matrix product of every instruction set against float64, on random and adversarial input."""

from __future__ import annotations

import numpy as np
import pytest

from server.runtime.native.library import Library
from tests.kernels.reference import matmul_error_bound, quantized, rounded

FORMATS = [
    (4, False, 32),
    (4, True, 32),
    (8, False, 32),
    (8, True, 32),
    (4, True, 128),
    (8, False, 128),
    (4, False, 64),
]
SHAPES = [(64, 128), (16, 32), (1, 32), (17, 33), (200, 640), (130, 1000), (8, 2048), (48, 100)]  # columns, depth


@pytest.mark.parametrize(("bits", "zeros", "block"), FORMATS)
@pytest.mark.parametrize(("columns", "depth"), SHAPES)
def test_a_product_is_that_of_the_rounded_activations(
    library: Library, isa: str, rng: np.random.Generator, bits: int, zeros: bool, block: int, columns: int, depth: int
) -> None:
    matrix = quantized(rng, columns, depth, bits, zeros, block)
    packed = matrix.packed(library)
    for rows in (1, 2, 3, 4, 5, 7, 8, 33):
        x = rng.standard_normal((rows, depth)).astype(np.float32)
        y = library.matmul(matrix.form, packed, x, isa=isa)
        near = rounded(x) @ matrix.dense.T
        # A value halfway between two steps may round either way: by one step at most, and rarely.
        assert np.quantile(np.abs(y - near), 0.9) < 1e-4 * np.abs(matrix.dense).sum(axis=1).max()
        assert (np.abs(y - x.astype(np.float64) @ matrix.dense.T) <= matmul_error_bound(x, matrix.dense)).all()


@pytest.mark.parametrize("rows", range(1, 34))
def test_every_number_of_rows(library: Library, isa: str, rng: np.random.Generator, rows: int) -> None:
    matrix = quantized(rng, 80, 256, zeros=True)
    x = rng.standard_normal((rows, 256)).astype(np.float32)
    y = library.matmul(matrix.form, matrix.packed(library), x, isa=isa)
    assert (np.abs(y - x.astype(np.float64) @ matrix.dense.T) <= matmul_error_bound(x, matrix.dense)).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_row_has_the_same_bits_alone_and_among_others(
    library: Library, isa: str, rng: np.random.Generator, bits: int, zeros: bool
) -> None:
    matrix = quantized(rng, 72, 1100, bits, zeros)
    packed = matrix.packed(library)
    x = rng.standard_normal((300, 1100)).astype(np.float32)
    alone = np.concatenate([library.matmul(matrix.form, packed, x[i : i + 1], isa=isa) for i in range(len(x))])
    for rows in (2, 3, 4, 6, 9, 130, 300):
        np.testing.assert_array_equal(library.matmul(matrix.form, packed, x[:rows], isa=isa), alone[:rows])


def test_instruction_sets_agree_to_float32_rounding(library: Library, isa: str, rng: np.random.Generator) -> None:
    matrix = quantized(rng, 64, 512, zeros=True)
    packed = matrix.packed(library)
    x = (rng.standard_normal((9, 512)) * 10 ** rng.uniform(-3, 3, (9, 1))).astype(np.float32)
    expected = library.matmul(matrix.form, packed, x, isa="portable")
    size = np.abs(x).max(axis=1, keepdims=True)
    np.testing.assert_allclose(library.matmul(matrix.form, packed, x, isa=isa) / size, expected / size, atol=2e-5)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
def test_instruction_sets_for_one_architecture_give_the_same_bits(
    library: Library, isa: str, rng: np.random.Generator, bits: int, zeros: bool
) -> None:
    matrix = quantized(rng, 144, 1100, bits, zeros)
    packed = matrix.packed(library)
    alike = [name for name in library.isas if name != "portable"] or ["portable"]
    for rows in (1, 2, 3, 4, 11, 12, 13, 25, 130):
        x = rng.standard_normal((rows, 1100)).astype(np.float32)
        y = library.matmul(matrix.form, packed, x, isa=isa if isa in alike else alike[0])
        np.testing.assert_array_equal(y, library.matmul(matrix.form, packed, x, isa=alike[-1]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 3, 6])
def test_a_broken_activation_breaks_its_row_and_no_other(
    library: Library, isa: str, rng: np.random.Generator, value: float, rows: int
) -> None:
    matrix = quantized(rng, 40, 200)
    packed = matrix.packed(library)
    x = rng.standard_normal((rows + 1, 200)).astype(np.float32)
    whole = library.matmul(matrix.form, packed, x, isa=isa)
    x[rows, 199] = value
    y = library.matmul(matrix.form, packed, x, isa=isa)
    assert np.isnan(y[rows]).all()
    np.testing.assert_array_equal(y[:rows], whole[:rows])


@pytest.mark.parametrize(
    "fill",
    [
        pytest.param(lambda x: x * 0, id="zeros"),
        pytest.param(lambda x: x * 0 - 0.0, id="negative-zeros"),
        pytest.param(lambda x: x * np.float32(1e-40), id="subnormals"),
        pytest.param(lambda x: x * np.float32(1e-36), id="tiny"),
        pytest.param(lambda x: x * np.float32(1e34), id="huge"),
        pytest.param(lambda x: np.where(np.arange(x.shape[1]) == 77, np.float32(1e30), x), id="one-huge-value"),
        pytest.param(lambda x: np.where(np.arange(x.shape[1]) % 32 == 0, np.float32(1e-42), 0 * x), id="one-subnormal"),
        pytest.param(lambda x: np.sign(x), id="signs"),
    ],
)
def test_extreme_activations(library: Library, isa: str, rng: np.random.Generator, fill) -> None:
    matrix = quantized(rng, 40, 200, zeros=True)
    x = np.ascontiguousarray(fill(rng.standard_normal((5, 200)).astype(np.float32)), np.float32)
    y = library.matmul(matrix.form, matrix.packed(library), x, isa=isa)
    assert np.isfinite(y).all()
    assert (np.abs(y - x.astype(np.float64) @ matrix.dense.T) <= matmul_error_bound(x, matrix.dense)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_largest_weights_and_activations_do_not_overflow(library: Library, isa: str, bits: int) -> None:
    rng = np.random.default_rng(0)
    matrix = quantized(rng, 16, 256, bits, zeros=True)
    matrix.weights[:] = 255
    matrix.zeros[:] = 0  # type: ignore[index]
    dense = np.repeat(matrix.scales.astype(np.float64), 32, axis=1) * (2**bits - 1)
    for sign in (1, -1):
        x = np.full((6, 256), sign, np.float32)
        y = library.matmul(matrix.form, matrix.packed(library), x, isa=isa)
        np.testing.assert_allclose(y, x @ dense.T, rtol=1e-5)


def test_a_bias_is_added(library: Library, isa: str, rng: np.random.Generator) -> None:
    matrix = quantized(rng, 37, 64)
    packed = matrix.packed(library)
    x, bias = rng.standard_normal((5, 64)).astype(np.float32), rng.standard_normal(37).astype(np.float32)
    expected = library.matmul(matrix.form, packed, x, isa=isa) + bias
    np.testing.assert_array_equal(library.matmul(matrix.form, packed, x, bias, isa=isa), expected)
