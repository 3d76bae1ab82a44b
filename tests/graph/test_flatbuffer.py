"""Round trips: what goes through edgeqwt's reader and writer says and computes the same."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Tensor
from tests.graph import packed
from tests.graph.kept import MODELS, assert_kept, assert_kept_and_runs, outputs, round_trip
from tests.graph.packed import code, model, op, subgraph, tensor


@pytest.mark.parametrize("name", MODELS)
def test_real_models(mlperf_tiny: Path, name: str) -> None:
    data = (mlperf_tiny / name).read_bytes()
    written = assert_kept_and_runs(data)
    # The records are as large as theirs: nothing is stored twice. 1 KiB is 16 bytes of padding for 60 buffers.
    assert len(written) <= len(data) + 1024
    assert flatbuffer.to_bytes(flatbuffer.from_bytes(data)) == written


# -- several subgraphs ---------------------------------------------------------------


def branch(name: str, code_index: int, options: Any) -> Any:
    """A subgraph: its input and itself, combined by one op."""
    return subgraph([tensor("in", (3,)), tensor("out", (3,))], [op(code_index, [0, 0], [1], options)], [0], [1], name)


def if_model() -> Any:
    main = subgraph(
        [tensor("condition", (), "BOOL"), tensor("x", (3,)), tensor("y", (3,))],
        [op(0, [0, 1], [2], schema.IfOptionsT(thenSubgraphIndex=1, elseSubgraphIndex=2))],
        [0, 1],
        [2],
    )
    branches = [branch("doubled", 1, schema.AddOptionsT()), branch("squared", 2, schema.MulOptionsT())]
    return model([main, *branches], [code("IF"), code("ADD"), code("MUL")])


def while_model() -> Any:
    """Doubles x until it is not less than 1000."""
    main = subgraph(
        [tensor("x", (1,)), tensor("y", (1,))],
        [op(0, [0], [1], schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2))],
        [0],
        [1],
    )
    limit = tensor("limit", (1,), buffer=1)
    condition = subgraph(
        [tensor("in", (1,)), limit, tensor("go on", (1,), "BOOL")], [op(1, [0, 1], [2])], [0], [2], "condition"
    )
    body = subgraph(
        [tensor("in", (1,)), tensor("out", (1,))], [op(2, [0, 0], [1], schema.AddOptionsT())], [0], [1], "body"
    )
    return model([main, condition, body], [code("WHILE"), code("LESS"), code("ADD")], [np.array([1000], np.float32)])


@pytest.mark.parametrize("build", [if_model, while_model])
def test_control_flow(build: Callable[[], Any]) -> None:
    assert_kept_and_runs(packed.pack(build()))


def test_a_part_of_a_model_keeps_the_subgraphs_that_it_runs() -> None:
    data = packed.pack(if_model())
    part = flatbuffer.from_bytes(data).slice([0], [0, 1], [2])
    assert outputs(flatbuffer.to_bytes(part))[0].tobytes() == outputs(data)[0].tobytes()


def test_signatures_of_several_subgraphs() -> None:
    built = if_model()
    maps = schema.TensorMapT
    built.signatureDefs = [
        schema.SignatureDefT(
            inputs=[maps(name="flag", tensorIndex=0), maps(name="value", tensorIndex=1)],
            outputs=[maps(name="result", tensorIndex=2)],
            signatureKey="serving_default",
            subgraphIndex=0,
        ),
        schema.SignatureDefT(
            inputs=[maps(name="in", tensorIndex=0)],
            outputs=[maps(name="out", tensorIndex=1)],
            signatureKey="square",
            subgraphIndex=2,
        ),
    ]
    written = assert_kept(packed.pack(built))
    square = Interpreter(model_content=written).get_signature_runner("square")
    values = np.array([1, -2, 3], np.float32)
    np.testing.assert_array_equal(square(**{"in": values})["out"], values * values)


# -- what lies beside the graph --------------------------------------------------------


def test_metadata_and_description() -> None:
    built = packed.add_constant(np.ones(3, np.float32), (3,))
    for name in (b"min_runtime_version", b"empty", "über".encode()):
        built.buffers.append(schema.BufferT(data=np.frombuffer(name[:-3] if name != b"empty" else b"", np.uint8)))
    built.metadata = [
        schema.MetadataT(name=name, buffer=i + 2) for i, name in enumerate(("min_runtime_version", "empty", "über"))
    ]
    built.metadataBuffer = [2, 4]
    built.description = "made by hand"
    built.subgraphs[0].debugMetadataIndex = 1
    built.subgraphs[0].operators[0].debugMetadataIndex = 7
    written = assert_kept_and_runs(packed.pack(built))
    graph = flatbuffer.from_bytes(written)
    assert list(graph.metadata) == ["min_runtime_version", "empty", "über"]
    assert graph.metadata["empty"] == b""
    assert graph.description == "made by hand"


def test_names_that_are_not_utf8_are_still_read() -> None:
    built = packed.add_constant(np.ones(3, np.float32), (3,))
    data = packed.pack(built).replace(b"constant", b"const\xffnt")
    assert flatbuffer.from_bytes(data).tensors[1].name == "const\ufffdnt"
    assert round_trip(round_trip(data)) == round_trip(data)


@pytest.mark.parametrize(
    ("dtype", "scaled"), [("INT8", True), ("FLOAT32", True), ("BOOL", False), ("COMPLEX64", False)]
)
def test_scales_of_types_that_have_no_integers_say_nothing(dtype: str, scaled: bool) -> None:
    built = packed.add_constant(np.ones(3, np.float32), (3,))
    built.subgraphs[0].tensors[2].type = getattr(schema.TensorType, dtype)
    built.subgraphs[0].tensors[2].quantization = schema.QuantizationParametersT(scale=[0.5], zeroPoint=[3])
    assert (flatbuffer.from_bytes(packed.pack(built)).tensors[2].quantization is not None) == scaled


def test_quantization_with_all_its_fields() -> None:
    built = packed.add_constant(np.ones((3, 2), np.float32), (3, 2))
    x, constant, y = built.subgraphs[0].tensors
    # LiteRT reads none of it from float tensors.
    x.quantization = schema.QuantizationParametersT(scale=[0.5], zeroPoint=[3], min=[-1.0], max=[2.0])
    constant.quantization = schema.QuantizationParametersT(
        scale=[0.5, 0.0], zeroPoint=[0, 1], min=[-1.0, -2.0], max=[2.0, 3.0], quantizedDimension=1
    )
    y.quantization = schema.QuantizationParametersT(min=[0.0], max=[6.0])
    written = assert_kept(packed.pack(built))
    graph = flatbuffer.from_bytes(written)
    assert graph.tensors[0].quantization is not None
    assert graph.tensors[0].quantization.axis is None
    assert graph.tensors[1].quantization is not None
    assert graph.tensors[1].quantization.axis == 1
    assert graph.tensors[2].quantization is None


def test_one_channel_keeps_the_axis_that_the_file_names() -> None:
    built = packed.add_constant(np.ones((3, 1), np.float32), (3, 1))
    built.subgraphs[0].tensors[1].quantization = schema.QuantizationParametersT(
        scale=[0.5], zeroPoint=[0], quantizedDimension=1
    )
    assert_kept(packed.pack(built))


def test_one_zero_point_for_all_channels_and_none() -> None:
    built = packed.add_constant(np.ones((3, 2), np.float32), (3, 2))
    for zero_point, expected in (([5], [5, 5]), (None, [0, 0])):
        built.subgraphs[0].tensors[1].quantization = schema.QuantizationParametersT(
            scale=[0.5, 0.25], zeroPoint=zero_point, quantizedDimension=1
        )
        quantization = flatbuffer.from_bytes(packed.pack(built)).tensors[1].quantization
        assert quantization is not None
        assert quantization.zero_point.tolist() == expected


def test_the_axis_of_a_bias_is_its_only_one() -> None:
    built = packed.add_constant(np.ones(2, np.float32), (2,))
    built.subgraphs[0].tensors[1].quantization = schema.QuantizationParametersT(
        scale=[0.5, 0.25], zeroPoint=[0, 0], quantizedDimension=3
    )
    quantization = flatbuffer.from_bytes(packed.pack(built)).tensors[1].quantization
    assert quantization is not None
    assert quantization.axis == 0


def test_variables_keep_their_state_between_runs() -> None:
    """SVDF keeps what it has seen in a variable."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), (4, 5))]
    tensors = [
        tensor("x", (1, 3)),
        tensor("features", (4, 3), buffer=1),
        tensor("time", (4, 5), buffer=2),
        tensor("state", (1, 20), isVariable=True),
        tensor("y", (1, 4)),
    ]
    svdf = op(0, [0, 1, 2, -1, 3], [4], schema.SVDFOptionsT(rank=1))
    data = packed.pack(model([subgraph(tensors, [svdf], [0], [4])], [code("SVDF")], [*weights]))
    written = assert_kept_and_runs(data)
    assert flatbuffer.from_bytes(written).tensors[3].is_variable
    results = []
    for content_ in (data, written):
        interpreter = Interpreter(model_content=content_)
        interpreter.allocate_tensors()
        for step in range(3):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.full((1, 3), step, np.float32))
            interpreter.invoke()
            results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tobytes())
    assert results[:3] == results[3:]
    assert results[1] != results[2]


