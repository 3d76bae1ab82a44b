"""Constants on their way through a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Tensor
from tests.graph import packed
from tests.graph.kept import MODELS, assert_kept, assert_kept_and_runs, outputs, round_trip
from tests.graph.packed import code, model, op, subgraph, tensor


def behind(data: bytes, gap: bytes = b"\0" * 5) -> bytes:
    """The same file with every constant stored behind the flatbuffer, as ai-edge-quantizer writes large models."""

    def build(start: int) -> tuple[bytes, bytes]:
        built, tail = packed.unpack(data), gap
        for buffer in built.buffers:
            if buffer.data is not None:
                value = bytes(buffer.data)
                buffer.data, buffer.offset, buffer.size = None, start + len(tail), len(value)
                tail += value + gap
        return packed.pack(built), tail

    length = len(build(start=2)[0])  # numbers have a fixed width, so offsets do not change the length
    head, tail = build(length)
    assert len(head) == length
    return head + tail


@pytest.mark.parametrize("name", ["keyword_spotting_float32.tflite", "keyword_spotting_int8.tflite"])
def test_constants_behind_the_flatbuffer(mlperf_tiny: Path, name: str) -> None:
    data = (mlperf_tiny / name).read_bytes()
    moved = behind(data)
    written = assert_kept_and_runs(moved)
    assert written == round_trip(data)
    with pytest.raises(InputError, match="beyond the end"):
        flatbuffer.from_bytes(moved[:-100])


def test_tensors_that_share_a_buffer_go_on_sharing_it() -> None:
    value = np.arange(1024, dtype=np.float32)
    tensors = [
        tensor("x", (1024,)),
        tensor("a", (1024,), buffer=1),
        tensor("b", (1024,), buffer=1),
        tensor("bits", (1024,), "INT32", buffer=1),
        tensor("other shape", (2, 512), buffer=1),
        *(tensor(name, (1024,)) for name in ("s", "y")),
    ]
    ops = [op(0, [0, 1], [5], schema.AddOptionsT()), op(0, [5, 2], [6], schema.AddOptionsT())]
    data = packed.pack(model([subgraph(tensors, ops, [0], [6])], [code("ADD")], [value]))
    written = assert_kept_and_runs(data)
    assert len(written) < len(data) + 64
    graph = flatbuffer.from_bytes(data)
    _, a, b, _, other, *_ = (t.data for t in graph.tensors)
    assert np.shares_memory(a, b)
    assert np.shares_memory(a, other)


def test_int4_tensors_that_share_a_buffer_go_on_sharing_it() -> None:
    tensors = [tensor(name, (2001,), "INT4", buffer=1) for name in "ab"] + [tensor("x", (1,))]
    data = packed.pack(
        model([subgraph(tensors, [], [2], [2])], [], [np.arange(1001, dtype=np.int64).astype(np.uint8) & 0xF])
    )
    assert len(assert_kept(data).replace(b"\0", b"")) < 1500


def test_other_views_of_the_same_memory_are_other_constants() -> None:
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    values = {
        "square": square,
        "transposed": square.T,
        "row": square[0],
        "column": square[:, 0],
        "back": square[0, ::-1],
    }
    tensors = tuple(Tensor(name, value.shape, "float32", value) for name, value in values.items())
    x = Tensor("x", (1,), "float32")
    graph = Graph((*tensors, x), (), (len(tensors),), (len(tensors),))
    written = flatbuffer.from_bytes(flatbuffer.to_bytes(graph))
    for found, value in zip(written.tensors, values.values(), strict=False):
        np.testing.assert_array_equal(found.data, value)


@pytest.mark.parametrize("count", [1, 2, 3, 16, 33])
def test_int4_values(count: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.integers(-8, 8, count).astype(np.int8)
    values[0] = -8
    graph = Graph((Tensor("w", (count,), "int4", values), Tensor("x", (1,), "float32")), (), (1,), (1,))
    data = flatbuffer.to_bytes(graph)
    np.testing.assert_array_equal(flatbuffer.from_bytes(data).tensors[0].data, values)
    buffer = packed.unpack(data).buffers[1].data
    assert buffer.size == (count + 1) // 2
    # Low nibble first, two's complement (schema.fbs and tensor_utils.cc, UnpackDenseInt4IntoInt8).
    nibbles = [int(v) & 15 for v in values] + [0] * (count % 2)
    assert buffer.tolist() == [low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True)]


def test_int4_weights_mean_the_same_to_litert() -> None:
    rng = np.random.default_rng(3)
    weights = rng.integers(-7, 8, (3, 5)).astype(np.int8)  # 15 values, one nibble of padding
    quantization = schema.QuantizationParametersT(scale=[0.5], zeroPoint=[0])
    tensors = [
        tensor("x", (1, 5), "INT8", quantization=schema.QuantizationParametersT(scale=[1.0], zeroPoint=[0])),
        tensor("w", (3, 5), "INT4", buffer=1, quantization=quantization),
        tensor("y", (1, 3), "INT8", quantization=schema.QuantizationParametersT(scale=[4.0], zeroPoint=[0])),
    ]
    options = schema.FullyConnectedOptionsT()
    nibbles = [int(v) & 15 for v in weights.reshape(-1)] + [0]
    packed_weights = np.array(
        [low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True)], np.uint8
    )
    graph = subgraph(tensors, [op(0, [0, 1, -1], [2], options)], [0], [2])
    data = packed.pack(model([graph], [code("FULLY_CONNECTED", 7)], [packed_weights]))
    assert_kept_and_runs(data)
    np.testing.assert_array_equal(flatbuffer.from_bytes(data).tensors[1].data, weights)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "uint64", "bool", "complex64", "int16", "uint32"])
def test_constants_of_other_types(dtype: str) -> None:
    values = np.array([[0, 1, 2], [5, 0, 1]]).astype(dtype)
    tensors = [tensor("c", (2, 3), dtype.upper(), buffer=1), tensor("scalar", (), dtype.upper(), buffer=2)]
    graph = subgraph([*tensors, tensor("x", (1,))], [], [2], [2])
    data = packed.pack(model([graph], [], [values, values[1, 0]]))
    found = flatbuffer.from_bytes(assert_kept(data))
    np.testing.assert_array_equal(found.tensors[0].data, values)
    np.testing.assert_array_equal(found.tensors[1].data, values[1, 0])
    assert found.tensors[1].shape == ()


@pytest.mark.parametrize("written_as", [None, np.zeros(0, np.int32)], ids=["no bytes", "empty"])
def test_an_empty_constant_stays_a_constant(written_as: Array | None) -> None:
    """RESHAPE to a scalar: LiteRT only knows the output's shape in advance where the new shape is a constant."""
    tensors = [tensor("x", (1, 1)), tensor("shape", (0,), "INT32", buffer=1), tensor("y", ())]
    graph = subgraph(tensors, [op(0, [0, 1], [2], schema.ReshapeOptionsT())], [0], [2])
    written = round_trip(packed.pack(model([graph], [code("RESHAPE")], [written_as])))
    shape = flatbuffer.from_bytes(written).tensors[1].data
    assert shape is not None
    assert shape.shape == (0,)
    assert packed.unpack(written).buffers[packed.unpack(written).subgraphs[0].tensors[1].buffer].data is not None
    (result,) = outputs(written)
    assert result.shape == ()


@pytest.mark.parametrize("name", MODELS)
def test_every_buffer_lies_at_a_multiple_of_16_bytes(mlperf_tiny: Path, name: str) -> None:
    graph = flatbuffer.read(mlperf_tiny / name)
    data = flatbuffer.to_bytes(replace(graph, metadata={**graph.metadata, "odd": b"123", "one more": b"x" * 33}))
    start = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    places = [b.data.__array_interface__["data"][0] - start for b in packed.unpack(data).buffers if b.data is not None]
    assert len(places) > 10
    assert [where for where in places if where % 16] == []


def test_numbers_of_rank_0_are_buffers_of_their_own() -> None:
    """numpy's scalars, as arithmetic on arrays of rank 0 gives them, have no memory that stays."""
    numbers = [np.int32(n) + np.array(1, np.int32) for n in range(20)]
    tensors = tuple(Tensor(f"n{n}", (), "int32", number) for n, number in enumerate(numbers))
    graph = Graph(tensors, (), (), tuple(range(20)))
    again = flatbuffer.from_bytes(flatbuffer.to_bytes(graph))
    assert [int(t.data) for t in again.tensors if t.data is not None] == list(range(1, 21))
