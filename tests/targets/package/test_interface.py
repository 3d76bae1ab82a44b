from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeqwt.target.package.details import Port, of_graph
from edgeqwt.target.package.interface import document, write_interface
from edgeqwt.target.package.vectors import make_vectors
from tests import small
from tests.targets.package import common


def test_inputs_and_outputs() -> None:
    graph = common.int8()
    port = Port("picture", (1, 3, 8, 8), (0, 2, 3, 1))
    details = replace(of_graph(graph), inputs=(port,), origin="Made of clay.")
    found = document(graph, details, make_vectors(graph, "tflm"), "model.tflite")
    q = graph.tensors[graph.inputs[0]].quantization
    assert q is not None
    assert found["inputs"] == [
        {
            "name": "picture",
            "tensor": "image",
            "shape": [1, 8, 8, 3],
            "dtype": "int8",
            "scale": float(q.scale[0]),
            "zero_point": int(q.zero_point[0]),
            "lowest": -128,
            "highest": 127,
            "source": {"shape": [1, 3, 8, 8], "permutation": [0, 2, 3, 1], "factor": None, "axis": None, "shift": None},
            "state": None,
        }
    ]
    assert (found["outputs"][0]["scale"], found["outputs"][0]["zero_point"]) == (1 / 256, -128)
    assert found["model"] == "model.tflite"
    assert found["origin"] == "Made of clay."


def test_float_borders_have_no_scale() -> None:
    graph = common.float_borders()
    found = document(graph, of_graph(graph), make_vectors(graph, "tflm"), "")
    assert found["inputs"][0]["dtype"] == "float32"
    assert found["inputs"][0]["scale"] is None
    assert found["model"] is None


def test_vectors_are_raw_bytes(tmp_path: Path) -> None:
    graph = common.int8()
    vectors = make_vectors(graph, "xnnpack", [{graph.inputs[0]: image[None]} for image in small.images(2)])
    write_interface(graph, of_graph(graph), vectors, tmp_path, "model.tflite")
    found = json.loads((tmp_path / "io.json").read_text(encoding="utf-8"))
    assert found["vectors"]["expected_from"] == "LiteRT with XNNPACK"
    assert found["vectors"]["inputs"] == "samples given to the build"
    assert len(found["vectors"]["files"]) == 2
    for files, vector in zip(found["vectors"]["files"], vectors.items, strict=True):
        np.testing.assert_array_equal(np.fromfile(tmp_path / files["inputs"][0], np.int8), vector.inputs[0].ravel())
        np.testing.assert_array_equal(np.fromfile(tmp_path / files["outputs"][0], np.int8), vector.outputs[0].ravel())
