"""Convolutions whose weights are computed from data (CondConv, dynamic convolutions), as matrix products.

Kernels for integers take constant weights only: scales per channel belong to constants. A product of two activations,
each with its own scale, computes the same from patches of the image.
"""

from __future__ import annotations

from math import prod

import numpy as np

from edgeqwt.graph.graph import Op
from edgeqwt.graph.padding import same_padding
from edgeqwt.prepare.decomposed import WINDOW
from edgeqwt.prepare.rewriting import Site, rewrites


def _as_product(at: Site) -> Op | None:
    x, w, bias = at.op.inputs[0], at.op.inputs[1], at.op.inputs[2] if len(at.op.inputs) > 2 else -1
    channels = at.shape(x)[3]
    if at.tensor(w).is_constant or not at.is_float(x, w) or at.shape(x)[0] != 1:
        return None
    if at.shape(w)[3] != channels:  # convolutions in groups, and channels that have several kernels
        return None
    taps = _shifted(at, x, at.shape(w)[1:3])
    positions, count = prod(at.out.shape[1:3]), len(taps)
    if at.op.kind == "DEPTHWISE_CONV_2D":
        rows = [at.reshaped(t, 1, positions, channels) for t in taps]
        left = at.transposed(_joined(at, rows, (count, positions, channels), axis=0), (2, 1, 0))
        turned = at.transposed(at.reshaped(w, count, channels), (1, 0))
        made = _multiplied(at, left, at.reshaped(turned, channels, 1, count), (channels, positions, 1))
        made = at.transposed(at.reshaped(made, channels, positions), (1, 0))
    else:
        terms = count * channels
        joined = _joined(at, taps, (*at.out.shape[:3], terms), axis=3)
        left, right = at.reshaped(joined, 1, positions, terms), at.reshaped(w, 1, at.out.shape[3], terms)
        made = _multiplied(at, left, right, (1, positions, at.out.shape[3]))
    return _finished(at, made, bias)


convolutions = rewrites("CONV_2D")(_as_product)
depthwise = rewrites("DEPTHWISE_CONV_2D")(_as_product)


def _joined(at: Site, parts: list[int], shape: tuple[int, ...], axis: int) -> int:
    return parts[0] if len(parts) == 1 else at.add("CONCATENATION", tuple(parts), "concatenation", shape, axis=axis)


def _shifted(at: Site, x: int, kernel: tuple[int, ...]) -> list[int]:
    """What each weight of a kernel meets at all positions: (1, rows, columns, channels) of the output."""
    op, (_, height, width, channels) = at.op, at.shape(x)
    rows, columns = at.out.shape[1:3]
    sides = ((0, 0), *same_padding(op, (height, width), kernel), (0, 0))
    if np.any(sides):
        wide = (1, height + sum(sides[1]), width + sum(sides[2]), channels)
        x = at.add("PAD", (x, at.integers("sides", sides)), "pad", wide)
    strides = [int(op.options.get(f"stride{side}", 1)) for side in "HW"]
    gaps = [int(op.options.get(f"dilation{side}Factor", 1)) for side in "HW"]
    found = []
    for i, j in np.ndindex(*kernel):
        first = (i * gaps[0], j * gaps[1])
        last = (first[0] + (rows - 1) * strides[0] + 1, first[1] + (columns - 1) * strides[1] + 1)
        if first == (0, 0) and last == at.shape(x)[1:3] and strides == [1, 1]:
            found.append(x)
            continue
        box = [(0, *first, 0), (1, *last, channels), (1, *strides, 1)]
        ends = [at.integers(name, values) for name, values in zip(("begin", "end", "strides"), box, strict=True)]
        shape = (1, rows, columns, channels)
        found.append(at.add("STRIDED_SLICE", (x, *ends), "strided_slice", shape, beginMask=0, endMask=0, **WINDOW))
    return found


def _multiplied(at: Site, left: int, right: int, shape: tuple[int, ...]) -> int:
    return at.add("BATCH_MATMUL", (left, right), "batch_matmul", shape, adjX=False, adjY=True)


def _finished(at: Site, made: int, bias: int) -> Op:
    """Bias and activation function, in the output's shape."""
    shape, activation = at.out.shape, at.op.activation
    bias_data = at.value(bias)
    if bias >= 0 and (bias_data is None or bias_data.any()):
        return at.end("ADD", (at.reshaped(made, *shape), bias), fusedActivationFunction=activation)
    if activation != "NONE":
        return at.end(activation, (at.reshaped(made, *shape),))
    return at.end("RESHAPE", (made, at.integers("shape", shape)))
