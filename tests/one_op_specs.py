"""The one-op cases, by name "KIND/variant": several per row of the op table where variants matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from edgeqwt.graph.graph import Array
from tests.one_op import Case, Spec, X, made

# -- constants -----------------------------------------------------------------------

_rng = np.random.default_rng(7)


def weights(*shape: int, scale: float = 0.3) -> Array:
    """Normally distributed float32."""
    return (scale * _rng.standard_normal(shape)).astype(np.float32)


def ints(*values: Any) -> Array:
    """An int32 constant."""
    return np.array(values, np.int32)


def number(value: int) -> Array:
    """A scalar int32 constant."""
    return np.array(value, np.int32)


UNARY = (
    "LOGISTIC TANH HARD_SWISH GELU RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ELU ABS SIN COS SQUARE NEG FLOOR CEIL ROUND SIGN"
)

# -- the cases, by kind ----------------------------------------------------------------

ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
Named = Iterator[tuple[str, Spec]]


def convolution(activation: str = "NONE", padding: str = "SAME", stride: int = 1, dilation: int = 1) -> dict[str, Any]:
    return {
        "padding": padding,
        "strideH": stride,
        "strideW": stride,
        "dilationHFactor": dilation,
        "dilationWFactor": dilation,
        "fusedActivationFunction": activation,
    }


def _linear() -> Named:
    image = (1, 8, 9, 6)
    for a in ACTIVATIONS:
        yield f"CONV_2D/3x3-{a}", Spec("CONV_2D", (X(image), weights(8, 3, 3, 6), weights(8)), convolution(a))
        depthwise = {**convolution(a), "depthMultiplier": 1}
        yield (
            f"DEPTHWISE_CONV_2D/3x3-{a}",
            Spec("DEPTHWISE_CONV_2D", (X(image), weights(1, 3, 3, 6), weights(6)), depthwise),
        )
        dense = (X((2, 24)), weights(10, 24), weights(10))
        yield f"FULLY_CONNECTED/{a}", Spec("FULLY_CONNECTED", dense, {"fusedActivationFunction": a})
    yield "CONV_2D/1x1", Spec("CONV_2D", (X(image), weights(8, 1, 1, 6), weights(8)), convolution())
    yield "CONV_2D/no-bias", Spec("CONV_2D", (X(image), weights(8, 3, 3, 6), None), convolution(), shape=(1, 8, 9, 8))
    yield "CONV_2D/two-inputs", Spec("CONV_2D", (X(image), weights(8, 3, 3, 6)), convolution(), shape=(1, 8, 9, 8))
    yield (
        "CONV_2D/valid-stride2",
        Spec("CONV_2D", (X(image), weights(8, 3, 3, 6), weights(8)), convolution("NONE", "VALID", 2)),
    )
    yield (
        "CONV_2D/dilated",
        Spec("CONV_2D", (X(image), weights(8, 3, 3, 6), weights(8)), convolution(dilation=2), version=2),
    )
    yield "CONV_2D/groups", Spec("CONV_2D", (X(image), weights(8, 3, 3, 3), weights(8)), convolution(), version=6)
    yield "CONV_2D/huge-bias", Spec("CONV_2D", (X(image), weights(8, 3, 3, 6), weights(8, scale=1e5)), convolution())
    yield "CONV_2D/batch", Spec("CONV_2D", (X((3, 5, 5, 4)), weights(8, 3, 3, 4), weights(8)), convolution())
    zeroed = weights(8, 3, 3, 6)
    zeroed[2] = 0
    yield "CONV_2D/zero-channel", Spec("CONV_2D", (X(image), zeroed, weights(8)), convolution())
    yield "CONV_2D/zero-weights", Spec("CONV_2D", (X(image), np.zeros_like(zeroed), weights(8)), convolution())
    for variant, options, version in (
        ("stride2", convolution(stride=2), 1),
        ("valid", convolution(padding="VALID"), 1),
        ("dilated", convolution(dilation=2), 2),
    ):
        options = {**options, "depthMultiplier": 1}
        args = (X(image), weights(1, 3, 3, 6), weights(6))
        yield f"DEPTHWISE_CONV_2D/{variant}", Spec("DEPTHWISE_CONV_2D", args, options, version=version)
    yield (
        "DEPTHWISE_CONV_2D/multiplier2",
        Spec(
            "DEPTHWISE_CONV_2D",
            (X(image), weights(1, 3, 3, 12), None),
            {**convolution(), "depthMultiplier": 2},
            shape=(1, 8, 9, 12),
        ),
    )
    yield from _transpose_conv()
    rank3 = {"fusedActivationFunction": "NONE", "keepNumDims": True}
    yield "FULLY_CONNECTED/rank3", Spec("FULLY_CONNECTED", (X((2, 3, 24)), weights(10, 24), None), rank3, version=5)
    yield "FULLY_CONNECTED/two-inputs", Spec("FULLY_CONNECTED", (X((2, 24)), weights(10, 24)), {}, version=6)
    yield "FULLY_CONNECTED/rank4-flattened", Spec("FULLY_CONNECTED", (X((1, 2, 3, 4)), weights(10, 24), weights(10)))


def _transpose_conv() -> Named:
    small = (1, 4, 5, 6)
    for variant, padding, shape, bias in (
        ("same", "SAME", (1, 8, 10, 8), weights(8)),
        ("valid", "VALID", (1, 9, 11, 8), weights(8)),
        ("no-bias", "SAME", (1, 8, 10, 8), None),
    ):
        options = {"padding": padding, "strideH": 2, "strideW": 2}
        args = (ints(*shape), weights(8, 3, 3, 6), X(small), bias)
        yield f"TRANSPOSE_CONV/{variant}", Spec("TRANSPOSE_CONV", args, options, version=3)
    three = (ints(1, 8, 10, 8), weights(8, 3, 3, 6), X(small))
    same = {"padding": "SAME", "strideH": 2, "strideW": 2}
    yield "TRANSPOSE_CONV/three-inputs", Spec("TRANSPOSE_CONV", three, same)
    fused = {**same, "fusedActivationFunction": "RELU"}
    yield "TRANSPOSE_CONV/relu", Spec("TRANSPOSE_CONV", (*three, weights(8)), fused, version=4)


def _binary() -> Named:
    for kind in ("ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM"):
        other: dict[str, Any] = {"low": 0.5, "high": 4.0} if kind == "DIV" else {"low": -1.0, "high": 4.0}
        signed = np.abs if kind == "DIV" else np.asarray
        x = X()
        for variant, second in (
            ("same-shape", X(**other)),
            ("broadcast-channels", X((8,), **other)),
            ("broadcast-both", X((2, 1, 5, 1), **other)),
            ("constant", signed(weights(1, 4, 5, 8, scale=1.0)) + np.float32(0.5 if kind == "DIV" else 0)),
            ("constant-scalar", np.array(1.5, np.float32)),
            ("constant-channels", signed(weights(8, scale=1.0)) + np.float32(0.5 if kind == "DIV" else 0)),
        ):
            yield f"{kind}/{variant}", Spec(kind, (x, second))
        yield f"{kind}/constant-first", Spec(kind, (weights(1, 4, 5, 8, scale=1.0), X(**other)))
        yield f"{kind}/rank5", Spec(kind, (X((1, 2, 2, 3, 4)), X((1, 2, 2, 3, 4), **other)))
        yield f"{kind}/rank1", Spec(kind, (X((7,)), X((7,), **other)))
        yield f"{kind}/scalars", Spec(kind, (X(()), X((), **other)))
        if kind != "DIV":
            yield f"{kind}/same-tensor", Spec(kind, (x, x))
            yield f"{kind}/integers", Spec(kind, (X(dtype="int32"), X(dtype="int32")), outs=("int32",))
        if kind in ("ADD", "SUB", "MUL", "DIV"):
            for a in ACTIVATIONS[1:]:
                yield f"{kind}/{a}", Spec(kind, (x, X(**other)), {"fusedActivationFunction": a})
    negative = X(low=-4.0, high=-0.5)
    yield "DIV/negative-divisor", Spec("DIV", (X(), negative))
    yield "DIV/by-itself", Spec("DIV", (positive := X(low=0.5, high=2.0), positive))
    yield from _batch_matmul()


def _batch_matmul() -> Named:
    for variant, a, b, adj_x, adj_y in (
        ("plain", X((1, 2, 5, 8)), X((1, 2, 8, 6)), False, False),
        ("rank3", X((2, 5, 8)), X((2, 8, 6)), False, False),
        ("adjoint-right", X((1, 2, 5, 8)), X((1, 2, 6, 8)), False, True),
        ("adjoint-left", X((1, 2, 8, 5)), X((1, 2, 8, 6)), True, False),
        ("constant-right", X((2, 5, 8)), weights(2, 8, 6), False, False),
        ("broadcast", X((2, 5, 8)), X((1, 8, 6)), False, False),
    ):
        yield f"BATCH_MATMUL/{variant}", Spec("BATCH_MATMUL", (a, b), {"adjX": adj_x, "adjY": adj_y})


def _reductions() -> Named:
    for kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        for variant, axes, keep in (
            ("spatial", (1, 2), False),
            ("spatial-keep", (1, 2), True),
            ("last", (3,), False),
            ("last-keep", (-1,), True),
            ("middle", (2,), False),
            ("all", (0, 1, 2, 3), False),
        ):
            yield f"{kind}/{variant}", Spec(kind, (X(), ints(*axes)), {"keepDims": keep})
        yield f"{kind}/rank3", Spec(kind, (X((2, 6, 7)), ints(1)), {"keepDims": True})
        yield f"{kind}/rank2", Spec(kind, (X((3, 16)), ints(1)), {"keepDims": False})
    for kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        for variant, padding, stride, size, a in (
            ("same", "SAME", 2, 3, "NONE"),
            ("valid", "VALID", 1, 2, "NONE"),
            ("relu", "VALID", 2, 2, "RELU"),
            ("relu6", "SAME", 1, 3, "RELU6"),
            ("global", "VALID", 1, 6, "NONE"),
        ):
            options = {
                "padding": padding,
                "strideH": stride,
                "strideW": stride,
                "filterHeight": size,
                "filterWidth": size,
                "fusedActivationFunction": a,
            }
            yield f"{kind}/{variant}", Spec(kind, (X((1, 6, 6, 8), high=8.0),), options)
    for variant, shape, axes in (("one", (2, 9), (1,)), ("two", (2, 2, 3), (1, 2)), ("of-one", (3, 1), (1,))):
        arguments = (X(shape, low=0.58, high=1.13), ints(*axes))
        yield f"REDUCE_PROD/{variant}", Spec("REDUCE_PROD", arguments, {"keepDims": False})
    for variant, axis, exclusive, reverse in (
        ("last", 3, False, False),
        ("middle", 1, False, False),
        ("exclusive", -1, True, False),
        ("reverse", 2, True, True),
    ):
        options = {"exclusive": exclusive, "reverse": reverse}
        yield f"CUMSUM/{variant}", Spec("CUMSUM", (X(), number(axis)), options)
    yield "CUMSUM/rank1", Spec("CUMSUM", (X((9,)), number(0)), {"exclusive": False, "reverse": False})
    for kind in ("REDUCE_ALL", "REDUCE_ANY"):
        for keep in (False, True):
            flags = X((2, 3, 2), dtype="bool")
            yield f"{kind}/{keep}", Spec(kind, (flags, ints(2)), {"keepDims": keep}, ("bool",))
    for kind in ("ARG_MAX", "ARG_MIN"):
        yield f"{kind}/last", Spec(kind, (X((2, 9)), number(1)), {"outputType": "INT32"}, ("int32",))
        yield f"{kind}/axis-vector", Spec(kind, (X((2, 9)), ints(1)), {"outputType": "INT32"}, ("int32",))


def _activations() -> Named:
    for kind in UNARY.split():
        yield f"{kind}/image", Spec(kind, (X(low=-5.0, high=8.0),))
        yield f"{kind}/rank1", Spec(kind, (X((16,)),))
        yield f"{kind}/scalar", Spec(kind, (X(()),))
        yield f"{kind}/rank5", Spec(kind, (X((1, 2, 2, 3, 4)),))
    yield "GELU/approximate", Spec("GELU", (X(low=-5.0, high=5.0),), {"approximate": True})
    for kind, low, high in (("EXP", -6.0, 1.0), ("LOG", 0.05, 8.0), ("SQRT", 0.0, 5.0), ("RSQRT", 0.1, 5.0)):
        yield f"{kind}/image", Spec(kind, (X(low=low, high=high),))
        yield f"{kind}/rank1", Spec(kind, (X((16,), low=low, high=high),))
        yield f"{kind}/scalar", Spec(kind, (X((), low=low, high=high),))
    for variant, shape, exponent in (("cube", (1, 4, 5, 8), 3.0), ("root", (16,), 0.3), ("power", (), 1.5)):
        yield f"POW/{variant}", Spec("POW", (X(shape, 0.1, 3.1), np.array(exponent, np.float32)))
    yield "POW/image", Spec("POW", (X(low=-3.1, high=2.7), np.array(3.0, np.float32)))
    yield "POW/of-a-number", Spec("POW", (np.array(2.0, np.float32), X(low=-3.1, high=2.7)))
    yield "ATAN2/image", Spec("ATAN2", (X(), np.ones((1, 4, 5, 8), np.float32)))
    yield "ATAN2/of-a-number", Spec("ATAN2", (np.full((16,), 0.5, np.float32), X((16,))))
    yield "SQRT/negative-inputs", Spec("SQRT", (X(low=0.0, high=3.0),))
    for beta in (1.0, 0.5):
        yield f"SOFTMAX/beta{beta}", Spec("SOFTMAX", (X((2, 10)),), {"beta": beta})
    yield "SOFTMAX/rank4", Spec("SOFTMAX", (X((1, 2, 5, 7), low=-8.0, high=6.0),), {"beta": 1.0})
    yield "SOFTMAX/rank3", Spec("SOFTMAX", (X((2, 5, 7)),), {"beta": 1.0})
    yield "SOFTMAX/rank1", Spec("SOFTMAX", (X((9,)),), {"beta": 1.0})
    yield "SOFTMAX/wide-input", Spec("SOFTMAX", (X((2, 10), low=-90.0, high=70.0),), {"beta": 1.0})
    yield "LOG_SOFTMAX/plain", Spec("LOG_SOFTMAX", (X((2, 10)),))
    yield "LOG_SOFTMAX/rank4", Spec("LOG_SOFTMAX", (X((1, 2, 5, 7)),))
    yield "L2_NORMALIZATION/plain", Spec("L2_NORMALIZATION", (X((2, 16)),))
    yield "L2_NORMALIZATION/rank4", Spec("L2_NORMALIZATION", (X((1, 3, 3, 8)),))
    for alpha in (0.1, 0.01, 2.0):
        yield f"LEAKY_RELU/{alpha}", Spec("LEAKY_RELU", (X(),), {"alpha": alpha})
    yield "LEAKY_RELU/rank1", Spec("LEAKY_RELU", (X((16,)),), {"alpha": 0.2})
    yield "PRELU/channels", Spec("PRELU", (X(), weights(1, 1, 8)))
    yield "PRELU/full", Spec("PRELU", (X(), weights(4, 5, 8)))
    yield "PRELU/positive", Spec("PRELU", (X(), np.abs(weights(1, 1, 8))))
    yield "PRELU/scalar", Spec("PRELU", (X(), np.full((1, 1, 1), 0.25, np.float32)))


def _moves() -> Named:
    yield "RESHAPE/tensor", Spec("RESHAPE", (X(), ints(1, 20, 8)), {"newShape": (1, 20, 8)})
    yield "RESHAPE/minus-one", Spec("RESHAPE", (X(), ints(-1, 8)), {"newShape": (-1, 8)})
    yield "RESHAPE/rank5", Spec("RESHAPE", (X(), ints(1, 2, 2, 5, 8)), {"newShape": (1, 2, 2, 5, 8)})
    yield "SQUEEZE/first", Spec("SQUEEZE", (X(),), {"squeezeDims": (0,)})
    yield "EXPAND_DIMS/last", Spec("EXPAND_DIMS", (X((4, 5)), number(-1)))
    for variant, shape, order in (
        ("nchw", (1, 4, 5, 8), (0, 3, 1, 2)),
        ("rank2", (4, 5), (1, 0)),
        ("rank3", (2, 4, 5), (0, 2, 1)),
        ("rank5", (1, 2, 3, 4, 5), (0, 3, 1, 4, 2)),
    ):
        yield f"TRANSPOSE/{variant}", Spec("TRANSPOSE", (X(shape), ints(*order)), version=4 if len(shape) > 4 else 1)
    second = X((1, 4, 5, 3), low=-1.0, high=5.0)
    yield "CONCATENATION/two", Spec("CONCATENATION", (X(), second), {"axis": 3})
    yield "CONCATENATION/negative-axis", Spec("CONCATENATION", (X(), second), {"axis": -1})
    yield "CONCATENATION/constant", Spec("CONCATENATION", (X(), weights(1, 4, 5, 2, scale=3.0)), {"axis": 3})
    yield "CONCATENATION/same-tensor", Spec("CONCATENATION", (x := X(), x), {"axis": 1})
    yield "CONCATENATION/five", Spec("CONCATENATION", tuple(X((2, i + 1), high=i + 1.0) for i in range(5)), {"axis": 1})
    yield "PACK/two", Spec("PACK", (X((4, 5)), X((4, 5), high=5.0)), {"valuesCount": 2, "axis": 1})
    yield "PACK/constant", Spec("PACK", (X((4, 5)), weights(4, 5)), {"valuesCount": 2, "axis": 0})
    yield "UNPACK/three", Spec("UNPACK", (X((4, 3, 5)),), {"num": 3, "axis": 1}, ("float32",) * 3)
    yield "SPLIT/two", Spec("SPLIT", (number(3), X()), {"numSplits": 2}, ("float32",) * 2)
    yield "SPLIT_V/uneven", Spec("SPLIT_V", (X(), ints(3, 5), number(3)), {"numSplits": 2}, ("float32",) * 2)
    yield "SLICE/middle", Spec("SLICE", (X(), ints(0, 1, 1, 2), ints(1, 2, -1, 4)))
    yield "SLICE/rank5", Spec("SLICE", (X((1, 2, 3, 4, 5)), ints(0, 0, 1, 1, 2), ints(1, 2, 2, 2, 2)), version=5)
    strided = {"beginMask": 0, "endMask": 8, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}
    window = (ints(0, 0, 1, 2), ints(1, 4, 5, 8), ints(1, 2, 2, 1))
    yield "STRIDED_SLICE/steps", Spec("STRIDED_SLICE", (X(), *window), strided)
    shrink = {**strided, "shrinkAxisMask": 2}
    yield "STRIDED_SLICE/shrink", Spec("STRIDED_SLICE", (X(), *window), shrink)
    yield "GATHER/rows", Spec("GATHER", (X((6, 5)), ints(4, 0, 2)), {"axis": 0, "batchDims": 0})
    yield "GATHER/last-axis", Spec("GATHER", (X((2, 6)), ints(4, 0)), {"axis": 1, "batchDims": 0})
    yield (
        "GATHER/table",
        Spec("GATHER", (weights(9, 5), X((1, 4), 0, 8, "int32")), {"axis": 0, "batchDims": 0}),
    )
    yield "GATHER_ND/points", Spec("GATHER_ND", (X((4, 5, 3)), np.array([[0, 1], [3, 4]], np.int32)))
    for variant, shape, count in (("vector", (12,), 3), ("rows", (2, 3, 9), 4), ("all", (2, 9), 9)):
        yield f"TOPK_V2/{variant}", Spec("TOPK_V2", (X(shape), number(count)), {}, ("float32", "int32"))
    yield "REVERSE_V2/one", Spec("REVERSE_V2", (X(), ints(3)), version=1)
    yield "REVERSE_V2/two", Spec("REVERSE_V2", (X((2, 3, 4)), ints(1, -1)), version=1)
    for variant, shape, at in (("middle", (1, 2, 3, 8), (0, 1, 1, 0)), ("end", (1, 4, 5, 2), (0, 0, 0, 9))):
        args = (X(), X(shape, high=4.0), ints(*at))
        yield f"DYNAMIC_UPDATE_SLICE/{variant}", Spec("DYNAMIC_UPDATE_SLICE", args)
    hot = (number(7), np.array(1, np.float32), np.array(0, np.float32))
    yield "ONE_HOT/last", Spec("ONE_HOT", (X((2, 4), -1, 8, "int32"), *hot), {"axis": -1})
    yield "ONE_HOT/first", Spec("ONE_HOT", (X((2, 4), 0, 6, "int32"), *hot), {"axis": 0})
    yield "EMBEDDING_LOOKUP/table", Spec("EMBEDDING_LOOKUP", (X((4,), 0, 8, "int32"), weights(9, 5)))
    yield from _pads_and_sizes()


def _pads_and_sizes() -> Named:
    amount = np.array([[0, 0], [1, 2], [0, 1], [2, 0]], np.int32)
    yield "PAD/plain", Spec("PAD", (X(), amount))
    yield "PAD/positive", Spec("PAD", (X(low=1.0, high=4.0), amount))
    yield "PAD/rank2", Spec("PAD", (X((4, 5)), amount[:2]))
    yield "PADV2/plain", Spec("PADV2", (X(), amount, np.array(-2.5, np.float32)))
    yield "PADV2/outside", Spec("PADV2", (X(), amount, np.array(-9.0, np.float32)))
    for mode in ("REFLECT", "SYMMETRIC"):
        yield f"MIRROR_PAD/{mode}", Spec("MIRROR_PAD", (X(), amount), {"mode": mode == "SYMMETRIC"})
    for kind in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        for variant, align, half in (("plain", False, False), ("align", True, False), ("half-pixel", False, True)):
            for size in ((8, 10), (7, 3)):
                options = {"alignCorners": align, "halfPixelCenters": half}
                yield f"{kind}/{variant}-{size[0]}", Spec(kind, (X(), ints(*size)), options, version=3)
    yield "SPACE_TO_DEPTH/2", Spec("SPACE_TO_DEPTH", (X((1, 4, 6, 3)),), {"blockSize": 2})
    yield "DEPTH_TO_SPACE/2", Spec("DEPTH_TO_SPACE", (X((1, 4, 6, 8)),), {"blockSize": 2})
    none = np.zeros((2, 2), np.int32)
    yield "SPACE_TO_BATCH_ND/2", Spec("SPACE_TO_BATCH_ND", (X((1, 4, 6, 3)), ints(2, 2), none))
    yield "SPACE_TO_BATCH_ND/pad", Spec("SPACE_TO_BATCH_ND", (X((1, 3, 6, 3)), ints(2, 2), ints((0, 1), (0, 0))))
    yield "BATCH_TO_SPACE_ND/2", Spec("BATCH_TO_SPACE_ND", (X((4, 2, 3, 3)), ints(2, 2), none))
    yield "TILE/channels", Spec("TILE", (X(), ints(1, 2, 1, 3)))
    yield "BROADCAST_TO/rows", Spec("BROADCAST_TO", (X((1, 5)), ints(4, 5)), version=2)
    choose = X((1, 4, 5, 8), dtype="bool")
    yield "SELECT/same-shape", Spec("SELECT", (choose, X(), X(high=6.0)))
    yield "SELECT/constant", Spec("SELECT", (choose, X(), weights(1, 4, 5, 8)))
    yield "SELECT/rows", Spec("SELECT", (X((4,), dtype="bool"), X((4, 5)), X((4, 5), high=6.0)))
    yield "SELECT_V2/same-shape", Spec("SELECT_V2", (choose, X(), X(high=6.0)))
    yield "SELECT_V2/scalar", Spec("SELECT_V2", (choose, X(), np.array(-7.0, np.float32)))
    yield "SELECT_V2/broadcast", Spec("SELECT_V2", (X((5, 1), dtype="bool"), X((4, 5, 8)), X((8,))))
    yield "FILL/scalar", Spec("FILL", (ints(2, 3), X(())))


def _others() -> Named:
    for kind in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"):
        yield f"{kind}/floats", Spec(kind, (X(), X(high=4.0)), outs=("bool",))
        yield f"{kind}/same-range", Spec(kind, (X(), X()), outs=("bool",))
        yield f"{kind}/constant", Spec(kind, (X(), np.array(0.5, np.float32)), outs=("bool",))
        yield f"{kind}/integers", Spec(kind, (X((7,), dtype="int32"), X((7,), dtype="int32")), outs=("bool",))
    for source, name in (("int32", "INT32"), ("bool", "BOOL")):
        options = {"inDataType": name, "outDataType": "FLOAT32"}
        yield f"CAST/{source}-to-float", Spec("CAST", (X(low=-20, high=90, dtype=source),), options)
    for dtype, name in (("int32", "INT32"), ("bool", "BOOL"), ("int64", "INT64")):
        options = {"inDataType": "FLOAT32", "outDataType": name}
        args = (X(low=-20.3, high=90.7),)
        yield f"CAST/float-to-{dtype}", Spec("CAST", args, options, (dtype,), tflm=dtype != "int64")
    options = {"inDataType": "FLOAT32", "outDataType": "INT32"}
    yield "CAST/float-to-large", Spec("CAST", (X(low=-20.3, high=300.7),), options, ("int32",), tflm=False)
    options = {"inDataType": "INT32", "outDataType": "INT64"}
    yield "CAST/integers", Spec("CAST", (X(dtype="int32"),), options, ("int64",), tflm=False)
    yield "QUANTIZE/to-int8", Spec("QUANTIZE", (X(),), outs=("int8",))
    yield "DEQUANTIZE/from-int8", Spec("DEQUANTIZE", (X(dtype="int8"),), version=2)
    yield "SHAPE/image", Spec("SHAPE", (X(),), {"outType": "INT32"}, ("int32",))
    boolean = X((7,), dtype="bool")
    for kind in ("FLOOR_DIV", "FLOOR_MOD"):
        numbers = (X((7,), -20, 20, "int32"), X((7,), 1, 5, "int32"))
        yield f"{kind}/plain", Spec(kind, numbers, outs=("int32",))
    yield "RANGE/plain", Spec("RANGE", (number(0), X((), 4, 4, "int32"), number(1)), outs=("int32",), shape=(4,))
    for kind in ("LOGICAL_AND", "LOGICAL_OR"):
        yield f"{kind}/plain", Spec(kind, (boolean, X((7,), dtype="bool")), outs=("bool",))
    yield "LOGICAL_NOT/plain", Spec("LOGICAL_NOT", (boolean,), outs=("bool",))


SPECS: Mapping[str, Spec] = {
    name: spec for group in (_linear, _binary, _reductions, _activations, _moves, _others) for name, spec in group()
}


def names(kinds: Sequence[str] = ()) -> list[str]:
    """The names of all cases, or of those of some kinds."""
    return [name for name, spec in SPECS.items() if not kinds or spec.kind in kinds]


@cache
def case(name: str) -> Case:
    """A case by its name."""
    return made(name, SPECS[name])
