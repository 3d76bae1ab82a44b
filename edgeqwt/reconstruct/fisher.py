"""The Fisher information of activations as a diagonal plus a matrix of low rank: FIMA-Q (Wu et al. 2025).

With unit Gaussian noise at the outputs y of a network, the Fisher information of an activation is F = E[J^T J] with J
its derivative of y, and an error e costs e^T F e. The diagonal of F alone (BRECQ) takes errors of elements for
independent: one that all positions of a map share, and one that averages out, count the same. F is the mean of g g^T
over the gradients g of v . y with random signs v (`autograd.output_sensitivity`): they are enough, F is never held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
import torch

from edgeqwt.autograd.evaluate import Program, as_array
from edgeqwt.autograd.squared_gradients import gradients
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.threads import torch_threads

DRAWS = 4  # gradients of one sample
ELEMENTS = 1 << 26  # of all gradients together, which are in memory: of large maps, fewer samples tell
TURNS = 50  # of diagonal and factors in turn


def fisher(
    graph: Graph, samples: Iterable[Mapping[int, Array]], outputs: Sequence[int], wanted: Set[int], rank: int
) -> dict[int, tuple[Array, Array]]:
    """Diagonal and factors (`diagonal_plus_low_rank`) of some activations that have gradients.

    Args:
        graph: float.
        samples: graph inputs by tensor index; the first ones are taken, as far as memory allows.
        outputs: tensors whose squared errors count.
        wanted: activations, by tensor index.
        rank: of the factors, at most.
    """
    program, generator = Program(graph, outputs), torch.Generator().manual_seed(0)
    size = DRAWS * sum(int(np.prod(graph.tensors[t].shape)) for t in wanted)
    found: dict[int, list[Array]] = {t: [] for t in sorted(wanted)}
    with torch_threads(1):
        for n, sample in enumerate(samples, start=1):
            _, drawn = gradients(program, sample, DRAWS, generator, wanted)
            for one in drawn:
                for t, gradient in one.items():
                    found[t].append(as_array(gradient).reshape(-1))
            if (n + 1) * size > ELEMENTS:
                break
    return {t: diagonal_plus_low_rank(np.stack(g), rank) for t, g in found.items() if any(row.any() for row in g)}


def diagonal_plus_low_rank(rows: Array, rank: int) -> tuple[Array, Array]:
    """D >= 0 and U such that diag(D) + U^T U is close to F, the mean of g g^T.

    Principal factors: U is made of the largest eigenvectors of F - diag(D), D of what U leaves of F's diagonal, in
    turn; the diagonal of the sum is that of F, or above it where D would be negative. The paper finds its factors from
    gradients at errors of quantization.

    Args:
        rows: the g, shape (count, elements).
        rank: rows of U, at most; there are no more of them than rows or elements.

    Returns:
        D, shape (elements,), and U, shape (rank, elements); float64.
    """
    scaled = rows.astype(np.float64) / np.sqrt(len(rows))
    whole, diagonal = np.square(scaled).sum(axis=0), np.zeros(scaled.shape[1])
    _, vectors = np.linalg.eigh(scaled @ scaled.T)
    basis = _orthonormal(vectors[:, -min(rank, *scaled.shape) :].T @ scaled)  # of F's largest eigenvalues
    for _ in range(TURNS):
        basis = _orthonormal((basis @ scaled.T) @ scaled - basis * diagonal)  # a step of subspace iteration
        inner = basis @ scaled.T
        values, vectors = np.linalg.eigh(inner @ inner.T - (basis * diagonal) @ basis.T)
        factors = np.sqrt(np.maximum(values, 0))[:, None] * (vectors.T @ basis)
        diagonal = np.maximum(whole - np.square(factors).sum(axis=0), 0)
    return diagonal, factors


def _orthonormal(rows: Array) -> Array:
    return np.asarray(np.linalg.qr(rows.T)[0].T)
