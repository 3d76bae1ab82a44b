"""One way to write each function: ops that a runtime lacks or gets wrong, written with others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.prepare.rewriting import (
    Site,
    constant,
    float32,
    is_number,
    reshape,
    rewrites,
    rewritten,
    sole_reader,
    uses,
)


@rewrites("EMBEDDING_LOOKUP")
def embedding(at: Site) -> Op | None:
    """GATHER, which reads the rows first."""
    return at.end("GATHER", at.op.inputs[::-1], axis=0, batchDims=0)


@rewrites("SELECT")
def select(at: Site) -> Op | None:
    """SELECT's vector of conditions, one per row, as a column: SELECT_V2 broadcasts from the last axis."""
    condition, *values = at.op.inputs
    rows, rank = at.shape(condition), len(at.out.shape)
    if len(rows) == 1 and rank > 1:
        condition = at.reshape(condition, "condition", (*rows, *[1] * (rank - 1)), "bool")
    chosen = replace(at.op, kind="SELECT_V2", inputs=(condition, *values), version=1)
    return replace(chosen, extra={"optionsType": "SelectV2Options"})


@rewrites("SELECT_V2")
def wrapped_index(at: Site) -> Op | None:
    """Indices of which negative ones count from the end, chosen by SELECT_V2, as i + n * (i < 0).

    TFLite Micro has no SELECT_V2 of integers.
    """
    condition, added_to, index = at.op.inputs
    added = at.writer(added_to, "ADD")
    if added is None or at.out.dtype != "int32":
        return None
    other = added.inputs[1 - added.inputs.index(index)] if index in added.inputs else -1
    same = at.shape(condition) == at.out.shape == at.shape(index)
    if not same or at.value(other) is None or at.tensor(other).size != 1:
        return None
    flag = at.add("CAST", (condition,), "flag", inDataType="BOOL", outDataType="INT32")
    return at.end("ADD", (index, at.add("MUL", (flag, other), "shift")))


@rewrites("NEG")
def negation(at: Site) -> Op | None:
    """-1 times the value."""
    x = at.op.inputs[0]
    return at.end("MUL", (x, at.constant("minus_one", float32(-1)))) if at.is_float(x) else None


@rewrites("RELU_0_TO_1")
def unit_clamp(at: Site) -> Op | None:
    """RELU_0_TO_1, a table in integers, as relu6(6 x) / 6: RELU6 is fused, and most factors go into weights."""
    x = at.op.inputs[0]
    if not at.is_float(x):
        return None
    larger, clamped = at.activation("times_6"), at.activation("clamped")
    at.put("MUL", (x, at.constant("6", float32(6))), larger)
    at.put("RELU6", (larger,), clamped)
    return at.end("MUL", (clamped, at.constant("sixth", float32(1 / 6))))


@rewrites("SQUARE")
def square(at: Site) -> Op | None:
    """The value times itself."""
    x = at.op.inputs[0]
    return at.end("MUL", (x, x)) if at.is_float(x) else None


@rewrites("POW")
def power(at: Site) -> Op | None:
    """x ** 2, x ** 0.5 and x ** -0.5, as norms are spelled."""
    x, exponent = at.op.inputs[0], at.value(at.op.inputs[1])
    if exponent is None or exponent.size != 1 or not at.is_float(x) or at.shape(x) != at.out.shape:
        return None
    exact = float(exponent.reshape(()))
    if exact == 2:
        return at.end("MUL", (x, x))
    return at.end("SQRT" if exact > 0 else "RSQRT", (x,)) if exact in (0.5, -0.5) else None


@rewrites("DIV")
def division(at: Site) -> Op | None:
    """x / y as x · (1 / y); the reciprocal rounds to float32, so the last bit may differ."""
    x, y = at.op.inputs
    numerator, divisor = at.value(x), at.value(y)
    if not at.is_float(y) or (numerator is not None and numerator.size == 1):
        return None
    if divisor is None:
        factor = at.add("DIV", (at.constant("one", float32(1)), y), "reciprocal", at.shape(y))
    else:
        with np.errstate(all="ignore"):
            reciprocal = np.asarray(1 / divisor.astype(np.float64)).astype(np.float32)
        if not np.isfinite(reciprocal).all():
            return None
        factor = constant(at.editor, f"{at.tensor(y).name}/reciprocal", reciprocal)
    return at.end("MUL", (x, factor), fusedActivationFunction=at.op.activation)


