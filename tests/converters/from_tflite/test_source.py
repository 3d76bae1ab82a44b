"""Float .tflite files as sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeqwt.converters.from_tflite.source import TfliteRunner, bindings
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph, Op, Tensor
from tests.graph.packed import add_constant, code, op, pack
from tests.runtime.test_foreign import added


def test_results_with_a_value_in_the_file_are_written_over_in_memory(tmp_path: Path) -> None:
    """LiteRT computes into the file's own memory there, which ended the process where that was the file on disk."""
    packed = add_constant(np.full((1, 4), 2, np.float32), (1, 4))
    packed.operatorCodes = [code("POW")]  # XNNPACK, which refuses such results, does not take it
    packed.subgraphs[0].operators = [op(0, [0, 1], [2], schema.PowOptionsT())]
    packed.buffers.append(schema.BufferT(data=np.zeros(16, np.uint8)))
    packed.subgraphs[0].tensors[2].buffer = 2
    path = tmp_path / "stale.tflite"
    path.write_bytes(pack(packed))
    runner = TfliteRunner.open(path, *bindings(flatbuffer.read(path)))
    for value in (1.0, 3.0):
        found = runner.run({"x": np.full((1, 4), value, np.float32)})
        assert np.array_equal(found["y"], np.full((1, 4), value**2, np.float32))
    assert path.read_bytes() == pack(packed)


def test_what_litert_cannot_run_is_the_file_s_fault(tmp_path: Path) -> None:
    """The index is one of the data: only running tells that it lies outside."""
    tensors = (Tensor("rows", (3, 2), "float32"), Tensor("row", (1,), "int32"), Tensor("y", (1, 2), "float32"))
    graph = Graph(tensors, (Op("GATHER", (0, 1), (2,), {"axis": 0, "batchDims": 0}),), (0, 1), (2,))
    flatbuffer.write(graph, path := tmp_path / "gather.tflite")
    runner, rows = TfliteRunner.open(path, *bindings(graph)), np.arange(6, dtype=np.float32).reshape(3, 2)
    assert runner.run({"rows": rows, "row": np.array([2], np.int32)})["y"].tolist() == [[4, 5]]
    with pytest.raises(InputError, match=r"LiteRT cannot run .*gather\.tflite on a sample: .*out of bounds"):
        runner.run({"rows": rows, "row": np.array([3], np.int32)})


def test_what_ends_litert_s_process_does_not_end_this_one(tmp_path: Path) -> None:
    flatbuffer.write(added(2.0**24), path := tmp_path / "added.tflite")
    with pytest.raises(InputError, match=r"added\.tflite: ADD #1 -> 'sum' ends the process .* when it is loaded"):
        TfliteRunner.open(path, *bindings(added(2.0**24)))


def test_names_that_are_not_utf8_do_not_stop_a_run(tmp_path: Path) -> None:
    """LiteRT's Python package cannot say them."""
    packed = add_constant(np.ones((1, 4), np.float32), (1, 4))
    packed.subgraphs[0].tensors[2].name = "result"
    path = tmp_path / "names.tflite"
    path.write_bytes(pack(packed).replace(b"result", b"res\xfflt"))
    runner = TfliteRunner.open(path, *bindings(flatbuffer.read(path)))
    assert runner.run({"x": np.zeros((1, 4), np.float32)})["res\ufffdlt"].tolist() == [[1, 1, 1, 1]]
