"""Summaries of tensors: the same, transposed, reordered and different are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from harness.numerics.sketch import SAME, Index, relative, same_values, sketch, transposed

A = np.random.default_rng(0).standard_normal((2, 1, 30, 40))


@pytest.mark.covers("T1-02")
def test_a_reshaped_tensor_has_the_same_summary() -> None:
    assert relative(sketch(A), sketch(A.reshape(60, 40))) == 0.0
    assert sketch(A).key == sketch(A.reshape(-1)).key


def test_the_distance_is_that_of_the_tensors() -> None:
    for seed in range(20):
        other = A + 1e-3 * np.random.default_rng(seed).standard_normal(A.shape)
        real = np.linalg.norm(other - A) / np.linalg.norm(other)
        assert relative(sketch(A), sketch(other)) == pytest.approx(real, rel=0.7)


def test_a_small_tensor_has_its_exact_distance() -> None:
    x, y = np.arange(5.0), np.arange(5.0) + 0.25
    assert relative(sketch(x), sketch(y)) == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(y))


def test_float32_rounding_of_a_constant_is_the_same_tensor_and_five_percent_is_not() -> None:
    index = Index([sketch(A * 0.1)])
    assert index.find(sketch(A * float(np.float32(0.1)))) == 0
    assert index.find(sketch(A * 0.105)) is None
    assert SAME < 1e-5


def test_a_transposed_tensor_is_found_and_a_reordered_one_is_not() -> None:
    turned, swapped = np.transpose(A, (0, 3, 2, 1)), A[:, :, ::-1]
    assert transposed(sketch(turned), sketch(A))
    assert not transposed(sketch(swapped), sketch(A))
    assert same_values(sketch(swapped), sketch(A))
    assert not same_values(sketch(A + 1.0), sketch(A))
    index = Index([sketch(A)])
    assert index.find(sketch(turned)) == 0
    assert index.find(sketch(swapped)) is None


def test_what_is_not_finite_is_counted() -> None:
    masked = A.copy()
    masked[0, 0, 0, 0] = -np.inf
    assert sketch(masked).infinite == 1
    assert relative(sketch(masked), sketch(A)) == np.inf


def test_a_constant_or_tiny_tensor_proves_nothing() -> None:
    assert sketch(np.ones(100)).weak
    assert sketch(np.array([1.0, 2.0])).weak
    assert sketch(np.zeros((0, 3))).weak
    assert not sketch(A).weak
