"""What TFLite Micro says, where it is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Quantization, Tensor
from edgeqwt.profile import Finding
from edgeqwt.scales.ranges import MinMax
from edgeqwt.scales.scales import Scales
from edgeqwt.target.check import check
from edgeqwt.target.load import load
from edgeqwt.target.runtime_check import runtime_findings
from edgeqwt.widths.precision import Precision
from tests import small
from tests.chain import NONE, Chain, noise, samples
from tests.one_op import lowered as made_integer
from tests.scales.problems import problem

NO_KERNEL = Finding("micro_ops", "error", "CONV_2D 0", "features", "no kernel", "", "")
OTHER = Finding("ram", "warning", "", "", "much", "", "")


def integer() -> Graph:
    graph = small.graph()
    return problem(graph, samples(graph, 8), MinMax()).lower(Scales())


def dynamic_range() -> Graph:
    """Float activations, int8 weights."""
    graph = small.graph()
    t = next(i for i, tensor in enumerate(graph.tensors) if tensor.name == "filter")
    shape = graph.tensors[t].shape
    weights = Tensor("filter", shape, "int8", np.ones(shape, np.int8), Quantization.per_tensor(0.1, 0))
    return graph.with_tensors({t: weights})


def test_what_runs_has_its_kernels() -> None:
    assert runtime_findings(integer(), load("tflm"), (NO_KERNEL, OTHER)) == (OTHER,)
    assert runtime_findings(integer(), load("tflite"), (NO_KERNEL, OTHER)) == (
        NO_KERNEL,
        OTHER,
    )  # nobody needs it there
    assert runtime_findings(small.graph(), load("tflm"), (NO_KERNEL,)) == (NO_KERNEL,)  # it is yet to be quantized


def test_what_is_refused_is_an_error_in_its_own_words(tmp_path: Path) -> None:
    flatbuffer.write(dynamic_range(), tmp_path / "dynamic.tflite")
    first, *_ = edgeqwt.check(tmp_path / "dynamic.tflite", "tflm")[0]
    assert (first.rule, first.severity) == ("micro_runs", "error")
    assert "cannot" in first.reason
    assert runtime_findings(dynamic_range(), load("tflm"), (NO_KERNEL,)) == (NO_KERNEL,)  # which has said so already


def test_what_xnnpack_refuses_is_an_error_for_phones(tmp_path: Path) -> None:
    """Packed int4 weights with one scale: XNNPACK refuses the op, and with it the file, which no table knows."""
    chain = Chain()
    graph = chain.graph(chain.op("FULLY_CONNECTED", chain.input((1, 16)), chain.constant(noise(1, 16)), **NONE))
    found = made_integer(graph, samples(graph), precision=Precision(4)).graph
    weights = found.ops[0].inputs[1]
    packed = found.with_tensors({weights: replace(found.tensors[weights], dtype="int4")})
    flatbuffer.write(packed.with_ops({0: replace(packed.ops[0], version=10)}), tmp_path / "packed.tflite")
    flatbuffer.write(found, tmp_path / "found.tflite")
    first, *_ = edgeqwt.check(tmp_path / "packed.tflite", "tflite")[0]
    assert (first.rule, first.severity) == ("litert_loads", "error")
    assert "failed to delegate FULLY_CONNECTED" in first.reason
    assert not [f for f in edgeqwt.check(tmp_path / "found.tflite", "tflite")[0] if f.severity == "error"]


def test_the_ranges_of_recurrent_ops_are_no_float_arithmetic() -> None:
    graph = integer()
    kept = Tensor("range", (1,), "float32")
    ops: list[Op] = [*graph.ops]
    ops[0] = replace(ops[0], intermediates=(len(graph.tensors),))
    wider = replace(graph, tensors=(*graph.tensors, kept), ops=tuple(ops))
    assert not [found for found in check(wider, load("tflm")) if found.rule == "float_tensors"]
