"""Float .tflite files as sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeqwt.converters.tflite_source import TfliteRunner, bindings
from edgeqwt.graph import flatbuffer
from tests.graph.packed import add_constant, code, op, pack


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
