"""How the ops of random integer graphs are written, each with its exact arithmetic on real values.

A writer takes the builder and the tensor to read, and returns the new tensor; None where the op does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Array, Quantization
from edgeqwt.graph.opset16 import RULES16, rule_at
from tests.fuzz.integer_graphs import Builder

Writer = Callable[[Builder, int], int | None]
ACTIVATIONS = ("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")

# -- exact arithmetic --------------------------------------------------------------------


def padded(x: Array, kernel: tuple[int, int], stride: int, dilation: int, padding: str, fill: float = 0.0) -> Array:
    """NHWC with what SAME adds, as TFLite does: the odd line at the end."""
    if padding == "VALID":
        return x
    sides = [(0, 0)]
    for n, k in zip(x.shape[1:3], kernel, strict=True):
        reach = (k - 1) * dilation + 1
        missing = max((-(-n // stride) - 1) * stride + reach - n, 0)
        sides.append((missing // 2, missing - missing // 2))
    return np.pad(x, [*sides, (0, 0)], constant_values=fill)


def windows(x: Array, kernel: tuple[int, int], stride: int, dilation: int) -> Array:
    """(1, rows, columns, kh, kw, channels): what each position of a kernel sees."""
    kh, kw = ((k - 1) * dilation + 1 for k in kernel)
    view = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))
    return view[:, ::stride, ::stride, :, ::dilation, ::dilation].transpose(0, 1, 2, 4, 5, 3)


def fits(b: Builder, t: int, kernel: tuple[int, int], dilation: int, padding: str) -> bool:
    """Whether a kernel has a position on a map."""
    pairs = zip(b.shape(t)[1:3], kernel, strict=True)
    return len(b.shape(t)) == 4 and (padding == "SAME" or all((k - 1) * dilation < n for n, k in pairs))


# -- linear ops ----------------------------------------------------------------------------


def weights(b: Builder, shape: tuple[int, ...], axis: int) -> tuple[int, Array, Quantization]:
    """Constant integers with a scale per channel: the tensor, its real values, its scales."""
    count = shape[axis]
    spread = b.rng.uniform(-1, 1, count) if b.chance(0.7) else np.zeros(count)
    scale = (10.0 ** (b.rng.uniform(-4, 0) + spread)).astype(np.float32)
    q = Quantization.per_channel(scale, axis)
    data = b.rng.integers(-127, 128, shape).astype(np.int8)
    if b.chance(0.1):
        data[tuple(0 if i == axis else slice(None) for i in range(len(shape)))] = 0
    s, _ = q.broadcast(len(shape))
    return b.constant(data, q), s * data.astype(np.int64), q


def bias(b: Builder, q: Quantization, t: int, needed: bool = True) -> tuple[tuple[int, ...], Array]:
    """A bias at the scales of the products, which LiteRT's integer convolutions need; none and zeros now and then."""
    if not needed and b.chance(0.2):
        return (), np.zeros(q.scale.size)
    scale = (q.scale * np.float32(b.scale(t))).astype(np.float32)
    data = (b.rng.normal(0, 1, q.scale.size) * 10.0 ** b.rng.uniform(1, 5)).astype(np.int64)
    found = Quantization(scale, np.zeros(scale.shape, np.int64), 0)
    # The kernels' products have the scale of the data times that of the weights, whatever the bias says.
    exact = data * (q.scale.astype(np.float64) * b.scale(t))
    return (b.constant(data.astype(np.int32 if b.bits == 8 else np.int64), found),), exact


def convolution(b: Builder, t: int) -> int | None:
    """CONV_2D."""
    kernel, dilation = (b.between(1, 3), b.between(1, 3)), b.one_of(1, 1, 1, 2)
    stride = 1 if dilation > 1 else b.one_of(1, 1, 2, 3)
    padding, activation = b.one_of("SAME", "VALID"), b.one_of(*ACTIVATIONS)
    if len(b.shape(t)) != 4 or not fits(b, t, kernel, dilation, padding):
        return None
    w, w_real, q = weights(b, (b.between(1, 9), *kernel, b.shape(t)[3]), 0)
    c, c_real = bias(b, q, t)

    def exact(x: Array) -> Array:
        seen = windows(padded(x, kernel, stride, dilation, padding), kernel, stride, dilation)
        return np.einsum("nhwijc,oijc->nhwo", seen, w_real) + c_real

    return b.op("CONV_2D", (t, w, *c), (t,), exact, factor=float(q.scale.max()),
                **sliding(padding, stride, dilation, activation))  # fmt: skip


