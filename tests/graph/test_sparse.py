"""Constants without their zeros: read as LiteRT's DENSIFY reads them, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flatbuffers
import numpy as np
import pytest

from edgeqwt.errors import InputError
from edgeqwt.graph.flatbuffer import to_bytes
from edgeqwt.graph.graph import Array
from edgeqwt.graph.reader import graph_from_bytes
from edgeqwt.graph.schema import IDENTIFIER, schema
from edgeqwt.graph.sparse import Layout, Level, dense
from edgeqwt.runtime.runners import xnnpack
from tests.chain import NONE, Chain, noise


def rows(matrix: Array) -> tuple[Array, Layout]:
    """Compressed sparse rows."""
    segments = np.concatenate([[0], np.cumsum((matrix != 0).sum(axis=1))])
    levels = [Level(len(matrix)), Level(0, segments, np.nonzero(matrix)[1])]
    return matrix[matrix != 0], Layout([0, 1], [], levels)


def blocks(matrix: Array, height: int, width: int) -> tuple[Array, Layout]:
    """Rows of blocks, stored where a block is not zero."""
    high, wide = matrix.shape[0] // height, matrix.shape[1] // width
    parts = matrix.reshape(high, height, wide, width).transpose(0, 2, 1, 3)
    used = parts.any(axis=(2, 3))
    segments = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    levels = [Level(high), Level(0, segments, np.nonzero(used)[1]), Level(height), Level(width)]
    return parts[used].reshape(-1), Layout([0, 1, 2, 3], [0, 1], levels)


def pruned(seed: int = 0) -> Array:
    matrix = noise(8, 12, seed=seed)
    matrix[:, np.random.default_rng(seed).permutation(12)[:7]] = 0
    matrix[3] = 0
    return matrix


def layouts(matrix: Array) -> dict[str, tuple[Array, Layout]]:
    turned = rows(np.ascontiguousarray(matrix.T))
    return {
        "rows": rows(matrix),
        "columns": (turned[0], replace(turned[1], order=[1, 0])),
        "blocks": blocks(matrix, 2, 1),
        "blocks of 4": blocks(matrix, 1, 4),
        "all": (matrix.reshape(-1), Layout([0, 1], [], [Level(8), Level(12)])),
    }


@pytest.mark.parametrize("name", layouts(pruned()))
def test_elements_come_back_to_their_places(name: str) -> None:
    stored, layout = layouts(pruned())[name]
    np.testing.assert_array_equal(dense(stored, (8, 12), layout), pruned())


def file_of(matrix: Array, stored: Array, layout: Layout) -> bytes:
    """A FULLY_CONNECTED whose weights DENSIFY fills with zeros, as LiteRT reads them."""
    chain = Chain()
    x, weights, filled = chain.input((2, 12), "x"), chain.constant(matrix, "w"), chain.constant(noise(8, 12), "filled")
    y = chain.op("FULLY_CONNECTED", x, filled, -1, weightsFormat="DEFAULT", keepNumDims=False, **NONE)
    graph = chain.graph(y)
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(to_bytes(replace(graph, outputs=(y, weights, filled)))))
    sub = model.subgraphs[0]
    sub.outputs = sub.outputs[:1]
    tensors = {t.name.decode(): (i, t) for i, t in enumerate(sub.tensors)}
    (w, weight), (f, full) = tensors["w"], tensors["filled"]
    full.buffer = 0
    model.buffers[weight.buffer].data = np.frombuffer(stored.astype("<f4").tobytes(), np.uint8)
    weight.sparsity = s.SparsityParametersT()
    weight.sparsity.traversalOrder, weight.sparsity.blockMap = list(layout.order), list(layout.blocks)
    weight.sparsity.dimMetadata = [metadata(level) for level in layout.levels]
    code, densify = s.OperatorCodeT(), s.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.DENSIFY
    code.version = 1
    densify.opcodeIndex, densify.inputs, densify.outputs = len(model.operatorCodes), [w], [f]
    model.operatorCodes.append(code)
    sub.operators.insert(0, densify)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def metadata(level: Level) -> Any:
    s, made = schema(), schema().DimensionMetadataT()
    made.denseSize = level.size
    if level.segments is not None and level.indices is not None:
        made.format = s.DimensionType.SPARSE_CSR
        made.arraySegmentsType = made.arrayIndicesType = s.SparseIndexVector.Int32Vector
        made.arraySegments, made.arrayIndices = s.Int32VectorT(), s.Int32VectorT()
        made.arraySegments.values, made.arrayIndices.values = (
            a.astype(np.int32) for a in (level.segments, level.indices)
        )
    return made


@pytest.mark.parametrize("name", ["rows", "blocks", "blocks of 4"])
def test_the_model_computes_what_litert_makes_of_it(name: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    data = file_of(pruned(), *layouts(pruned())[name])
    graph, _ = graph_from_bytes(data, "net.tflite")
    assert [op.kind for op in graph.ops] == ["FULLY_CONNECTED"]
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    x = noise(2, 12, seed=4)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    wanted = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    found = xnnpack(graph).run({graph.inputs[0]: x})[graph.outputs[0]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)  # sums of 12 products in another order


def damaged() -> dict[str, Layout]:
    _, good = rows(pruned())
    first, second = good.levels
    assert second.segments is not None
    assert second.indices is not None
    far, back = second.indices.copy(), second.segments.copy()
    far[2], back[2] = 12, 99
    return {
        "order": replace(good, order=[0, 0]),
        "dense dimension": replace(good, levels=[Level(7), second]),
        "index": replace(good, levels=[first, replace(second, indices=far)]),
        "segments": replace(good, levels=[first, replace(second, segments=back)]),
        "blocks": Layout([0, 1, 2], [1], [first, second, Level(5)]),
        "elements": replace(good, levels=[first, Level(12)]),
    }


@pytest.mark.parametrize("what", damaged())
def test_layouts_that_contradict_themselves_are_refused(what: str) -> None:
    stored, _ = rows(pruned())
    with pytest.raises(ValueError, match=what):
        dense(stored, (8, 12), damaged()[what])
    with pytest.raises(InputError, match="stored sparse"):
        graph_from_bytes(file_of(pruned(), stored, damaged()[what]), "net.tflite")


def test_a_few_bytes_do_not_become_gigabytes() -> None:
    empty = Layout([0, 1], [], [Level(30_000), Level(0, np.zeros(30_001, int), np.zeros(0, int))])
    with pytest.raises(ValueError, match="hardly any"):
        dense(np.zeros(0, np.float32), (30_000, 30_000), empty)
