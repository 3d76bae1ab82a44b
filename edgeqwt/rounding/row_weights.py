"""How much each row that a dense layer reads counts: its output sensitivity.

Such rows are tokens, of which most may be padding, alike in all samples and without effect on any output. The positions
of a convolution's map are much alike, and all count the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Op
from edgeqwt.scales.scales import Sample
from edgeqwt.scales.search_gradients import output_gradients

FLOOR = 0.01  # share of the mean weight that every row has besides: another sample may need it

# One sample's inputs -> by output tensor of a dense layer, or of others that were named, float32, shape (rows,).
RowWeights = Callable[[Sample], Mapping[int, Array]]


def row_weights(graph: Graph, outputs: Sequence[int], others: Sequence[int] = ()) -> RowWeights | None:
    """The mean squared gradients at the rows of each dense layer's output; a sample that was asked for is remembered.

    Args:
        graph: float.
        outputs: tensors whose squared errors count.
        others: more tensors that have such rows, if dense layers do.

    Returns:
        None where no dense layer meets several rows at a time, and without gradients.
    """
    dense = [op.outputs[0] for op in graph.ops if op.kind == "FULLY_CONNECTED"]
    if not outputs or not any(prod(graph.tensors[t].shape[:-1]) > 1 for t in dense):
        return None
    gradients = output_gradients(graph, outputs, others)
    if gradients is None:
        return None
    known: dict[bytes, dict[int, Array]] = {}

    def weights(sample: Sample) -> Mapping[int, Array]:
        key = hashlib.sha256(b"".join(np.ascontiguousarray(sample[t]).tobytes() for t in sorted(sample))).digest()
        if key not in known:
            slopes = gradients(sample)
            known[key] = {t: _by_row(slopes[t]) for t in (*dense, *others) if t in slopes}
        return known[key]

    return weights


def noting(
    samples: Iterable[Sample], token_weights: RowWeights | None, ops: Sequence[Op], noted: Sequence[list[Array]]
) -> Iterator[Sample]:
    """The samples as they come, while the weights of some ops' rows are noted, one array for each sample.

    Args:
        samples: graph inputs by tensor index.
        token_weights: the weights; None: nothing is noted.
        ops: of the float graph.
        noted: a list for each op, which grows; those of ops that have no such rows stay empty.
    """
    for sample in samples:
        found = {} if token_weights is None else token_weights(sample)
        for op, rows in zip(ops, noted, strict=True):
            if op.outputs[0] in found:
                rows.append(found[op.outputs[0]])
        yield sample


def counting(noted: list[Array]) -> list[Array]:
    """The weights of one op's rows; none where all are zero: the outputs that count do not depend on it."""
    return noted if any(rows.any() for rows in noted) else []


def _by_row(slopes: Array) -> Array:
    squares = np.square(slopes.reshape(-1, slopes.shape[-1])).mean(axis=1)
    return np.asarray(squares + FLOOR * squares.mean(), np.float32)  # kept for all samples