def depthwise(b: Builder, t: int) -> int | None:
    """DEPTHWISE_CONV_2D."""
    kernel, dilation = (b.between(1, 3), b.between(1, 3)), b.one_of(1, 1, 1, 2)
    stride = 1 if dilation > 1 else b.one_of(1, 1, 2)
    padding, activation, times = b.one_of("SAME", "VALID"), b.one_of(*ACTIVATIONS), b.one_of(1, 1, 2)
    if len(b.shape(t)) != 4 or not fits(b, t, kernel, dilation, padding):
        return None
    channels = b.shape(t)[3]
    w, w_real, q = weights(b, (1, *kernel, channels * times), 3)
    c, c_real = bias(b, q, t)

    def exact(x: Array) -> Array:
        seen = windows(padded(x, kernel, stride, dilation, padding), kernel, stride, dilation)
        found = np.einsum("nhwijc,ijcm->nhwcm", seen, w_real[0].reshape(*kernel, channels, times))
        return found.reshape(*found.shape[:3], -1) + c_real

    return b.op("DEPTHWISE_CONV_2D", (t, w, *c), (t,), exact, factor=float(q.scale.max()), depthMultiplier=times,
                **sliding(padding, stride, dilation, activation))  # fmt: skip


def sliding(padding: str, stride: int, dilation: int, activation: str) -> dict[str, Any]:
    """Options of convolutions."""
    return {
        "padding": padding, "strideH": stride, "strideW": stride, "dilationHFactor": dilation,
        "dilationWFactor": dilation, "fusedActivationFunction": activation,
    }  # fmt: skip


