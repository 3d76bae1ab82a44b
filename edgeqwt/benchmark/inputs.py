"""Inputs for a model of which nothing is known: seeded, and valid for every op."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import DTYPES, Array, Graph


def random_inputs(graph: Graph, count: int, seed: int = 0) -> Iterator[dict[int, Array]]:
    """Samples by tensor index.

    int8, uint8 and int16 inputs get the whole range, so that every output of a kernel can occur; float
    ones a normal distribution; wider integers, which may be indices, are 0 or 1.

    Raises:
        InputError: an input has a type without numbers.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {t: _values(rng, graph, t) for t in graph.inputs}


def _values(rng: np.random.Generator, graph: Graph, t: int) -> Array:
    tensor = graph.tensors[t]
    if tensor.dtype not in DTYPES:
        raise InputError(f"input {tensor.name!r} has type {tensor.dtype}", "Only models of numbers can be benchmarked.")
    dtype = np.dtype(DTYPES[tensor.dtype])
    if dtype.kind == "f":
        return rng.standard_normal(tensor.shape).astype(dtype)
    if tensor.dtype in ("int8", "uint8", "int16"):
        info = np.iinfo(dtype)
        return rng.integers(info.min, int(info.max) + 1, tensor.shape).astype(dtype)
    return rng.integers(0, 2, tensor.shape).astype(dtype)