def test_dynamic_dimensions_and_ranks_are_kept() -> None:
    built = packed.add_constant(np.ones((1, 3), np.float32), (1, 3))
    built.subgraphs[0].tensors[0].shapeSignature = [-1, 3]
    built.subgraphs[0].tensors[0].hasRank = True
    written = assert_kept_and_runs(packed.pack(built))
    assert flatbuffer.from_bytes(written).tensors[0].shape_signature == (-1, 3)


def test_resources_and_texts_pass_through() -> None:
    handle = schema.VarHandleOptionsT(container="shelf", sharedName="state")
    tensors = [tensor("handle", (), "RESOURCE"), tensor("words", (2,), "STRING"), tensor("copy", (2,), "STRING")]
    variants = [schema.VariantSubTypeT(shape=[2], type=schema.TensorType.INT32, hasRank=True)]
    tensors.append(tensor("list", (), "VARIANT", variantTensors=variants))
    ops = [op(0, [], [0], handle), op(1, [1, -1], [2], intermediates=[3])]
    codes = [code("VAR_HANDLE"), code("CUSTOM", custom="Copy", version=4)]
    assert_kept(packed.pack(model([subgraph(tensors, ops, [1], [2])], codes)))


# -- ops ---------------------------------------------------------------------------------


def test_custom_ops_with_their_options() -> None:
    tensors = [tensor("x", (2,)), tensor("y", (2,))]
    custom = op(
        0,
        [0, -1],
        [1],
        customOptions=np.arange(7, dtype=np.uint8),
        mutatingVariableInputs=np.array([True, False]),
        intermediates=[-1],
    )
    data = packed.pack(model([subgraph(tensors, [custom], [0], [1])], [code("CUSTOM", 3, "MyOp")]))
    (found,) = flatbuffer.from_bytes(assert_kept(data)).ops
    assert (found.kind, found.custom_code, found.version) == ("CUSTOM", "MyOp", 3)
    assert found.extra["customOptions"] == bytes(range(7))


