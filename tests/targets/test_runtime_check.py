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
from tests import small
from tests.chain import samples
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


def test_the_ranges_of_recurrent_ops_are_no_float_arithmetic() -> None:
    graph = integer()
    kept = Tensor("range", (1,), "float32")
    ops: list[Op] = [*graph.ops]
    ops[0] = replace(ops[0], intermediates=(len(graph.tensors),))
    wider = replace(graph, tensors=(*graph.tensors, kept), ops=tuple(ops))
    assert not [found for found in check(wider, load("tflm")) if found.rule == "float_tensors"]
