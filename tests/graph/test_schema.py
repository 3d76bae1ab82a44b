from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated

from edgeqwt.graph.opset import RULES
from edgeqwt.graph.schema import options_type, pack_int4, unpack_int4
from tests.graph import packed


def test_options_tables_that_real_files_use(mlperf_tiny: Path) -> None:
    names = {v: k for k, v in vars(schema_py_generated.BuiltinOptions).items() if isinstance(v, int)}
    kinds = {v: k for k, v in vars(schema_py_generated.BuiltinOperator).items() if isinstance(v, int)}
    seen = set()
    for path in mlperf_tiny.glob("*.tflite"):
        model = packed.unpack(path.read_bytes())
        for op in model.subgraphs[0].operators:
            code = model.operatorCodes[op.opcodeIndex]
            kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
            seen.add(kind)
            assert names[op.builtinOptionsType] in (options_type(kind), "NONE")
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "SOFTMAX"} <= seen


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("ADD", "AddOptions"),
        ("BATCH_MATMUL", "BatchMatMulOptions"),
        ("TOPK_V2", "TopKV2Options"),
        ("SPACE_TO_BATCH_ND", "SpaceToBatchNDOptions"),
        ("BIDIRECTIONAL_SEQUENCE_LSTM", "BidirectionalSequenceLSTMOptions"),
        ("REDUCE_MAX", "ReducerOptions"),
        ("MINIMUM", "MaximumMinimumOptions"),
        ("IF", "IfOptions"),
        ("CUSTOM", "NONE"),
        ("STABLEHLO_COMPOSITE", "NONE"),
    ],
)
def test_options_table_of_a_kind(kind: str, table: str) -> None:
    assert options_type(kind) == table


def test_ops_without_options_are_the_ones_that_have_none() -> None:
    """schema.fbs has no table for these, so a name that is only spelled differently would show up here."""
    without = {kind for kind in RULES if options_type(kind) == "NONE"}
    assert without <= {
        "LOGISTIC",
        "TANH",
        "RELU",
        "RELU6",
        "RELU_0_TO_1",
        "RELU_N1_TO_1",
        "PRELU",
        "ELU",
        "LOG",
        "SQRT",
        "RSQRT",
        "SIN",
        "FLOOR",
        "CEIL",
        "ROUND",
        "EMBEDDING_LOOKUP",
    }


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_int4_packing_is_undone_by_unpacking(count: int) -> None:
    values = np.random.default_rng(count).integers(-8, 8, count).astype(np.int8)
    packed_bytes = np.frombuffer(pack_int4(values), np.uint8)
    assert packed_bytes.size == (count + 1) // 2
    np.testing.assert_array_equal(unpack_int4(packed_bytes, count), values)


def test_int4_nibbles() -> None:
    assert pack_int4(np.array([[1, -1], [-8, 7]], np.int8)) == b"\xf1\x78"
    assert pack_int4(np.array([-2], np.int8)) == b"\x0e"
