"""Fisher information as diagonal plus low rank, where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.reconstruct.fisher import diagonal_plus_low_rank, fisher
from edgeqwt.reconstruct.learn import Objective
from tests.reconstruct.nets import inputs, residual


def rows_of(matrix: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Gradients whose mean of g g^T is a positive definite matrix."""
    return np.sqrt(len(matrix)) * np.linalg.cholesky(matrix).T


@pytest.mark.parametrize("rank", [1, 3])
def test_a_diagonal_plus_a_matrix_of_low_rank_is_found_again(rank: int) -> None:
    rng = np.random.default_rng(rank)
    own, shared = rng.uniform(0.5, 1.5, 40), rng.normal(size=(rank, 40))
    diagonal, factors = diagonal_plus_low_rank(rows_of(np.diag(own) + shared.T @ shared), rank)
    # The error falls by about rank / elements in each of 50 turns: what is left is rounding of float64.
    np.testing.assert_allclose(diagonal, own, atol=1e-8)
    np.testing.assert_allclose(factors.T @ factors, shared.T @ shared, atol=1e-8)


def test_the_diagonal_is_the_whole_one_s_or_above_where_a_negative_one_would_be_needed() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 12))
    whole = np.square(rows).mean(axis=0)
    for rank in (1, 4, 12, 50):
        diagonal, factors = diagonal_plus_low_rank(rows, rank)
        assert factors.shape == (min(rank, 12), 12)
        assert (diagonal >= 0).all()
        excess = diagonal + np.square(factors).sum(axis=0) - whole
        assert (excess >= -1e-12).all()
        assert (excess[diagonal > 0] <= 1e-12).all()


def test_fewer_gradients_than_the_rank_say_all() -> None:
    rows = np.random.default_rng(1).normal(size=(3, 20))
    diagonal, factors = diagonal_plus_low_rank(rows, 15)
    np.testing.assert_allclose(factors.T @ factors + np.diag(diagonal), rows.T @ rows / 3, atol=1e-9)


@pytest.mark.requires("torch")
def test_the_objective_is_the_dense_quadratic_form() -> None:
    import torch

    rng = np.random.default_rng(2)
    own, factors = rng.uniform(1, 2, (2, 3)), rng.normal(size=(2, 6))
    error, target = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 2, 3))
    objective = Objective(
        block=None, pair=None, inputs=None, floats=None,  # type: ignore[arg-type]  # the loss asks for none of them
        targets=lambda chosen: {7: torch.from_numpy(target[list(chosen)])},
        weights={7: torch.from_numpy(own)}, factors={7: torch.from_numpy(factors / np.sqrt(6))}, count=4,
    )  # fmt: skip
    found = float(objective.loss({7: torch.from_numpy((target + error)[[1, 3]])}, [1, 3]))
    dense = np.diag(own.reshape(-1)) + factors.T @ factors
    assert found == pytest.approx(np.mean([e @ dense @ e / 6 for e in error[[1, 3]].reshape(2, 6)]), rel=1e-12)


@pytest.mark.requires("torch")
def test_a_linear_end_is_known_exactly() -> None:
    """At the input of a dense layer with weights W, F is W^T W whatever the sample; its rank is that of W, 4."""
    graph = residual()
    (dense,) = (op for op in graph.ops if op.kind == "FULLY_CONNECTED")
    weights = graph.tensors[dense.inputs[1]].data
    assert weights is not None
    ((diagonal, factors),) = fisher(graph, inputs(graph, 200), dense.outputs, {dense.inputs[0]}, 15).values()
    # Signs of 200 * 4 draws: products of different outputs cancel up to 1 / sqrt(800), a standard deviation.
    wanted = weights.T @ weights
    np.testing.assert_allclose(factors.T @ factors + np.diag(diagonal), wanted, atol=5 / np.sqrt(800) * wanted.max())
    assert np.square(factors).sum() > 0.9 * wanted.trace()
