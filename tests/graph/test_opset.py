"""The op table against the kernels: every row is lowered, loaded, run and compared with exact arithmetic."""

from __future__ import annotations

import runpy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.errors import ToolError
from edgeqwt.graph.graph import Array
from edgeqwt.graph.opset import RULES
from edgeqwt.runtime.runners import RUNNERS, TFLiteMicro, reference, xnnpack
from tests.one_op import Lowered, X, lowered, made
from tests.one_op_specs import SPECS, case

ROOT = Path(__file__).parents[2]
PROMISED = """
CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV FULLY_CONNECTED BATCH_MATMUL ADD SUB MUL DIV SQUARED_DIFFERENCE MEAN SUM
MAXIMUM MINIMUM REDUCE_MAX AVERAGE_POOL_2D MAX_POOL_2D SOFTMAX LOGISTIC TANH HARD_SWISH GELU RELU RELU6 RELU_0_TO_1
RELU_N1_TO_1 LEAKY_RELU PRELU ELU EXP LOG SQRT RSQRT ABS NEG PAD PADV2 MIRROR_PAD RESHAPE TRANSPOSE CONCATENATION
SPLIT SPLIT_V UNPACK PACK SLICE STRIDED_SLICE GATHER EMBEDDING_LOOKUP RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
SPACE_TO_DEPTH DEPTH_TO_SPACE SELECT SELECT_V2 EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL CAST ARG_MAX
L2_NORMALIZATION QUANTIZE DEQUANTIZE
"""

# Ops whose kernels overflow, abort or jump at some scales, and one of each other form.
EXTREME = """
ADD/same-shape SUB/RELU_N1_TO_1 ADD/RELU6 MUL/RELU6 MUL/same-shape RELU/image RELU6/image LOGISTIC/image TANH/image
HARD_SWISH/image AVERAGE_POOL_2D/relu6 CONV_2D/3x3-RELU6 FULLY_CONNECTED/RELU6 DEPTHWISE_CONV_2D/3x3-NONE
SQUARED_DIFFERENCE/same-shape MEAN/spatial SOFTMAX/rank4 BATCH_MATMUL/plain LEAKY_RELU/0.1 SUM/spatial GREATER/floats
CONCATENATION/two
"""

in_micro = [name for name, spec in SPECS.items() if RULES[spec.kind].tflm and spec.tflm]
not_in_micro = [name for name in SPECS if name not in in_micro]


@cache
def integer(name: str) -> Lowered:
    """A case made integer."""
    return lowered(case(name).graph, case(name).samples)


@cache
def result(name: str, runtime: str) -> list[list[Array]]:
    """A case's integer outputs from a runtime."""
    return integer(name).run(RUNNERS[runtime])


def test_every_op_that_is_promised_has_a_row() -> None:
    assert [kind for kind in PROMISED.split() if kind not in RULES] == []


@pytest.mark.parametrize("name", SPECS)
def test_lowered_op_has_no_float_left(name: str) -> None:
    assert [t.name for t in integer(name).graph.tensors if t.dtype.startswith("float")] == []


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("runtime", ["reference", "xnnpack"])
def test_litert_stays_within_the_rows_bound(name: str, runtime: str) -> None:
    # 1e-3 of a step for the float32 arithmetic of the exact results.
    assert integer(name).worst(result(name, runtime)) <= RULES[SPECS[name].kind].bound + 1e-3


@pytest.mark.parametrize("name", in_micro)
def test_tflite_micro_equals_the_reference_kernels(name: str) -> None:
    allowed = RULES[SPECS[name].kind].micro
    for ours, theirs in zip(result(name, "tflm"), result(name, "reference"), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            assert np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0) <= allowed
    assert integer(name).worst(result(name, "tflm")) <= RULES[SPECS[name].kind].bound + 1e-3


@pytest.mark.parametrize("name", not_in_micro)
def test_tflite_micro_lacks_what_the_table_says_it_lacks(name: str) -> None:
    with pytest.raises((ToolError, RuntimeError)):  # it finds out about some types only when it runs
        integer(name).run(TFLiteMicro)


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e3, 1e9])
@pytest.mark.parametrize("name", EXTREME.split())
def test_kernels_are_right_at_any_scale_that_lowering_gives_them(name: str, factor: float) -> None:
    spec = SPECS[name]
    args = {id(a): replace(a, low=a.low * factor, high=a.high * factor) for a in spec.args if isinstance(a, X)}
    scaled = made(name, replace(spec, args=tuple(args.get(id(a), a) for a in spec.args)))
    found = lowered(scaled.graph, scaled.samples)
    outs = {runtime: found.run(factory) for runtime, factory in RUNNERS.items()}
    for out in outs.values():
        assert found.worst(out) <= RULES[spec.kind].bound + 1e-3
    for ours, theirs in zip(outs["tflm"], outs["reference"], strict=True):
        difference = np.abs(ours[0].astype(int) - theirs[0].astype(int))
        assert difference.max(initial=0) <= (1 if spec.kind == "FULLY_CONNECTED" else 0)


@pytest.mark.parametrize("kind", sorted(kind for kind, rule in RULES.items() if rule.elementwise and not rule.tflm))
def test_a_table_stands_in_for_an_elementwise_op_that_a_target_lacks(kind: str) -> None:
    name = f"{kind}/image"
    tabled = lowered(case(name).graph, case(name).samples, missing={kind})
    assert kind not in {op.kind for op in tabled.graph.ops}
    for runtime in (reference, xnnpack, TFLiteMicro):
        assert tabled.worst(tabled.run(runtime)) <= 0.5 + 1e-3  # a table rounds once


def test_the_table_in_the_docs_is_up_to_date() -> None:
    generated = runpy.run_path(str(ROOT / "scripts" / "ops_table.py"))["document"]()
    assert (ROOT / "docs" / "ops.md").read_text() == generated, "run: python scripts/ops_table.py"