def test_options_behind_the_flatbuffer_move_inside() -> None:
    def build(offset: int) -> bytes:
        custom = op(0, [0], [1], largeCustomOptionsOffset=offset, largeCustomOptionsSize=5)
        tensors = [tensor("x", (2,)), tensor("y", (2,))]
        return packed.pack(model([subgraph(tensors, [custom], [0], [1])], [code("CUSTOM", 1, "MyOp")]))

    length = len(build(offset=99))
    data = build(offset=length) + b"hello"
    assert flatbuffer.from_bytes(data).ops[0].extra["customOptions"] == b"hello"
    assert_kept(round_trip(data))
    with pytest.raises(InputError, match="beyond the end"):
        flatbuffer.from_bytes(data[:-1])


def test_stablehlo_ops_keep_their_second_options() -> None:
    inner = branch("inner", 1, schema.AddOptionsT())
    composite = op(
        0,
        [0],
        [1],
        builtinOptions2Type=schema.BuiltinOptions2.StableHLOCompositeOptions,
        builtinOptions2=schema.StableHLOCompositeOptionsT(
            name="my.op", decompositionSubgraphIndex=1, compositeAttributes=np.arange(5, dtype=np.uint8), version=2
        ),
    )
    main = subgraph([tensor("x", (3,)), tensor("y", (3,))], [composite], [0], [1])
    assert_kept_and_runs(packed.pack(model([main, inner], [code("STABLEHLO_COMPOSITE"), code("ADD")])))


