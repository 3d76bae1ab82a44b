"""The op table's 16-bit rows against the kernels: each is lowered, loaded, run and compared with exact arithmetic."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from edgeqwt.errors import ToolError
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.graph.opset import RULES, Form
from edgeqwt.graph.opset16 import RULES16, rule_at
from edgeqwt.lowering.lower import Precision
from edgeqwt.prepare.prepare import prepare
from edgeqwt.runtime.runners import RUNNERS, TFLiteMicro
from tests.one_op import Lowered, X, lowered, made
from tests.one_op_specs import SPECS, case

# The exact results are computed in float32, whose 24 bits leave 2^-9 of a step of 16; sums of 160 terms, 13 times that.
FLOAT = 0.03

# Ops whose kernels overflow, abort or jump at some scales, and one of each other form.
EXTREME = """
ADD/same-shape SUB/RELU_N1_TO_1 ADD/RELU6 MUL/RELU6 MUL/same-shape RELU/image RELU6/image LOGISTIC/image TANH/image
AVERAGE_POOL_2D/relu6 CONV_2D/3x3-RELU6 FULLY_CONNECTED/RELU6 DEPTHWISE_CONV_2D/3x3-NONE TRANSPOSE_CONV/same
MEAN/spatial SOFTMAX/rank4 BATCH_MATMUL/plain LEAKY_RELU/0.1 SUM/spatial GREATER/floats CONCATENATION/two
HARD_SWISH/image
"""


NOT_IN_MICRO = frozenset(kind for kind, row in RULES16.items() if not row.tflm)


@cache
def integer(name: str, missing: frozenset[str] = frozenset()) -> Lowered:
    """A case made integer with 16-bit activations, for a target that lacks some kinds of ops."""
    return lowered(case(name).graph, case(name).samples, precision=Precision(activation_bits=16), missing16=missing)


@cache
def result(name: str, runtime: str, missing: frozenset[str] = frozenset()) -> list[list[Array]]:
    """A case's integer outputs from a runtime."""
    return integer(name, missing).run(RUNNERS[runtime])


def entirely_wide(name: str) -> bool:
    """Whether nothing of a case stays at 8 bits."""
    graph = prepare(case(name).graph).graph
    floats = [op for op in graph.ops if any(graph.tensors[t].is_float for t in op.tensors)]
    return bool(floats) and all(op.kind in RULES16 for op in floats) and SPECS[name].kind in RULES16


def stays_narrow(name: str) -> bool:
    """Cases of wide rows that have 8 bits for reasons of their own."""
    spec = SPECS[name]
    # To integers through a table; rows of a constant table are weights; a comparison of integers is no one's row.
    constant = not any(isinstance(arg, X) and arg.dtype == "float32" for arg in spec.args)
    return constant or (spec.kind == "CAST" and spec.outs[0] not in ("float32", "bool"))


WIDE = [name for name in SPECS if entirely_wide(name) and not stays_narrow(name)]
IN_MICRO = [name for name in WIDE if RULES16[SPECS[name].kind].tflm and SPECS[name].tflm]


def test_every_wide_row_has_a_case() -> None:
    through_int8 = {"EMBEDDING_LOOKUP"}
    assert {SPECS[name].kind for name in WIDE} | through_int8 == set(RULES16)


@pytest.mark.parametrize("name", WIDE)
def test_nothing_of_a_wide_op_is_float_or_int8(name: str) -> None:
    graph = integer(name).graph
    weights = {op.inputs[row.weight] for op in graph.ops if (row := RULES[op.kind]).weight is not None}
    found = {t.dtype for i, t in enumerate(graph.tensors) if i not in weights}
    through_int8 = SPECS[name].kind in ("QUANTIZE", "LOG_SOFTMAX")
    assert found <= {"int16", "int32", "int64", "bool", *(["int8"] if through_int8 else [])}


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("runtime", ["reference", "xnnpack"])
def test_litert_stays_within_the_rows_bound(name: str, runtime: str) -> None:
    assert integer(name).worst(result(name, runtime)) <= RULES16[SPECS[name].kind].bound + FLOAT


@pytest.mark.parametrize("name", IN_MICRO)
def test_tflite_micro_equals_the_reference_kernels(name: str) -> None:
    found = integer(name, NOT_IN_MICRO)
    allowed = max(rule_at(op.kind, 16).micro for op in found.graph.ops if op.kind in RULES16)
    micro, litert = (result(name, runtime, NOT_IN_MICRO) for runtime in ("tflm", "reference"))
    for ours, theirs in zip(micro, litert, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            assert np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0) <= allowed
    assert found.worst(micro) <= RULES16[SPECS[name].kind].bound + FLOAT


@pytest.mark.parametrize("name", [name for name in WIDE if name not in IN_MICRO and SPECS[name].tflm])
def test_tflite_micro_lacks_what_the_table_says_it_lacks(name: str) -> None:
    with pytest.raises((ToolError, RuntimeError)):
        integer(name).run(TFLiteMicro)


