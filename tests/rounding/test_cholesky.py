"""Cholesky's factor and solutions, in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.rounding import cholesky as module
from edgeqwt.rounding.cholesky import cholesky, solved


@pytest.mark.parametrize("shared", [10_000, 8])
@pytest.mark.parametrize("size", [1, 7, 8, 37])
def test_blocks_factor_and_solve_as_a_whole(size: int, shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 8)
    monkeypatch.setattr(module, "SHARED", shared)
    rng = np.random.default_rng(size)
    x = rng.normal(size=(2, size, size + 20))
    symmetric = x @ x.swapaxes(1, 2)
    lower = cholesky(symmetric)
    # Condition numbers below 100, sums of at most 37 products.
    np.testing.assert_allclose(lower, np.linalg.cholesky(symmetric), atol=1e-11)
    assert np.array_equal(lower, np.tril(lower))
    values = rng.normal(size=(2, 5, size))
    np.testing.assert_allclose(solved(lower, values) @ symmetric, values, atol=1e-11)


def test_what_has_no_factor_is_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(-np.eye(3)[None])
