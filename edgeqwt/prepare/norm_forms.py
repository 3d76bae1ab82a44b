"""LayerNorm in other spellings than x - mean(x), divided by the root of the mean of its squares.

Both spellings here are right on paper and lose digits: they take the difference of what is large. In integers, which
have few digits, nothing would be left.
"""

from __future__ import annotations

from dataclasses import replace

from edgeqwt.graph.graph import Graph, Op
from edgeqwt.prepare.rewriting import Site, is_number, rewrites, rewritten, sole_reader, value, writer


@rewrites("ADD")
def spread(at: Site) -> Op | None:
    """x s + (b - mean(x) s), as Keras writes (x - mean(x)) s + b; s is gamma / root, multiplied out."""
    for first, second in (at.op.inputs, at.op.inputs[::-1]):
        scaled, rest = at.writer(first, "MUL"), at.writer(second, "SUB")
        shift = at.writer(rest.inputs[1], "MUL") if rest is not None else None
        if scaled is None or rest is None or shift is None:
            continue
        for x, s in (scaled.inputs, scaled.inputs[::-1]):
            means = [t for t in shift.inputs if t != s]
            mean = at.writer(means[0], "MEAN") if s in shift.inputs and len(means) == 1 else None
            if mean is None or mean.inputs[0] != x or at.shape(x) != at.out.shape:
                continue
            if at.shape(means[0]) == (*at.shape(x)[:-1], 1) and at.is_float(x):
                return _norm(at, (x, means[0], s, rest.inputs[0]))
    return None


def _norm(at: Site, parts: tuple[int, int, int, int]) -> Op:
    """(x - mean) s + b; where s is a product, one factor after the other."""
    x, mean, s, beta = parts
    product = at.writer(s, "MUL")
    factors = (s,) if product is None else sorted(product.inputs, key=lambda t: at.value(t) is not None)
    y = at.add("SUB", (x, mean), "centered")
    for factor in factors:
        y = at.add("MUL", (y, factor), "scaled")
    return replace(at.op, inputs=(y, beta))


@rewrites("SUB")
def difference_of_squares(at: Site) -> Op | None:
    """mean(x x) - mean(x) mean(x), as Flax writes the variance, is the mean of (x - mean(x))^2."""
    square_mean, mean_square = at.writer(at.op.inputs[0], "MEAN"), at.writer(at.op.inputs[1], "MUL")
    # Flax clips the difference at zero, below which rounding may bring it: a mean of squares is never below.
    usual = at.op.activation in ("NONE", "RELU")
    if square_mean is None or mean_square is None or len(set(mean_square.inputs)) != 1 or not usual:
        return None
    squares, mean = at.writer(square_mean.inputs[0], "MUL"), at.writer(mean_square.inputs[0], "MEAN")
    if squares is None or mean is None or {*squares.inputs} != {mean.inputs[0]}:
        return None
    x, axes = mean.inputs
    shape, kept = at.shape(x), _kept(at, x, axes)
    if kept is None or kept != _kept(at, x, square_mean.inputs[1]):
        return None
    if not at.is_float(x) or not at.shape(mean.outputs[0]) == at.out.shape == kept:
        return None
    centered = at.add("SUB", (x, mean.outputs[0]), "centered", shape)
    return at.end("MEAN", (at.add("MUL", (centered, centered), "squares", shape), axes), keepDims=True)


def _kept(at: Site, x: int, axes: int) -> tuple[int, ...] | None:
    """The shape of a mean over constant axes that keeps them."""
    gone = at.value(axes)
    if gone is None:
        return None
    return tuple(1 if a in gone.reshape(-1) % len(at.shape(x)) else n for a, n in enumerate(at.shape(x)))


@rewrites("ADD")
def gathered(at: Site) -> Op | None:
    """x s - (mean(x) s), where s and the mean are reshaped in between, as litert-torch writes LayerNorm."""
    for first, second in (at.op.inputs, at.op.inputs[::-1]):
        scaled, product = at.writer(first, "MUL"), _negative_product(at.graph, second)
        if scaled is None or product is None or at.op.activation != "NONE":
            continue
        for x, s in (scaled.inputs, scaled.inputs[::-1]):
            root = _root(at.graph, s)
            means = [t for t in product if t != root]
            mean = at.writer(means[0], "MEAN") if root in product and len(means) == 1 else None
            kept = _kept(at, x, mean.inputs[1]) if mean is not None and mean.inputs[0] == x else None
            if mean is None or kept is None or not at.is_float(x):
                continue
            if not at.shape(s) == at.shape(second) == kept or at.shape(x) != at.out.shape:
                continue
            average = at.add("MEAN", mean.inputs, "mean", kept, keepDims=True)
            return at.end("MUL", (at.add("SUB", (x, average), "centered"), s))
    return None


def _root(graph: Graph, t: int) -> int:
    """The tensor that another one is, before RESHAPEs."""
    while (op := writer(graph, t, "RESHAPE")) is not None:
        t = op.inputs[0]
    return t


def _negated(graph: Graph, t: int) -> int | None:
    """What a tensor is the negative of, before RESHAPEs."""
    root = _root(graph, t)
    minus, product = writer(graph, root, "SUB"), writer(graph, root, "MUL")
    if minus is not None:
        zero = value(graph, minus.inputs[0])
        return _root(graph, minus.inputs[1]) if zero is not None and not zero.any() else None
    for x, factor in (product.inputs, product.inputs[::-1]) if product is not None else ():
        if is_number(graph, factor, -1):
            return _root(graph, x)
    return None


def _negative_product(graph: Graph, t: int) -> tuple[int, int] | None:
    """The two roots whose product, negated, a tensor is."""
    inner = _negated(graph, t)
    product = writer(graph, _root(graph, t) if inner is None else inner, "MUL")
    if product is None:
        return None
    a, b = (_root(graph, u) for u in product.inputs)
    if inner is not None:
        return a, b
    for one, other in ((a, b), (b, a)):
        negated = _negated(graph, one)
        if negated is not None:
            return negated, other
    return None


def keep_axes(graph: Graph) -> tuple[Graph, list[str]]:
    """MEAN that drops its axes and a RESHAPE that puts them back: the MEAN keeps them."""
    kept, dropped = dict[int, Op](), set[int]()
    for i, op in enumerate(graph.ops):
        reader = sole_reader(graph, op.outputs[0]) if op.kind == "MEAN" and not op.options.get("keepDims") else None
        axes = value(graph, op.inputs[1]) if reader is not None else None
        if reader is None or axes is None or graph.ops[reader].kind not in ("RESHAPE", "EXPAND_DIMS"):
            continue
        shape = graph.tensors[op.inputs[0]].shape
        wanted = tuple(1 if n in axes.reshape(-1) % len(shape) else size for n, size in enumerate(shape))
        if graph.tensors[graph.ops[reader].outputs[0]].shape == wanted:
            kept[i] = replace(op.with_options(keepDims=True), outputs=graph.ops[reader].outputs)
            dropped.add(reader)
    return rewritten(graph, kept, dropped)