@pytest.mark.parametrize("name", [n for n in SPECS if n not in WIDE and RULES[SPECS[n].kind].form is not Form.INTEGER])
def test_what_has_no_wide_form_runs_on_int8_between_wide_interfaces(name: str) -> None:
    found = integer(name)
    dtypes = {found.graph.tensors[t].dtype for t in (*found.graph.inputs, *found.graph.outputs)}
    assert "float32" not in dtypes
    assert not dtypes & {"int8"} or SPECS[name].kind in ("QUANTIZE", "DEQUANTIZE", "CAST")
    result(name, "xnnpack")
    missing = {kind for kind, row in RULES.items() if not row.tflm}
    if not missing & {op.kind for op in found.graph.ops} and SPECS[name].tflm:
        lacking = {op.kind for op in found.graph.ops} & {kind for kind, row in RULES16.items() if not row.tflm}
        if not lacking - {"GATHER"}:
            assert [[a.tolist() for a in out] for out in result(name, "tflm")] == [
                [a.tolist() for a in out] for out in result(name, "reference")
            ]


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e3, 1e9])
@pytest.mark.parametrize("name", EXTREME.split())
def test_kernels_are_right_at_any_scale_that_lowering_gives_them(name: str, factor: float) -> None:
    spec = SPECS[name]
    args = {id(a): replace(a, low=a.low * factor, high=a.high * factor) for a in spec.args if isinstance(a, X)}
    scaled = made(name, replace(spec, args=tuple(args.get(id(a), a) for a in spec.args)))
    found = lowered(scaled.graph, scaled.samples, precision=Precision(activation_bits=16))
    outs = {runtime: found.run(factory) for runtime, factory in RUNNERS.items()}
    narrow = any(t.dtype == "int8" and not t.is_constant for t in found.graph.tensors)
    if not narrow:
        for out in outs.values():
            assert found.worst(out) <= RULES16[spec.kind].bound + FLOAT
    allowed = max(rule_at(op.kind, 16).micro for op in found.graph.ops if op.kind in RULES16)
    for ours, theirs in zip(outs["tflm"], outs["reference"], strict=True):
        assert np.abs(ours[0].astype(int) - theirs[0].astype(int)).max(initial=0) <= allowed


@pytest.mark.parametrize("runtime", RUNNERS)
@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH"])
@pytest.mark.parametrize("scale", [1e-7, 3e-5, 1e-4, 1.0004 * 2.0**-12, 2.0**-12, 1e-3, 0.1, 4.0])
def test_sigmoids_of_every_integer(kind: str, scale: float, runtime: str) -> None:
    x = np.arange(-32767, 32768).astype(np.int16)
    q = Quantization.per_tensor(scale, 0)
    tensors = (
        Tensor("x", x.shape, "int16", None, q),
        Tensor("y", x.shape, "int16", None, Quantization.per_tensor(2.0**-15, 0)),
    )
    graph = Graph(tensors, (Op(kind, (0,), (1,), version=3),), (0,), (1,))
    reals = float(q.scale[0]) * x
    exact = np.tanh(reals) if kind == "TANH" else (1 + np.tanh(reals / 2)) / 2
    error = np.abs(RUNNERS[runtime](graph).run({0: x})[1] - np.clip(exact * 2**15, -(2**15), 2**15 - 1))
    assert error.max() <= RULES16[kind].bound


@pytest.mark.parametrize("runtime", RUNNERS)
@pytest.mark.parametrize("kind", ["CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"])
def test_accumulators_hold_long_sums_of_large_integers(kind: str, runtime: str) -> None:
    # 2^11 products of 2^22 or more: beyond 32 bits.
    rng, terms = np.random.default_rng(0), 2048
    x = rng.integers(20000, 32768, (4, terms)).astype(np.int16)
    weights = rng.integers(60, 128, (8, terms)).astype(np.int16 if kind == "BATCH_MATMUL" else np.int8)
    total = x.astype(np.int64) @ weights.T.astype(np.int64)
    scale = Quantization.per_tensor(0.5, 0), Quantization.per_tensor(float(total.max() / 4 / 30000), 0)
    channels, y = Quantization.per_channel(np.full(8, 0.5, np.float32), 0), scale[1]
    shapes = {"CONV_2D": ((1, 2, 2, terms), (8, 1, 1, terms), (1, 2, 2, 8))}.get(kind, (x.shape, weights.shape, (4, 8)))
    options = {"padding": "VALID", "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    tensors = [Tensor("x", shapes[0], "int16", None, scale[0])]
    if kind == "BATCH_MATMUL":
        tensors.append(Tensor("w", shapes[1], "int16", weights, scale[0]))
    else:
        tensors.append(Tensor("w", shapes[1], "int8", weights.reshape(shapes[1]), channels))
        bias = Quantization.per_channel(np.full(8, 0.25, np.float32), 0)
        tensors.append(Tensor("b", (8,), "int64", np.zeros(8, np.int64), bias))
    tensors.append(Tensor("y", shapes[2], "int16", None, y))
    extra = options if kind == "CONV_2D" else {"adjX": False, "adjY": True} if kind == "BATCH_MATMUL" else {}
    last = len(tensors) - 1
    op = Op(kind, tuple(range(last)), (last,), extra, RULES16[kind].version)
    found = RUNNERS[runtime](Graph(tuple(tensors), (op,), (0,), (last,))).run({0: x.reshape(shapes[0])})[last]
    assert np.abs(found.reshape(4, 8) - total / 4 / float(y.scale[0])).max() <= RULES16[kind].bound


@pytest.mark.parametrize("runtime", ["reference", "tflm"])
def test_the_mean_of_too_many_elements_overflows(runtime: str) -> None:
    q = Quantization.per_tensor(1.0, 0)
    tensors = (
        Tensor("x", (1, 300, 300, 1), "int16", None, q),
        Tensor("axes", (2,), "int32", np.array([1, 2], np.int32)),
        Tensor("y", (1, 1), "int16", None, q),
    )
    graph = Graph(tensors, (Op("MEAN", (0, 1), (2,), {"keepDims": False}, 3),), (0,), (2,))
    x = np.full((1, 300, 300, 1), 32000, np.int16)
    assert RUNNERS[runtime](graph).run({0: x})[2] != 32000  # if this fails, `largest_count` can go
