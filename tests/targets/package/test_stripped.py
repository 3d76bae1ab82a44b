from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Signature
from edgeqwt.runtime.arena import measure_arena
from edgeqwt.target.package.stripped import stripped
from edgeqwt.target.package.vectors import make_vectors
from tests.chain import NONE, Chain, noise
from tests.one_op import lowered
from tests.targets.package import common

MLPERF_TINY = ("image_classification", "keyword_spotting", "visual_wake_words")


def same_answers(graph: Graph) -> None:
    """The stripped file gives TFLite Micro's outputs of the whole one."""
    device = flatbuffer.from_bytes(flatbuffer.to_bytes(stripped(graph)))
    whole, small = (make_vectors(g, "tflm") for g in (graph, device))
    for a, b in zip(whole.items, small.items, strict=True):
        for expected, found in zip(a.outputs, b.outputs, strict=True):
            np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("make", [common.int8, common.int4, common.float_borders])
def test_same_ops_and_answers_in_fewer_bytes(make: Callable[[], Graph]) -> None:
    graph = make()
    same_answers(graph)
    assert [op.kind for op in stripped(graph).ops] == [op.kind for op in graph.ops]
    assert len(flatbuffer.to_bytes(stripped(graph))) < len(flatbuffer.to_bytes(graph))


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_published_models(mlperf_tiny: Path, name: str) -> None:
    graph = flatbuffer.read(mlperf_tiny / f"{name}_int8.tflite")
    same_answers(graph)
    before, after = (measure_arena(flatbuffer.to_bytes(g)) for g in (graph, stripped(graph)))
    assert after.bytes <= before.bytes


def test_a_bias_that_another_op_reads_keeps_its_scale() -> None:
    graph = common.int8()
    conv = next(op for op in graph.ops if op.kind == "CONV_2D")
    bias = conv.inputs[2]
    assert graph.tensors[bias].quantization is not None
    assert stripped(graph).tensors[bias].quantization is None
    shown = replace(graph, outputs=(*graph.outputs, bias))
    assert stripped(shown).tensors[bias].quantization is not None


def test_a_dense_layers_bias_keeps_its_scale() -> None:
    chain = Chain()
    x = chain.input((1, 6))
    weights, bias = chain.constant(noise(4, 6)), chain.constant(noise(4, seed=1))
    graph = chain.graph(chain.op("FULLY_CONNECTED", x, weights, bias, keepNumDims=False, **NONE))
    integer = lowered(graph, [{graph.inputs[0]: noise(1, 6, seed=2)}]).graph
    (dense,) = (op for op in integer.ops if op.kind == "FULLY_CONNECTED")
    kept = stripped(integer).tensors[dense.inputs[2]].quantization
    assert kept is not None
    assert kept.same_as(integer.tensors[dense.inputs[2]].quantization)
    same_answers(integer)


def test_names_go_and_what_the_interpreter_reads_stays() -> None:
    graph = common.int8()
    signature = Signature("serve", (("x", graph.inputs[0]),), (("y", graph.outputs[0]),))
    metadata = {"min_runtime_version": b"1.5.0", "OfflineMemoryAllocation": b"\0" * 16}
    full = replace(graph, signatures=(signature,), metadata=metadata, name="main", description="made by somebody")
    device = stripped(full)
    assert not any(t.name for t in device.tensors)
    assert (device.name, device.description, device.signatures) == ("", "", ())
    assert dict(device.metadata) == {"OfflineMemoryAllocation": b"\0" * 16}
    for t in (*graph.inputs, *graph.outputs):
        assert device.tensors[t].quantization is graph.tensors[t].quantization