def reciprocal_root(graph: Graph) -> tuple[Graph, list[str]]:
    """1 / SQRT(x): one rounding less as RSQRT, and one table instead of two."""
    producers, roots, changed = uses(graph).producers, set[int](), dict[int, Op]()
    for i, op in enumerate(graph.ops):
        root = producers.get(op.inputs[1], -1) if op.kind == "DIV" else -1
        if root < 0 or graph.ops[root].kind != "SQRT" or sole_reader(graph, op.inputs[1]) != i:
            continue
        if is_number(graph, op.inputs[0], 1) and op.activation == "NONE":
            roots.add(root)
            changed[i] = Op("RSQRT", graph.ops[root].inputs, op.outputs)
    return rewritten(graph, changed, roots)


@rewrites("SUM")
def summation(at: Site) -> Op | None:
    """The sum as a multiple of the mean: rounds twice instead of once."""
    x, axes = at.op.inputs
    axis_values, shape = at.value(axes), at.shape(x)
    if axis_values is None or not at.is_float(x):
        return None
    summed = {int(a) % len(shape) for a in axis_values.reshape(-1)} if shape else set()
    count = int(np.prod([shape[a] for a in summed], dtype=np.int64))
    mean, factor = at.activation("mean"), at.constant("count", float32(count))
    at.editor.add_op(replace(at.op, kind="MEAN", version=1, outputs=(mean,)))
    return at.end("MUL", (mean, factor))


@rewrites("DEPTH_TO_SPACE")
def depth_to_space(at: Site) -> Op | None:
    """(n·h, w, b, b·c) -> (n·h, b, w, b·c): in memory that is the op's result."""
    x, b = at.op.inputs[0], int(at.op.options["blockSize"])
    n, h, w, depth = at.shape(x)
    parts, turned = (
        at.activation("parts", (n * h, w, b, depth // b)),
        at.activation("turned", (n * h, b, w, depth // b)),
    )
    reshape(at.editor, x, parts, f"{at.out.name}/parts_shape")
    at.put("TRANSPOSE", (parts, at.integers("order", (0, 2, 1, 3))), turned)
    return at.end_reshape(turned)


@rewrites("GATHER")
def pick(at: Site) -> Op | None:
    """Indices in a row, known beforehand, such as a class token's: XNNPACK and Ethos-U take SLICE."""
    x, index, shape = at.op.inputs[0], at.value(at.op.inputs[1]), at.shape(at.op.inputs[0])
    if index is None or not index.size or at.tensor(x).is_constant or not at.is_float(x):
        return None
    axis, first = int(at.op.options.get("axis", 0)) % len(shape), int(index.reshape(-1)[0])
    sizes = tuple(index.size if i == axis else n for i, n in enumerate(shape))
    in_a_row = index.reshape(-1).tolist() == list(range(first, first + index.size))
    if at.op.options.get("batchDims") or not in_a_row or first < 0 or at.out.shape != sizes:
        return None
    begin = [first if i == axis else 0 for i in range(len(shape))]
    return at.end("SLICE", (x, at.integers("begin", begin), at.integers("size", sizes)))


@rewrites("SPACE_TO_BATCH_ND")
def space_to_batch(at: Site) -> Op | None:
    """Its padding as a PAD."""
    x, block, paddings = at.op.inputs
    amounts, shape = at.value(paddings), at.shape(x)
    if amounts is None or not amounts.any() or not at.is_float(x):
        return None
    every = np.zeros((len(shape), 2), np.int32)
    every[1 : 1 + len(amounts)] = amounts
    padded = at.activation("padded", tuple(int(n + a + b) for n, (a, b) in zip(shape, every, strict=True)))
    at.put("PAD", (x, at.constant("paddings", every)), padded)
    return replace(at.op, inputs=(padded, block, at.constant("no_paddings", np.zeros_like(amounts))))


@rewrites("AVERAGE_POOL_2D")
def whole_map_pool(at: Site) -> Op | None:
    """An average over a whole map is small beside what it averages; AVERAGE_POOL_2D must keep its input's scale."""
    x, options = at.op.inputs[0], at.op.options
    filters = (options["filterHeight"], options["filterWidth"])
    if filters != at.shape(x)[1:3] or at.out.shape[1:3] != (1, 1) or at.op.activation != "NONE" or not at.out.is_float:
        return None
    return at.end("MEAN", (x, at.integers("axes", [1, 2])), keepDims=True)
