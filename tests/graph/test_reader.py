"""Files that cannot be carried through are refused with a reason, and damaged ones never end in anything else."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array
from tests.graph import packed
from tests.graph.packed import code, model, op, subgraph, tensor

# -- refused with a reason -------------------------------------------------------------


def simple(**constant: Any) -> Any:
    return packed.add_constant(np.ones((2, 3), np.float32), (2, 3), **constant)


def sparse() -> Any:
    return simple(sparsity=schema.SparsityParametersT(traversalOrder=[0, 1]))


def external_buffers() -> Any:
    built = simple()
    built.externalBuffers = [schema.ExternalBufferT(id=1, group=0, length=24)]
    return built


def external_tensor() -> Any:
    return simple(externalBuffer=1)


def block_wise() -> Any:
    return simple(
        quantization=schema.QuantizationParametersT(
            detailsType=schema.QuantizationDetails.BlockwiseQuantization,
            details=schema.BlockwiseQuantizationT(scales=1, zeroPoints=1, blockSize=2),
        )
    )


def scales(*values: float, zero_points: tuple[int, ...] = (0,), axis: int = 0) -> Callable[[], Any]:
    q = schema.QuantizationParametersT(scale=list(values), zeroPoint=list(zero_points), quantizedDimension=axis)
    return lambda: simple(quantization=q)


def text_constant() -> Any:
    x = [tensor("words", (1,), "STRING", buffer=1), tensor("x", (1,))]
    return model([subgraph(x, [], [1], [1])], [], [np.arange(12, dtype=np.uint8)])


def constant(shape: tuple[int, ...], data: Array, dtype: str = "FLOAT32") -> Callable[[], Any]:
    x = [tensor("c", shape, dtype, buffer=1), tensor("x", (1,))]
    return lambda: model([subgraph(x, [], [1], [1])], [], [data])


def schema_version() -> Any:
    built = simple()
    built.version = 2
    return built


def no_subgraphs() -> Any:
    return model([], [])


def metadata_twice() -> Any:
    built = simple()
    built.metadata = [schema.MetadataT(name="same", buffer=0)] * 2
    return built


def signature(subgraph_index: int, tensor_index: int = 0) -> Callable[[], Any]:
    def build() -> Any:
        built = simple()
        inputs = [schema.TensorMapT(name="x", tensorIndex=tensor_index)]
        definition = schema.SignatureDefT(inputs=inputs, signatureKey="serve", subgraphIndex=subgraph_index)
        built.signatureDefs = [definition]
        return built

    return build


def activation_with_value() -> Any:
    built = simple()
    built.subgraphs[0].tensors[2].buffer = 1
    return built


def changed_op(**changes: Any) -> Callable[[], Any]:
    def build() -> Any:
        built = simple()
        for name, value in changes.items():
            setattr(built.subgraphs[0].operators[0], name, value)
        return built

    return build


def no_such_buffer() -> Any:
    built = simple()
    built.subgraphs[0].tensors[1].buffer = 99
    return built


def unknown_op() -> Any:
    built = simple()
    built.operatorCodes[0].builtinCode = 999
    return built


def unknown_activation() -> Any:
    built = simple()
    built.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 99
    return built


def listed_twice() -> Any:
    built = simple()
    built.subgraphs[0].inputs = [0, 0]
    return built


REFUSED = {
    "input twice": (listed_twice, "input 'x' is listed twice"),
    "sparse": (sparse, "constant 'constant' is stored sparse, and its order of dimensions"),
    "external buffers": (external_buffers, "its constants lie in other files"),
    "external tensor": (external_tensor, "the value of tensor 'constant' lies in another file"),
    "block-wise": (block_wise, "tensor 'constant' has block-wise or custom quantization"),
    "NaN scale": (scales(float("nan")), "tensor 'constant' has no meaningful scales"),
    "negative scale": (scales(-1.0), "tensor 'constant' has no meaningful scales"),
    "zero points": (scales(1, 1, zero_points=(1, 2, 3)), "tensor 'constant' has no meaningful scales"),
    "axis": (scales(1, 1, axis=2), r"tensor 1 'constant': 2 scales along axis 2 of shape \(2, 3\)"),
    "channels": (scales(1, 1, axis=1), r"tensor 1 'constant': 2 scales along axis 1 of shape \(2, 3\)"),
    "text": (text_constant, "constant 'words' is of type string, which edgeqwt does not read"),
    "int2": (constant((4,), np.zeros(1, np.uint8), "INT2"), "constant 'c' is of type int2"),
    "too few bytes": (constant((4,), np.zeros(3, np.float32)), r"constant 'c' has 12 bytes, its shape \(4,\) needs 16"),
    "too many bytes": (constant((), np.zeros(2, np.float32)), r"constant 'c' has 8 bytes, its shape \(\) needs 4"),
    "int4 bytes": (
        constant((3,), np.zeros(3, np.uint8), "INT4"),
        r"constant 'c' has 3 bytes, its shape \(3,\) needs 2",
    ),
    "overflow": (constant((2**31 - 1, 2**31 - 1, 4), np.zeros(1, np.float32)), "'c' has the impossible shape"),
    "negative": (constant((-2,), np.zeros(1, np.float32)), "'c' has the impossible shape"),
    "dynamic constant": (constant((-1,), np.zeros(1, np.float32)), "constant 'c' has 4 bytes"),
    "version": (schema_version, "it is of version 2 of the TFLite schema; edgeqwt reads version 3"),
    "no subgraph": (no_subgraphs, "it has no subgraph"),
    "metadata": (metadata_twice, "it has two metadata entries named 'same'"),
    "signature's graph": (signature(1), "signature 'serve' is of a subgraph that is not there"),
    "signature's tensor": (signature(0, 77), "'x' of signature 'serve' refers to tensor 77 of 3"),
    "unknown op": (unknown_op, "it uses BuiltinOperator 999, which edgeqwt's version of the schema does not know"),
    "unknown enum": (unknown_activation, "it uses ActivationFunctionType 99"),
    "no such tensor": (changed_op(inputs=[0, 3]), "not a valid model: ADD #0 reads tensor 3 of 3"),
    "before its time": (changed_op(inputs=[0, 2]), "not a valid model: ADD #0 reads 'y' before anything writes it"),
    "no such code": (changed_op(opcodeIndex=5), "model.tflite is damaged"),
    "no such buffer": (no_such_buffer, "model.tflite is damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        flatbuffer.from_bytes(packed.pack(build()), "model.tflite")
    assert caught.value.message.startswith("model.tflite")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_value_in_the_file_of_what_an_op_computes_means_nothing() -> None:
    graph = flatbuffer.from_bytes(packed.pack(activation_with_value()))
    assert graph.tensors[2].data is None


# -- damaged ---------------------------------------------------------------------------

# A model of these sizes is read in 0.1 s; a slow machine with other work to do takes no more than 50 times that.
PATIENCE = 5.0


def read_and_write(data: bytes) -> bool:
    """Whether the bytes are taken for a model; any exception but InputError fails the test."""
    begin, taken = time.monotonic(), True
    try:
        flatbuffer.to_bytes(flatbuffer.from_bytes(data))
    except InputError:
        taken = False
    assert time.monotonic() - begin < PATIENCE
    return taken


def damaged_at(data: bytes, places: Iterator[int], rng: np.random.Generator) -> Iterator[bytes]:
    for position in places:
        changed = bytearray(data)
        changed[position] ^= int(rng.integers(1, 256))
        yield bytes(changed)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 8, b"\x1c\0\0\0TFL", b"PK\x03\x04 a zip archive"])
def test_other_files(data: bytes) -> None:
    with pytest.raises(InputError, match="is not a TFLite model"):
        flatbuffer.from_bytes(data)


def test_only_the_identifier() -> None:
    for data in (b"\x08\0\0\0TFL3", b"\xff\xff\xff\xffTFL3", b"\0\0\0\0TFL3"):
        assert not read_and_write(data)


@pytest.mark.parametrize("name", ["keyword_spotting_int8.tflite", "image_classification_float32.tflite"])
def test_cut_off_at_every_hundredth(mlperf_tiny: Path, name: str) -> None:
    data = (mlperf_tiny / name).read_bytes()
    for percent in range(100):
        cut = data[: len(data) * percent // 100]
        # What is lost may be unused: padding, or the name of something. What is read is then all there.
        assert not read_and_write(cut) or percent == 99


def test_random_bytes() -> None:
    rng = np.random.default_rng(0)
    for length in (9, 12, 30, 100, 1000, 10_000) * 20:
        data = bytearray(rng.bytes(length))
        assert not read_and_write(bytes(data))
        data[4:8] = b"TFL3"
        assert not read_and_write(bytes(data))
        data[:4] = int(rng.integers(8, length)).to_bytes(4, "little")  # a root inside the file
        assert not read_and_write(bytes(data))
        small = bytearray(rng.integers(0, 20, length).astype(np.uint8).tobytes())  # offsets that stay inside
        small[4:8] = b"TFL3"
        read_and_write(bytes(small))


@pytest.mark.parametrize("name", ["keyword_spotting_float32.tflite", "keyword_spotting_int8.tflite"])
def test_single_changed_bytes(mlperf_tiny: Path, name: str) -> None:
    data = (mlperf_tiny / name).read_bytes()
    rng = np.random.default_rng(1)
    structural = places_outside_constants(data)
    # The rest of the file is numbers, any of which are valid.
    taken = [read_and_write(d) for d in damaged_at(data, iter(rng.choice(structural, 200, replace=False)), rng)]
    assert 0 < sum(taken) < len(taken)


def test_every_byte_of_a_small_file() -> None:
    built = simple(quantization=schema.QuantizationParametersT(scale=[0.5, 1.0], zeroPoint=[0, 0]))
    built.signatureDefs = [
        schema.SignatureDefT(inputs=[schema.TensorMapT(name="x", tensorIndex=0)], signatureKey="key", subgraphIndex=0)
    ]
    built.metadata = [schema.MetadataT(name="note", buffer=1)]
    data = packed.pack(built)
    taken = 0
    for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
        for position in range(len(data)):
            taken += read_and_write(data[:position] + bytes([value]) + data[position + 1 :])
    assert taken > 0


def places_outside_constants(data: bytes) -> Array:
    start = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    structural = np.ones(len(data), bool)
    for t in flatbuffer.from_bytes(data).tensors:
        if t.data is not None:
            begin = t.data.__array_interface__["data"][0] - start
            structural[begin : begin + t.data.nbytes] = False
    found: Array = np.flatnonzero(structural)
    return found


@pytest.mark.parametrize("field", ["subgraphs", "tensors", "shape", "scale", "name", "options"])
def test_long_lists_that_everything_shares_do_not_take_long(field: str) -> None:
    """A small file can name one long list many times; reading it all would take hours."""
    count = 20_000
    numbers = np.ones(count, np.int32)
    wide = tensor("t", ())
    if field == "shape":
        wide.shape = numbers
    elif field == "name":
        wide.name = "n" * count
    elif field == "scale":
        wide.quantization = schema.QuantizationParametersT(scale=numbers.astype(np.float32))
    reshape = op(0, [0], [0], schema.ReshapeOptionsT(newShape=numbers))
    main = subgraph([Shared(wide)] * count, [Shared(reshape)] * (count if field == "options" else 1), [0], [0])
    subgraphs = [Shared(main)] * (count if field in ("subgraphs", "tensors") else 1)
    data = packed.pack(model(subgraphs, [code("RESHAPE")]))
    assert len(data) < 700_000
    tracemalloc.start()
    assert not read_and_write(data)
    assert tracemalloc.get_traced_memory()[1] < 300 * len(data)
    tracemalloc.stop()


class Shared:
    """Packs an object once and refers to it ever after."""

    def __init__(self, content: Any) -> None:
        self.content, self.location = content, None

    def Pack(self, builder: Any) -> Any:  # noqa: N802 (the generated code's name)
        if self.location is None:
            self.location = self.content.Pack(builder)
        return self.location
