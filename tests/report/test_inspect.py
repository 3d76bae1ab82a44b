from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Quantization, Signature, Tensor
from edgeqwt.report.inspect import Description, WeightInfo, describe, show_description


def described(path: Path) -> Description:
    return describe(flatbuffer.read(path), path.stat().st_size)


def text(description: Description, width: int = 100) -> str:
    from rich.console import Console

    out = io.StringIO()
    show_description(Console(file=out, width=width, highlight=False, markup=False), description)
    return out.getvalue()


def quantized(
    name: str, shape: tuple[int, ...], dtype: str = "int8", scale: float = 0.5, zero_point: int = 3
) -> Tensor:
    return Tensor(name, shape, dtype, quantization=Quantization.per_tensor(scale, zero_point))


def small() -> Graph:
    """A 4-bit fully connected layer, its weights used twice, then something of a user's own."""
    weights = np.array([[-8, 7, 0], [1, 2, 3]], np.int8)
    scales = np.array([0.25, 0.125], np.float32)
    tensors = (
        Tensor("x", (1, 3), "int8", quantization=Quantization.per_tensor(0.5, 3), shape_signature=(-1, 3)),
        Tensor("w", (2, 3), "int4", weights, Quantization.per_channel(scales, 0)),
        quantized("merged/relu;merged/add", (1, 2), zero_point=-4),
        Tensor("w again", (2, 3), "int4", weights, Quantization.per_channel(scales, 0)),
        quantized("second", (1, 2)),
        Tensor("y", (), "float32"),
        Tensor("z", (4,), "float32"),
    )
    ops = (
        Op("FULLY_CONNECTED", (0, 1, -1), (2,), {"fusedActivationFunction": "RELU"}, version=7),
        Op("FULLY_CONNECTED", (0, 3, -1), (4,), version=7),
        Op("CUSTOM", (2, 4), (5, 6), custom_code="Mine"),
    )
    return Graph(
        tensors,
        ops,
        (0,),
        (5,),
        signatures=(Signature("serve", (("in", 0),), (("out", 5),)),),
        metadata={"note": b"12345"},
        description="by hand",
        others=(Graph((Tensor("t", (1,), "float32"),), (), (0,), (0,), name="body"),),
    )


# Multiply-accumulates and sizes by MLPerf Tiny's own account (12.5 M, 7.5 M and 2.7 M).
@pytest.mark.parametrize(
    ("name", "ops", "macs"),
    [
        ("image_classification", 16, 12_501_632),
        ("visual_wake_words", 31, 7_489_664),
        ("keyword_spotting", 13, 2_656_768),
    ],
)
def test_real_models(mlperf_tiny: Path, name: str, ops: int, macs: int) -> None:
    floating = described(mlperf_tiny / f"{name}_float32.tflite")
    integer = described(mlperf_tiny / f"{name}_int8.tflite")
    assert (len(floating.ops), floating.integer_ops, floating.macs) == (ops, 0, macs)
    assert (len(integer.ops), integer.integer_ops, integer.macs) == (ops, ops, macs)
    for found in (floating, integer):
        assert sum(op.macs for op in found.ops) == found.macs
        assert sum(found.kinds.values()) == ops
        assert found.constant_bytes < found.size_bytes
        assert found.constant_bytes == sum(op.constant_bytes for op in found.ops)  # none are shared in these
    # MLPerf's float file for keyword spotting computes in float on int8 weights.
    hybrid = {"CONV_2D"} if name == "keyword_spotting" else set()
    assert {op.kind for op in floating.ops if op.weights and op.weights.dtype == "int8"} == hybrid
    assert {op.weights.dtype for op in integer.ops if op.weights} == {"int8"}
    assert integer.ops[0].weights is not None
    assert integer.ops[0].weights.bits == 8


def test_what_is_reported_of_a_small_model() -> None:
    found = describe(small(), 999)
    (x,) = found.inputs
    assert (x.name, x.shape, x.dtype, x.scale, x.zero_point) == ("x", (-1, 3), "int8", 0.5, 3)
    assert found.outputs[0].scale is None
    first, _, custom = found.ops
    assert first.weights == WeightInfo("int4", bits=4, scales=2, smallest_scale=0.125, largest_scale=0.25)
    assert (first.activation, first.version, first.constant_bytes, first.macs, first.integer) == ("RELU", 7, 3, 6, True)
    assert (custom.kind, custom.more_outputs, custom.integer, custom.weights) == ("CUSTOM Mine", 1, False, None)
    assert found.kinds == {"FULLY_CONNECTED": 2, "CUSTOM Mine": 1}
    assert found.constant_bytes == 3
    assert found.integer_ops == 2
    assert (found.size_bytes, found.description) == (999, "by hand")
    assert found.metadata == {"note": 5}
    assert dataclasses.asdict(found.signatures[0]) == {"key": "serve", "inputs": {"in": "x"}, "outputs": {"out": "y"}}
    assert [(s.name, s.ops) for s in found.subgraphs] == [("body", 0)]


@pytest.mark.parametrize(
    ("values", "bits"), [([0], 1), ([-1, 0], 1), ([1], 2), ([-2, 1], 2), ([7], 4), ([-9], 5), ([-128], 8), ([127], 8)]
)
def test_bits_are_the_fewest_that_hold_the_weights(values: list[int], bits: int) -> None:
    weights = Tensor("w", (1, len(values)), "int8", np.array([values], np.int8))
    graph = Graph(
        (Tensor("x", (1, len(values)), "int8"), weights, Tensor("y", (1, 1), "int8")),
        (Op("FULLY_CONNECTED", (0, 1, -1), (2,)),),
        (0,),
        (2,),
    )
    found = describe(graph, 0).ops[0].weights
    assert found is not None
    assert found.bits == bits


