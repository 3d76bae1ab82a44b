from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgeqwt.errors import UnsupportedError
from edgeqwt.target.package.resolver import CUSTOM_METHODS, METHODS, methods
from tests import small
from tests.targets.package import common

HEADER = "tensorflow/lite/micro/micro_mutable_op_resolver.h"


def test_each_kernel_once_and_no_others() -> None:
    graph = common.int8()
    assert methods(graph, "tflm") == ("AddConv2D", "AddFullyConnected", "AddMean", "AddSoftmax")
    twice = replace(graph, others=(graph,))
    assert methods(twice, "tflm") == methods(graph, "tflm")


def test_ops_of_further_subgraphs_count() -> None:
    graph = replace(common.int8(), others=(common.float_borders(),))
    assert {"AddQuantize", "AddDequantize"} <= set(methods(graph, "tflm"))


def test_a_custom_op_without_a_kernel_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"CUSTOM #3 .* on target tflm: TFLite Micro has no kernel for MyOp"):
        methods(small.with_custom_op(common.int8()), "tflm")


def test_so_is_a_builtin_one() -> None:
    graph = common.int8()
    *ops, last = graph.ops
    with pytest.raises(UnsupportedError, match="has no kernel for GELU"):
        methods(replace(graph, ops=(*ops, replace(last, kind="GELU", options={}))), "tflm")


def test_names_are_those_of_a_tflite_micro_tree() -> None:
    tree = os.environ.get("EDGEQWT_TFLM_DIR")
    if tree is None:
        pytest.skip("EDGEQWT_TFLM_DIR, the path of a TFLite Micro tree, is not set")
    text = (Path(tree) / HEADER).read_text(encoding="utf-8")
    bodies = re.findall(r"TfLiteStatus (Add\w+)\((.*?)\n  }\n", text, re.DOTALL)
    builtin = {
        kind: name for name, body in bodies for kind in re.findall(r"AddBuiltin\(\s*BuiltinOperator_(\w+)", body)
    }
    assert dict(METHODS) == builtin
    assert set(CUSTOM_METHODS.values()) <= {name for name, _ in bodies}
