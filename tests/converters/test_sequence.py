from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeqwt.calibration.samples import Sample
from edgeqwt.calibration.sequence import Sequences
from edgeqwt.converters.sequence import find_sequences
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Tensor

MODULE = "model.py:create"  # not loaded: a module does not say what it takes
IDS = np.zeros((1, 12), np.int64)


def dynamic(**shapes: list[str | int]) -> bytes:
    """An ONNX model that gives its int64 inputs back."""
    import onnx

    kind = onnx.TensorProto.INT64
    ends = [[onnx.helper.make_tensor_value_info(n, kind, s) for n, s in shapes.items()] for _ in range(2)]
    for value in ends[1]:
        value.name += "_out"
    nodes = [onnx.helper.make_node("Identity", [name], [f"{name}_out"]) for name in shapes]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", *ends), ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def test_of_a_module_integers_of_two_dimensions_are_sequences() -> None:
    sample = {"ids": IDS, "mask": np.ones((1, 12), np.bool_), "image": np.zeros((1, 3, 8, 8), np.float32)}
    assert find_sequences(MODULE, sample, 64) == Sequences(64, {"ids": 1, "mask": 1})
    assert find_sequences(MODULE, {"": IDS}, 64) == Sequences(64, {"": 1})


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"image": np.zeros((1, 3, 8, 8), np.float32)}, "no input holds sequences"),
        ({"ids": IDS, "target": IDS[:, :5]}, "differ in length: 'ids' 12, 'target' 5"),
        ({"ids": IDS, "features": np.zeros((1, 12, 4), np.float32)}, "'features' has shape .* whether it is one"),
        ({"ids": IDS, "mask": np.zeros((1, 12), np.float32)}, "'mask' has shape .* whether it is one"),
    ],
)
def test_what_is_not_clear_of_a_module_is_refused(sample: Sample, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_sequences(MODULE, sample, 64)


def test_a_length_is_positive() -> None:
    with pytest.raises(InputError, match="length 0"):
        find_sequences(MODULE, {"ids": IDS}, 0)


@pytest.mark.requires("onnx")
def test_an_onnx_file_says_where_its_sequences_are(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(dynamic(ids=["batch", "tokens"], features=["batch", 4, "tokens"], kind=["batch", 12]))
    sample = {"ids": IDS, "features": np.zeros((1, 4, 12)), "kind": IDS}
    assert find_sequences(file, sample, 64) == Sequences(64, {"ids": 1, "features": 2})
    file.write_bytes(dynamic(x=["batch", "height", "width"]))
    with pytest.raises(InputError, match="2 dynamic dimensions besides the batch"):
        find_sequences(file, {"x": np.zeros((1, 8, 8))}, 64)
    file.write_bytes(dynamic(ids=["batch", "tokens"]))
    with pytest.raises(InputError, match="takes sequences as 'ids', the samples have words"):
        find_sequences(file, {"words": IDS}, 64)
    with pytest.raises(InputError, match=r"shape \(12,\), without axis 1"):
        find_sequences(file, {"ids": IDS[0]}, 64)


def test_a_file_of_fixed_shape_has_its_own_length(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    tensors = (Tensor("ids", (1, 12), "int32"), Tensor("out", (1, 12), "float32"))
    options = {"inDataType": "INT32", "outDataType": "FLOAT32"}
    flatbuffer.write(Graph(tensors, (Op("CAST", (0,), (1,), options),), (0,), (1,)), file)
    assert find_sequences(file, {"": IDS[:, :5]}, 12) == Sequences(12, {"": 1})
    with pytest.raises(InputError, match="takes 12 tokens as 'ids', not 64: its shapes are fixed") as refused:
        find_sequences(file, {"ids": IDS}, 64)
    assert "--sequence-length 12" in (refused.value.hint or "")


@pytest.mark.requires("torch")
def test_an_exported_program_says_where_its_sequences_are(tmp_path: Path) -> None:
    import torch

    length = torch.export.Dim("length", min=2, max=64)
    program = torch.export.export(
        torch.nn.Embedding(9, 4), (torch.zeros(1, 12, dtype=torch.int64),), dynamic_shapes={"input": {1: length}}
    )
    torch.export.save(program, tmp_path / "model.pt2")
    assert find_sequences(tmp_path / "model.pt2", {"": IDS}, 32) == Sequences(32, {"": 1})
