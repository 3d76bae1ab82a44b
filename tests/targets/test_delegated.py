"""What the profile of LiteRT claims of XNNPACK, against its delegate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.lowering.lower import Precision
from edgeqwt.runtime.runners import InterpreterError, xnnpack
from edgeqwt.target.check import check
from edgeqwt.target.load import load
from tests.one_op import lowered
from tests.one_op_specs import SPECS, case
from tests.targets.placement import integer_cases, rules


def delegated(graph: Graph) -> bool:
    """Whether XNNPACK takes a graph's one op."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=flatbuffer.to_bytes(graph), num_threads=1)
    interpreter.allocate_tensors()
    return any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())


@pytest.mark.parametrize("bits", [8, 16])
def test_an_op_is_delegated_where_no_finding_says_otherwise(bits: int) -> None:
    profile, wrong = load("tflite"), []
    for name, graph in integer_cases(bits).items():
        if len(graph.ops) == 1 and delegated(graph) == bool(
            {"delegated_ops", "slice_sizes"} & rules(check(graph, profile))
        ):
            wrong.append(name)
    assert wrong == []


def test_every_kind_that_is_claimed_is_measured() -> None:
    kinds = load("tflite").limits["delegated_ops"]["int8"]  # type: ignore[index]
    assert set(kinds) <= {g.ops[0].kind for g in integer_cases(8).values() if len(g.ops) == 1}
    assert len(SPECS) > 300


@pytest.mark.parametrize(("factor", "refused"), [(255.0, False), (257.0, True)])
def test_xnnpack_refuses_what_the_findings_say(factor: float, refused: bool) -> None:
    graph = integer_cases(8)["CONV_2D/1x1"]
    x, w, _ = (graph.tensors[t].quantization for t in graph.ops[0].inputs)
    out = graph.ops[0].outputs[0]
    assert x is not None
    assert w is not None
    y = graph.tensors[out].quantization
    assert y is not None
    scale = np.array([float(x.scale[0]) * float(w.scale.max()) / factor], np.float32)
    changed = graph.with_tensors({out: replace(graph.tensors[out], quantization=replace(y, scale=scale))})
    assert ("multiplier" in rules(check(changed, load("tflite")))) == refused
    if refused:
        with pytest.raises(InterpreterError):
            xnnpack(changed)
    else:
        xnnpack(changed)


@pytest.mark.parametrize("name", ["CONV_2D/3x3-RELU", "DEPTHWISE_CONV_2D/stride2", "FULLY_CONNECTED/NONE"])
def test_int4_weights_are_slow_where_the_findings_say(name: str) -> None:
    four = lowered(case(name).graph, case(name).samples, precision=Precision(weight_bits=4)).graph
    t = four.ops[0].inputs[1]
    packed = four.with_tensors({t: replace(four.tensors[t], dtype="int4")})
    assert delegated(four)
    assert delegated(packed) != ("slow_int4" in rules(check(packed, load("tflite"))))
