"""Small transformers, written as converters write them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeqwt.graph.graph import Array, Graph
from tests.chain import NONE, Chain, noise

TOKENS, WIDTH, HEADS, CLASSES = 6, 16, 2, 5


def norm(chain: Chain, x: int, seed: int, spread: float = 0.3) -> int:
    """LayerNorm over the last axis, with gamma and beta."""
    shape = chain.tensors[x].shape
    axes, means = chain.constant([len(shape) - 1]), (*shape[:-1], 1)
    mean = chain.op("MEAN", x, axes, shape=means, keepDims=True)
    centered = chain.op("SUB", x, mean, shape=shape, **NONE)
    squares = chain.op("MUL", centered, centered, shape=shape, **NONE)
    variance = chain.op("MEAN", squares, axes, shape=means, keepDims=True)
    root = chain.op("RSQRT", chain.op("ADD", variance, chain.constant([1e-5]), shape=means, **NONE), shape=means)
    y = chain.op("MUL", centered, root, shape=shape, **NONE)
    y = chain.op("MUL", y, chain.constant(1 + noise(shape[-1], seed=seed, scale=spread)), shape=shape, **NONE)
    beta = chain.constant(noise(shape[-1], seed=seed + 1, scale=spread))
    return chain.op("ADD", y, beta, shape=shape, **NONE)


def dense(chain: Chain, x: int, outputs: int, seed: int, **more: str) -> int:
    """A linear layer, with a bias and a mean of its outputs that is not zero."""
    *rows, inputs = chain.tensors[x].shape
    weights = chain.constant(noise(outputs, inputs, seed=seed, scale=inputs**-0.5) + 0.1)
    bias = chain.constant(noise(outputs, seed=seed + 1) + 0.5)
    shape = (*rows, outputs)
    options = {"weightsFormat": "DEFAULT", "keepNumDims": True, **NONE, **more}
    return chain.op("FULLY_CONNECTED", x, weights, bias, shape=shape, version=6, **options)


def reshape(chain: Chain, x: int, *shape: int) -> int:
    """RESHAPE."""
    return chain.op("RESHAPE", x, chain.constant(list(shape)), shape=shape, newShape=shape)


def transpose(chain: Chain, x: int, *order: int) -> int:
    """TRANSPOSE."""
    shape = tuple(chain.tensors[x].shape[i] for i in order)
    return chain.op("TRANSPOSE", x, chain.constant(list(order)), shape=shape)


def attention(chain: Chain, x: int, seed: int) -> int:
    """Attention of several heads as exported: scores are divided by the root of a head's width."""
    _, tokens, width = chain.tensors[x].shape
    part = width // HEADS
    q, k, v = (reshape(chain, dense(chain, x, width, seed + 2 * i), 1, tokens, HEADS, part) for i in range(3))
    q, k, v = transpose(chain, q, 0, 2, 1, 3), transpose(chain, k, 0, 2, 3, 1), transpose(chain, v, 0, 2, 1, 3)
    shape = (1, HEADS, tokens, tokens)
    scores = chain.op("BATCH_MATMUL", q, k, shape=shape, adjX=False, adjY=False)
    scores = chain.op("MUL", scores, chain.constant([part**-0.5]), shape=shape, **NONE)
    shares = chain.op("SOFTMAX", scores, shape=shape, beta=1.0)
    mixed = chain.op("BATCH_MATMUL", shares, v, shape=(1, HEADS, tokens, part), adjX=False, adjY=False)
    mixed = reshape(chain, transpose(chain, mixed, 0, 2, 1, 3), 1, tokens, width)
    return dense(chain, mixed, width, seed + 6)


def add(chain: Chain, a: int, b: int) -> int:
    """The sum of two tensors of one shape, or of a tensor and a constant that fits."""
    return chain.op("ADD", a, b, shape=chain.tensors[a].shape, **NONE)


def block(chain: Chain, x: int, seed: int) -> int:
    """A pre-norm block: attention and a GELU network, each added to the stream."""
    x = add(chain, attention(chain, norm(chain, x, seed), seed + 2), x)
    hidden = dense(chain, norm(chain, x, seed + 10), 4 * WIDTH, seed + 12)
    hidden = chain.op("GELU", hidden, shape=chain.tensors[hidden].shape, approximate=False)
    return add(chain, x, dense(chain, hidden, WIDTH, seed + 14))


def vision(blocks: int = 2, head: Callable[[Chain, int], int] | None = None) -> Graph:
    """A vision transformer: patches by a convolution, a class token, positions, pre-norm blocks, a norm, a head."""
    chain = Chain()
    image = chain.input((1, 4, 4, 3))
    conv = {"padding": "VALID", "strideH": 2, "strideW": 2, "dilationHFactor": 1, "dilationWFactor": 1, **NONE}
    weights, bias = chain.constant(noise(WIDTH, 2, 2, 3, seed=1)), chain.constant(noise(WIDTH, seed=2) + 1)
    patches = reshape(chain, chain.op("CONV_2D", image, weights, bias, shape=(1, 2, 2, WIDTH), **conv), 1, 4, WIDTH)
    token = chain.constant(noise(1, 1, WIDTH, seed=3) - 1, name="class_token")
    x = chain.op("CONCATENATION", token, patches, shape=(1, 5, WIDTH), axis=1, **NONE)
    x = add(chain, x, chain.constant(noise(1, 5, WIDTH, seed=4) + 2, name="positions"))
    for i in range(blocks):
        x = block(chain, x, 100 * (i + 1))
    return chain.graph((head or class_head)(chain, x))


def class_head(chain: Chain, x: int) -> int:
    """A norm of all tokens, a linear layer on the first one."""
    x = norm(chain, x, 50)
    ends = [chain.constant([0, 0, 0]), chain.constant([1, 1, WIDTH])]
    first = chain.op("SLICE", x, *ends, shape=(1, 1, WIDTH))
    return dense(chain, reshape(chain, first, 1, WIDTH), CLASSES, 60)


def language(blocks: int = 2) -> Graph:
    """A pre-norm language model: words and positions from tables, a mean over tokens, a norm."""
    chain = Chain()
    ids = chain.input((1, TOKENS), dtype="int32")
    words = chain.constant(noise(9, WIDTH, seed=5) + 3, name="words")
    shape = (1, TOKENS, WIDTH)
    x = chain.op("GATHER", words, ids, shape=shape, axis=0, batchDims=0)
    x = add(chain, x, chain.constant(noise(TOKENS, WIDTH, seed=6), name="positions"))
    for i in range(blocks):
        x = block(chain, x, 100 * (i + 1))
    pooled = chain.op("MEAN", x, chain.constant([1]), shape=(1, WIDTH), keepDims=False)
    return chain.graph(dense(chain, norm(chain, pooled, 50), CLASSES, 60))


def outliers(graph: Graph, channels: tuple[int, ...], factor: float) -> Graph:
    """The graph with some channels of every LayerNorm's gamma made larger."""
    changes = {}
    for op in graph.ops:
        data = graph.tensors[op.inputs[1]].data if op.kind == "MUL" else None
        if data is None or data.shape != (WIDTH,):
            continue
        scaled: Array = np.array(data)
        scaled[list(channels)] *= factor
        tensor = graph.tensors[op.inputs[1]]
        changes[op.inputs[1]] = type(tensor)(tensor.name, tensor.shape, tensor.dtype, scaled)
    return graph.with_tensors(changes)