def test_options_of_every_sort() -> None:
    """Enums, numbers, truth values, vectors, absent vectors, and an op written without its options."""
    tensors = [tensor(name, (1, 4, 4, 2)) for name in "abcdefg"]
    pool = schema.Pool2DOptionsT(
        padding=schema.Padding.VALID, strideW=1, strideH=2, filterWidth=3, filterHeight=4, fusedActivationFunction=3
    )
    ops = [
        op(0, [0], [1], pool),
        op(1, [1], [2], schema.ReshapeOptionsT(newShape=np.array([1, 4, 4, 2], np.int32))),
        op(1, [2], [3], schema.ReshapeOptionsT()),
        op(1, [3], [4]),
        op(2, [4], [5], schema.SoftmaxOptionsT(beta=0.1)),
        op(3, [5], [6], schema.LeakyReluOptionsT(alpha=0.3)),
    ]
    codes = [code("AVERAGE_POOL_2D"), code("RESHAPE"), code("SOFTMAX"), code("LEAKY_RELU")]
    written = assert_kept(packed.pack(model([subgraph(tensors, ops, [0], [6])], codes)))
    options = [found.options for found in flatbuffer.from_bytes(written).ops]
    assert options[0]["padding"] == "VALID"
    assert options[0]["fusedActivationFunction"] == "RELU6"
    assert options[1]["newShape"] == (1, 4, 4, 2)
    assert options[2]["newShape"] is None
    assert options[3] == {}


def test_an_op_changed_into_another_kind_gets_that_kinds_options() -> None:
    graph = flatbuffer.from_bytes(packed.pack(packed.add_constant(np.full(3, 2, np.float32), (3,))))
    product = graph.with_ops({0: replace(graph.ops[0], kind="MUL", options={"fusedActivationFunction": "RELU"})})
    data = flatbuffer.to_bytes(product)
    assert packed.unpack(data).subgraphs[0].operators[0].builtinOptionsType == schema.BuiltinOptions.MulOptions
    assert outputs(data)[0].tobytes() != outputs(flatbuffer.to_bytes(graph))[0].tobytes()


# -- files ---------------------------------------------------------------------------------


@pytest.fixture
def small() -> Graph:
    return Graph((Tensor("x", (1,), "float32"), Tensor("y", (1,), "float32")), (Op("RELU", (0,), (1,)),), (0,), (1,))


def test_write_and_read(tmp_path: Path, small: Graph) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"what was there before")
    assert flatbuffer.write(small, path) == path.stat().st_size
    assert flatbuffer.to_bytes(flatbuffer.read(path)) == path.read_bytes() == flatbuffer.to_bytes(small)
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]


@pytest.mark.parametrize("where", ["file/model.tflite", "folder"])
def test_a_place_that_cannot_be_written_to(tmp_path: Path, small: Graph, where: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        flatbuffer.write(small, tmp_path / where)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_write_that_fails_halfway_leaves_nothing(tmp_path: Path, small: Graph) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing gives an error instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
    try:
        with pytest.raises(InputError, match=r"model\.tflite cannot be written: File too large"):
            flatbuffer.write(small, tmp_path / "model.tflite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        flatbuffer.read(tmp_path / "missing.tflite")
    with pytest.raises(InputError, match="is a folder"):
        flatbuffer.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.tflite")
    with pytest.raises(InputError, match="no regular file"):
        flatbuffer.read(tmp_path / "pipe.tflite")


def test_more_than_2_gib_is_refused_before_it_is_copied() -> None:
    many = np.broadcast_to(np.zeros(1, np.float32), (2**29,))  # 2 GiB to look at, 4 bytes in memory
    graph = Graph((Tensor("x", (1,), "float32"), Tensor("c", many.shape, "float32", many)), (), (0,), (0,))
    with pytest.raises(InputError, match="2 GiB"):
        flatbuffer.to_bytes(graph)


def test_a_large_constant_counts_once_however_many_tensors_share_it() -> None:
    megabyte = np.zeros(2**18, np.float32)
    tensors = tuple(Tensor(f"c{i}", megabyte.shape, "float32", megabyte) for i in range(3000))
    data = flatbuffer.to_bytes(Graph((*tensors, Tensor("x", (1,), "float32")), (), (3000,), (3000,)))
    assert len(data) < 2**21