@pytest.mark.parametrize(
    ("kind", "shapes", "output", "options", "macs"),
    [
        ("CONV_2D", [(1, 8, 8, 4), (6, 3, 3, 4), (6,)], (1, 4, 4, 6), {}, 4 * 4 * 6 * 3 * 3 * 4),
        ("CONV_2D", [(1, 8, 8, 4), (6, 3, 3, 2), (6,)], (1, 4, 4, 6), {}, 4 * 4 * 6 * 3 * 3 * 2),  # two groups
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 4), (1, 3, 3, 8), (8,)], (1, 8, 8, 8), {}, 8 * 8 * 8 * 3 * 3),
        ("TRANSPOSE_CONV", [(4,), (6, 3, 3, 4), (1, 5, 5, 4)], (1, 11, 11, 6), {}, 5 * 5 * 4 * 6 * 3 * 3),
        ("FULLY_CONNECTED", [(7, 12), (5, 12), (5,)], (7, 5), {}, 7 * 5 * 12),
        ("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), {}, 2 * 3 * 4 * 5),
        ("BATCH_MATMUL", [(2, 4, 3), (2, 4, 5)], (2, 3, 5), {"adjX": True}, 2 * 3 * 4 * 5),
        ("ADD", [(1, 8)], (1, 8), {}, 0),
    ],
)
def test_multiply_accumulates(
    kind: str, shapes: list[tuple[int, ...]], output: tuple[int, ...], options: dict[str, object], macs: int
) -> None:
    tensors = [Tensor(f"t{i}", shape, "float32") for i, shape in enumerate(shapes)]
    inputs = tuple(range(len(shapes)))
    op = Op(kind, inputs, (len(shapes),), options)
    graph = Graph((*tensors, Tensor("y", output, "float32")), (op,), inputs, op.outputs)
    assert describe(graph, 0).ops[0].macs == macs


def test_a_model_without_ops() -> None:
    found = describe(Graph((Tensor("x", (1,), "float32"),), (), (0,), (0,)), 100)
    assert (found.kinds, found.macs, found.integer_ops) == ({}, 0, 0)
    assert "no ops" in text(found)
    empty = Graph((), (), (), ())
    assert "no ops" in text(describe(empty, 0))


@pytest.mark.parametrize("name", ["image_classification_int8", "visual_wake_words_float32", "keyword_spotting_int8"])
def test_it_goes_into_json_and_back(mlperf_tiny: Path, name: str) -> None:
    data = dataclasses.asdict(described(mlperf_tiny / f"{name}.tflite"))
    assert json.loads(json.dumps(data)) == json.loads(json.dumps(data, default=str))
    assert json.loads(json.dumps(data))["ops"][0]["kind"] == "CONV_2D"


@pytest.mark.parametrize(
    "name",
    [
        f"{n}_{k}"
        for n in ("image_classification", "visual_wake_words", "keyword_spotting")
        for k in ("float32", "int8")
    ],
)
@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_fit_and_nothing_but_names_is_cut(mlperf_tiny: Path, name: str, width: int) -> None:
    found = described(mlperf_tiny / f"{name}.tflite")
    lines = text(found, width).splitlines()
    assert max(map(len, lines)) <= width
    for op in found.ops:
        row = next(line for line in lines if f" {op.index} {op.kind} " in line)
        assert op.output is not None
        assert op.output.dtype in row
        assert "×".join(str(n) if n >= 0 else "?" for n in op.output.shape) in row
        assert op.output.scale is None or f"{op.output.scale:.4g}" in row
        assert not op.constant_bytes or f"{op.constant_bytes:,}" in row
    # The only words that are cut are names, the first ones of their lines, in their middle.
    assert all(line.count("…") == line.split("  ")[0].count("…") <= 1 for line in lines)


def test_the_small_model_as_text() -> None:
    lines = [line.rstrip() for line in text(describe(small(), 999)).splitlines()]
    assert "x       input   ?×3     int8       0.5     3" in lines
    assert "merged/relu  0 FULLY_CONNECTED  1×2     int8       0.5    -4          3" in lines
    assert "y +1         2 CUSTOM Mine      scalar  float32" in lines
    assert "0 FULLY_CONNECTED  int4     4       2     0.125     0.25     6" in lines
    assert "3 ops, 2 of them on integers only: 2 FULLY_CONNECTED, 1 CUSTOM Mine" in lines
    assert "signature 'serve': takes in, gives out" in lines
    assert "subgraph 'body': 0 ops" in lines
    assert "metadata 'note': 5 bytes" in lines


def test_names_cannot_command_the_terminal() -> None:
    tensor = Tensor("\x1b[2Jname\nnext", (1,), "float32")
    graph = Graph((tensor,), (), (0,), (0,), description="\x1b]0;title\x07")
    assert "\x1b" not in text(describe(graph, 0))
    assert "\x07" not in text(describe(graph, 0))


def test_what_had_to_be_mended_is_said() -> None:
    remark = "RELU #0 read 'x' before anything wrote it: the ops were put in order."
    assert remark in text(describe(dataclasses.replace(small(), remarks=(remark,)), 1000))
