"""CONTRIBUTING.md's walk for an op: a new row of the op table is named wherever another table must know the op.

Each table either has a row's kind, or the kind stands here beside it with the reason why it need not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from importlib import import_module

import pytest

from edgeqwt.graph.opset import RULES, Form
from tests.one_op_specs import SPECS
from tests.small import ROOT

# Borders between float and integer, and ops on integers alone: nothing real to differentiate; gradients stop there.
WITHOUT_GRADIENT = {"SHAPE", "RANGE", "QUANTIZE", "DEQUANTIZE"}
# What is not homogeneous, computes integers, or is written with other ops before: equalization's factors stop there.
WITHOUT_FACTORS = {
    "ARG_MAX", "ARG_MIN", "ATAN2", "CAST", "CEIL", "COS", "CUMSUM", "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV",
    "DYNAMIC_UPDATE_SLICE", "ELU", "EMBEDDING_LOOKUP", "EQUAL", "EXP", "FILL", "FLOOR", "FLOOR_DIV", "FLOOR_MOD",
    "GATHER_ND", "GELU", "GREATER", "GREATER_EQUAL", "HARD_SWISH", "L2_NORMALIZATION", "LESS", "LESS_EQUAL", "LOG",
    "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "LOGISTIC", "LOG_SOFTMAX", "NEG", "NOT_EQUAL", "ONE_HOT", "POW",
    "QUANTIZE", "RANGE", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_PROD", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND",
    "RSQRT", "SELECT", "SELECT_V2", "SHAPE", "SIGN", "SIN", "SOFTMAX", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUM",
    "TANH", "TOPK_V2",
}  # fmt: skip
# No kernel takes int16 activations: between wide ops they are computed with 8 bits.
NARROW = {
    "ATAN2", "CEIL", "COS", "DEQUANTIZE", "DIV", "ELU", "FLOOR", "FLOOR_DIV", "FLOOR_MOD", "HARD_SWISH",
    "L2_NORMALIZATION", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "ONE_HOT", "POW", "PRELU", "RANGE", "REDUCE_ALL",
    "REDUCE_ANY", "ROUND", "SHAPE", "SIGN", "SIN", "SPACE_TO_DEPTH", "SQUARED_DIFFERENCE", "TILE",
}  # fmt: skip
# Of integer graphs that are written as ONNX: what lowering writes with other ops, and what the export refuses by name.
NOT_IN_ONNX = {
    "ATAN2", "CEIL", "COS", "CUMSUM", "DIV", "DYNAMIC_UPDATE_SLICE", "EMBEDDING_LOOKUP", "FLOOR", "FLOOR_DIV",
    "FLOOR_MOD", "NEG", "ONE_HOT", "POW", "RANGE", "REDUCE_ANY", "REDUCE_PROD", "REVERSE_V2", "ROUND", "SELECT",
    "SHAPE", "SIGN", "SIN", "SQUARE", "SUM",
}  # fmt: skip
# TFLite Micro does not have them (`OpRule.tflm`), or lowering writes them with other ops.
OTHER_OPS = (Form.REWRITTEN, Form.LOOKUP, Form.CLAMP)
NOT_IN_MICRO = {kind for kind, rule in RULES.items() if not rule.tflm or rule.form in OTHER_OPS}


def of(module: str, name: str) -> Callable[[], Collection[str]]:
    """The kinds that a table has; its module is imported when somebody asks."""
    return lambda: getattr(import_module(f"edgeqwt.{module}"), name)


TABLES: dict[str, tuple[Callable[[], Collection[str]], Collection[str]]] = {
    "tests/one_op_specs.py": (lambda: {spec.kind for spec in SPECS.values()}, ()),
    "edgeqwt/graph/demands.py": (of("graph.demands", "DEMANDS"), ()),
    "edgeqwt/graph/opset16.py": (of("graph.opset16", "RULES16"), NARROW),
    "edgeqwt/autograd/kernels.py": (of("autograd.kernels", "KERNELS"), WITHOUT_GRADIENT),
    "edgeqwt/equalize/channels.py": (of("equalize.channels", "PASSAGES"), WITHOUT_FACTORS),
    "edgeqwt/onnx_qdq/emitters.py": (of("onnx_qdq.emitters", "EMITTERS"), NOT_IN_ONNX),
    "targets/package/resolver.py": (of("target.package.resolver", "METHODS"), NOT_IN_MICRO),
}
"""By their files: the kinds that a table has, and those that it need not have."""


def unknown(file: str, kinds: Collection[str]) -> set[str]:
    """The kinds that a table neither has nor need not have."""
    found, excepted = TABLES[file]
    return set(kinds) - set(found()) - set(excepted)


@pytest.mark.requires("torch")
@pytest.mark.parametrize("file", TABLES)
def test_a_table_knows_every_row_of_the_op_table(file: str) -> None:
    assert unknown(file, RULES) == set(), f"{file} has to know them, or they stand in {__name__} with the reason"
    found, excepted = TABLES[file]
    # What is excepted is no row that the table has by now.
    assert file == "targets/package/resolver.py" or set(excepted) & set(found()) == set()


@pytest.mark.requires("torch")
def test_a_new_row_is_named_wherever_it_is_not_known() -> None:
    assert {file: unknown(file, [*RULES, "NEW_OP"]) for file in TABLES} == {file: {"NEW_OP"} for file in TABLES}


def test_the_walk_for_an_op_names_every_table() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walk = page.partition("**An op.**")[2].partition("**A technique.**")[0]
    assert set(re.findall(r"`([\w/]+\.py)`", walk)) >= {"edgeqwt/graph/opset.py", *TABLES}