def transposed(b: Builder, t: int) -> int | None:
    """TRANSPOSE_CONV."""
    if len(b.shape(t)) != 4:
        return None
    kernel, stride, padding = (b.between(2, 3), b.between(2, 3)), b.one_of(1, 2), b.one_of("SAME", "VALID")
    batch, rows, columns, channels = b.shape(t)
    w, w_real, q = weights(b, (b.between(1, 5), *kernel, channels), 0)
    c, c_real = bias(b, q, t, needed=False)
    full = [(n - 1) * stride + k for n, k in zip((rows, columns), kernel, strict=True)]
    out = full if padding == "VALID" else [rows * stride, columns * stride]
    cut = [max(f - n, 0) // 2 for f, n in zip(full, out, strict=True)]

    def exact(x: Array) -> Array:
        found = np.zeros((batch, max(full[0], out[0]), max(full[1], out[1]), w_real.shape[0]))
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                ends = i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1
                found[:, i : ends[0] : stride, j : ends[1] : stride] += np.einsum("nhwc,oc->nhwo", x, w_real[:, i, j])
        return found[:, cut[0] : cut[0] + out[0], cut[1] : cut[1] + out[1]] + c_real

    shape = b.constant(np.array([batch, *out, w_real.shape[0]], np.int32))
    return b.op("TRANSPOSE_CONV", (shape, w, t, *c), (t,), exact, factor=float(q.scale.max()), padding=padding,
                strideH=stride, strideW=stride)  # fmt: skip


def dense(b: Builder, t: int) -> int | None:
    """FULLY_CONNECTED over the last axis or all of them."""
    rank, kept = len(b.shape(t)), b.chance(0.5)
    if rank == 0:
        return None
    depth = b.shape(t)[-1] if kept or rank <= 2 else int(np.prod(b.shape(t)[1:]))
    w, w_real, q = weights(b, (b.between(1, 12), depth), 0)
    c, c_real = bias(b, q, t, needed=False)

    def exact(x: Array) -> Array:
        rows = x if kept else x.reshape(-1, depth)
        return rows @ w_real.T + c_real

    return b.op("FULLY_CONNECTED", (t, w, *c), (t,), exact, factor=float(q.scale.max()), keepNumDims=kept,
                version=0 if b.bits == 16 else 5, fusedActivationFunction=b.one_of(*ACTIVATIONS))  # fmt: skip


def product(b: Builder, t: int) -> int | None:
    """BATCH_MATMUL with another input, whose zero point is 0."""
    if len(b.shape(t)) < 2:
        return None
    adjoint, (*batch, _, depth) = b.chance(0.5), b.shape(t)
    width = b.between(1, 6)
    q = Quantization.per_tensor(10.0 ** b.rng.uniform(-4, 1), 0)
    other = b.input((*batch, width, depth) if adjoint else (*batch, depth, width), q)

    def exact(x: Array, y: Array) -> Array:
        return x @ (np.swapaxes(y, -1, -2) if adjoint else y)

    return b.op("BATCH_MATMUL", (t, other), (t, other), exact, adjX=False, adjY=adjoint)


# -- element by element --------------------------------------------------------------------


def second(b: Builder, t: int, q: Quantization | None = None) -> int:
    """The other side of an op: the same tensor, a new input, of which some axes may be 1."""
    if b.chance(0.15):
        return t
    shape = b.shape(t)
    if b.chance(0.5):
        shape = tuple(1 if b.chance(0.4) else n for n in shape)
        shape = shape[b.between(0, len(shape) - 1) :] if b.chance(0.3) and len(shape) > 1 else shape
    return b.input(shape, q)


def binary(kind: str, exact: Callable[..., Array], fused: bool) -> Writer:
    """ADD and the like."""

    def write(b: Builder, t: int) -> int | None:
        # Ranges of two sides are not many orders of magnitude apart in networks.
        near = Quantization.per_tensor(b.scale(t) * 10.0 ** b.rng.uniform(-2, 2), b.zero_point())
        other = second(b, t, near)
        options = {"fusedActivationFunction": b.one_of(*ACTIVATIONS)} if fused else {}
        pair = (t, other) if b.chance(0.5) else (other, t)
        return b.op(kind, pair, pair, exact, **options)

    return write


def picking(kind: str, exact: Callable[..., Array]) -> Writer:
    """MAXIMUM and MINIMUM: one scale."""

    def write(b: Builder, t: int) -> int | None:
        pair = (t, second(b, t, b.quantization(t)))
        return b.op(kind, pair, pair, exact, q=b.quantization(t))

    return write


def softmax(x: Array) -> Array:
    """Over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def unary(kind: str, exact: Callable[..., Array], **options: Any) -> Writer:
    """A function of each element or row."""

    def write(b: Builder, t: int) -> int | None:
        low, high = rule_at(kind, b.bits).right_scales
        if not low <= b.scale(t) <= high or len(b.shape(t)) < 2:
            return None
        return b.op(kind, (t,), (t,), exact, **options)

    return write


def leaky(b: Builder, t: int) -> int | None:
    """LEAKY_RELU."""
    alpha = float(np.float32(b.one_of(0.01, 0.1, 0.3, 0.99)))
    return b.op("LEAKY_RELU", (t,), (t,), lambda x: np.where(x < 0, alpha * x, x), alpha=alpha)


def prelu(b: Builder, t: int) -> int | None:
    """PRELU with a slope per channel."""
    if len(b.shape(t)) != 4:
        return None
    q = Quantization.per_tensor(10.0 ** b.rng.uniform(-3, -1), b.between(-128, 127))
    slopes = b.rng.integers(-128, 128, (1, 1, b.shape(t)[3])).astype(np.int8)
    real = b.real(c := b.constant(slopes, q), slopes)
    return b.op("PRELU", (t, c), (t,), lambda x: np.where(x < 0, real * x, x))


# -- reductions, pools, moves ----------------------------------------------------------------


def reduction(kind: str, exact: Callable[..., Array], tied: bool) -> Writer:
    """MEAN and the like."""

    def write(b: Builder, t: int) -> int | None:
        rank = len(b.shape(t))
        if rank < 2:
            return None
        axes = b.one_of((1, 2), (rank - 1,), (1,), tuple(range(1, rank))) if rank > 2 else (1,)
        kept = b.chance(0.5)
        axis = b.constant(np.array(axes, np.int32))
        q = b.quantization(t) if tied else None
        return b.op(kind, (t, axis), (t,), lambda x: exact(x, axis=axes, keepdims=kept), q=q, keepDims=kept)

    return write


def pool(kind: str, exact: Callable[..., Array], fill: float) -> Writer:
    """AVERAGE_POOL_2D and MAX_POOL_2D; what SAME adds does not count."""

    def write(b: Builder, t: int) -> int | None:
        kernel, stride, padding = (b.between(1, 4), b.between(1, 4)), b.between(1, 3), b.one_of("SAME", "VALID")
        if len(b.shape(t)) != 4 or not fits(b, t, kernel, 1, padding):
            return None

        def found(x: Array) -> Array:
            return exact(windows(padded(x, kernel, stride, 1, padding, fill), kernel, stride, 1), axis=(3, 4))

        return b.op(kind, (t,), (t,), found, q=b.quantization(t), padding=padding, strideH=stride, strideW=stride,
                    filterHeight=kernel[0], filterWidth=kernel[1],
                    fusedActivationFunction=b.one_of(*ACTIVATIONS))  # fmt: skip

    return write


def joined(b: Builder, t: int) -> int | None:
    """CONCATENATION of two or three."""
    axis = b.between(0, len(b.shape(t)) - 1)
    others = []
    for _ in range(b.between(1, 2)):
        shape = list(b.shape(t))
        shape[axis] = b.between(1, 5)
        others.append(b.input(tuple(shape), b.quantization(t)))
    reads = (t, *others)
    return b.op("CONCATENATION", reads, reads, lambda *x: np.concatenate(x, axis), q=b.quantization(t), axis=axis,
                fusedActivationFunction="NONE")  # fmt: skip


def pad(b: Builder, t: int) -> int | None:
    """PAD with zeros."""
    if len(b.shape(t)) != 4:
        return None
    sides = b.rng.integers(0, 3, (4, 2)).astype(np.int32) * np.array([[0], [1], [1], [b.between(0, 1)]], np.int32)
    return b.op("PAD", (t, b.constant(sides)), (t,), lambda x: np.pad(x, sides), q=b.quantization(t))


def turned(b: Builder, t: int) -> int | None:
    """TRANSPOSE."""
    order = b.rng.permutation(len(b.shape(t))).astype(np.int32)
    return b.op("TRANSPOSE", (t, b.constant(order)), (t,), lambda x: x.transpose(order), q=b.quantization(t))


def cut(b: Builder, t: int) -> int | None:
    """STRIDED_SLICE."""
    shape, rank = b.shape(t), len(b.shape(t))
    begin = [b.between(0, n - 1) for n in shape]
    end = [b.between(i + 1, n) for i, n in zip(begin, shape, strict=True)]
    steps = [b.one_of(1, 1, 2) for _ in shape]
    parts = tuple(slice(*ends) for ends in zip(begin, end, steps, strict=True))
    constants = [b.constant(np.array(values, np.int32)) for values in (begin, end, steps)]
    masks = dict.fromkeys(("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0)
    if rank > 4:
        return None
    return b.op("STRIDED_SLICE", (t, *constants), (t,), lambda x: x[parts], q=b.quantization(t), **masks)


def resized(b: Builder, t: int) -> int | None:
    """RESIZE_BILINEAR to twice the size, half pixel centers or not."""
    if len(b.shape(t)) != 4 or b.bits == 16:
        return None
    rows, columns = (n * b.one_of(1, 2, 3) for n in b.shape(t)[1:3])
    half = b.chance(0.5)

    def along(x: Array, size: int, axis: int) -> Array:
        n = x.shape[axis]
        at = (np.arange(size) + 0.5) * n / size - 0.5 if half else np.arange(size) * n / size
        at = np.maximum(at, 0)
        low = np.minimum(np.floor(at).astype(int), n - 1)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        return x.take(low, axis) * (1 - share) + x.take(np.minimum(low + 1, n - 1), axis) * share

    size = b.constant(np.array([rows, columns], np.int32))
    return b.op("RESIZE_BILINEAR", (t, size), (t,), lambda x: along(along(x, rows, 1), columns, 2),
                q=b.quantization(t), alignCorners=False, halfPixelCenters=half)  # fmt: skip


def copied(b: Builder, t: int) -> int | None:
    """QUANTIZE to another scale."""
    return b.op("QUANTIZE", (t,), (t,), lambda x: x)


WRITERS: Mapping[str, Writer] = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transposed,
    "FULLY_CONNECTED": dense,
    "BATCH_MATMUL": product,
    "ADD": binary("ADD", np.add, True),
    "SUB": binary("SUB", np.subtract, True),
    "MUL": binary("MUL", np.multiply, True),
    "SQUARED_DIFFERENCE": binary("SQUARED_DIFFERENCE", lambda x, y: (x - y) ** 2, False),
    "MAXIMUM": picking("MAXIMUM", np.maximum),
    "MINIMUM": picking("MINIMUM", np.minimum),
    "SOFTMAX": unary("SOFTMAX", softmax, beta=1.0),
    "LOG_SOFTMAX": unary("LOG_SOFTMAX", lambda x: np.log(np.maximum(softmax(x), 1e-300))),
    "LOGISTIC": unary("LOGISTIC", lambda x: 1 / (1 + np.exp(-np.clip(x, -700, 700)))),
    "TANH": unary("TANH", np.tanh),
    "L2_NORMALIZATION": unary(
        "L2_NORMALIZATION", lambda x: x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), 1e-30)
    ),
    "HARD_SWISH": unary("HARD_SWISH", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "ABS": unary("ABS", np.abs),
    "LEAKY_RELU": leaky,
    "PRELU": prelu,
    "MEAN": reduction("MEAN", np.mean, False),
    "REDUCE_MAX": reduction("REDUCE_MAX", np.max, True),
    "REDUCE_MIN": reduction("REDUCE_MIN", np.min, True),
    "AVERAGE_POOL_2D": pool("AVERAGE_POOL_2D", np.nanmean, np.nan),
    "MAX_POOL_2D": pool("MAX_POOL_2D", np.max, -np.inf),
    "CONCATENATION": joined,
    "PAD": pad,
    "TRANSPOSE": turned,
    "STRIDED_SLICE": cut,
    "RESIZE_BILINEAR": resized,
    "QUANTIZE": copied,
}
WIDE = frozenset(WRITERS) & frozenset(RULES16) - {"LOG_SOFTMAX"}  # which is written as other ops at 16 bits
