"""Graphs for the tests of lowering, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Array, Graph, Tensor
from edgeqwt.runtime.runners import RUNNERS
from tests.chain import CONV, NONE, Chain, noise, samples
from tests.one_op import Lowered, lowered


def run_everywhere(
    graph: Graph, feeds: Sequence[Mapping[int, Array]] | None = None, steps: float = 2.0, **options: Any
) -> Lowered:
    """Lowers a graph, runs it in every runtime, and checks error and equality of bytes."""
    found = lowered(graph, samples(graph) if feeds is None else feeds, **options)
    outs = {name: found.run(factory) for name, factory in RUNNERS.items()}
    for name, out in outs.items():
        assert found.worst(out) <= steps, name
    for ours, theirs in zip(outs["tflm"], outs["reference"], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            # FULLY_CONNECTED may differ by a step.
            allowed = int(any(op.kind == "FULLY_CONNECTED" for op in found.graph.ops))
            assert np.abs(a.astype(int) - b.astype(int)).max(initial=0) <= allowed
    return found


def named(graph: Graph, name: str) -> Tensor:
    """A tensor by its name."""
    return next(t for t in graph.tensors if t.name == name)


def scale_of(graph: Graph, name: str) -> tuple[float, int]:
    """A tensor's scale and zero point."""
    q = named(graph, name).quantization
    assert q is not None
    return float(q.scale[0]), int(q.zero_point[0])


def conv(chain: Chain, x: int, w: int, b: int, name: str = "", **options: object) -> int:
    """A convolution."""
    return chain.op("CONV_2D", x, w, b, name=name, **{**CONV, **options})


def transformer_block() -> Graph:
    """Layer norm, attention of two heads, GELU, residuals: as converters write them."""
    chain = Chain()

    def norm(x: int) -> int:
        centered = chain.op("SUB", x, chain.op("MEAN", x, chain.constant([2]), keepDims=True), **NONE)
        variance = chain.op("MEAN", chain.op("MUL", centered, centered, **NONE), chain.constant([2]), keepDims=True)
        root = chain.op("SQRT", chain.op("ADD", variance, chain.constant([1e-5]), **NONE))
        scaled = chain.op("MUL", centered, chain.op("DIV", chain.constant([1.0]), root, **NONE), **NONE)
        return chain.op("ADD", chain.op("MUL", scaled, chain.constant(1 + noise(16, scale=0.2)), **NONE),
                        chain.constant(noise(16, scale=0.2)), **NONE)  # fmt: skip

    def dense(x: int, inputs: int, outputs: int, seed: int) -> int:
        y = chain.op("BATCH_MATMUL", x, chain.constant(noise(inputs, outputs, seed=seed, scale=inputs**-0.5)))
        return chain.op("ADD", y, chain.constant(noise(outputs, seed=seed, scale=0.1)), **NONE)

    def heads(x: int) -> int:
        split = chain.op("RESHAPE", x, chain.constant([1, 6, 2, 8]), newShape=(1, 6, 2, 8))
        return chain.op("TRANSPOSE", split, chain.constant([0, 2, 1, 3]))

    x = chain.input((1, 6, 16))
    y = norm(x)
    q, k, v = (heads(dense(y, 16, 16, seed)) for seed in (1, 2, 3))
    scores = chain.op("BATCH_MATMUL", chain.op("MUL", q, chain.constant(8**-0.5), **NONE), k, adjY=True)
    mixed = chain.op("BATCH_MATMUL", chain.op("SOFTMAX", scores, beta=1.0), v)
    joined = chain.op("TRANSPOSE", mixed, chain.constant([0, 2, 1, 3]))
    joined = chain.op("RESHAPE", joined, chain.constant([1, 6, 16]), newShape=(1, 6, 16))
    x = chain.op("ADD", x, dense(joined, 16, 16, 4), **NONE)
    hidden = chain.op("GELU", dense(norm(x), 16, 32, 5))
    return chain.graph(chain.op("ADD", x, dense(hidden, 32, 16, 6), **NONE))
