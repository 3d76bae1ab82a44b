from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeqwt.converters.integers import narrowed
from edgeqwt.graph.graph import Graph, Tensor
from edgeqwt.runtime.runners import TFLiteMicro, reference
from tests.chain import Chain, noise


def lookup() -> Graph:
    """Ids (1, 6), cast to look up a table, and a mask, cast to float; both int64."""
    chain = Chain()
    ids, mask = chain.input((1, 6), "ids", "int64"), chain.input((1, 6), "mask", "int64")
    places = chain.op("CAST", ids, dtype="int32", inDataType="INT64", outDataType="INT32")
    used = chain.op("CAST", mask, dtype="float32", inDataType="INT64", outDataType="FLOAT32")
    words = chain.op("GATHER", chain.constant(noise(9, 4)), places, axis=0, batchDims=0)
    return chain.graph(words, used)


def test_ids_and_masks_become_32_bits_and_compute_the_same() -> None:
    graph = lookup()
    found = narrowed(graph)
    assert [found.tensors[t].dtype for t in found.inputs] == ["int32", "int32"]
    assert [op.kind for op in found.ops] == ["CAST", "GATHER"]
    values = [np.array([[0, 1, 2, 3, 4, 8]]), np.array([[1, 1, 1, 0, 0, 0]])]
    expected = reference(graph).run(dict(zip(graph.inputs, values, strict=True)))
    narrow = {t: v.astype(np.int32) for t, v in zip(found.inputs, values, strict=True)}
    for runner in (reference(found), TFLiteMicro(found)):
        computed = runner.run(narrow)
        for old, new in zip(graph.outputs, found.outputs, strict=True):
            np.testing.assert_array_equal(computed[new], expected[old])


def test_an_input_that_is_given_back_or_read_otherwise_stays() -> None:
    graph = lookup()
    given_back = replace(graph, outputs=graph.inputs)
    assert [given_back.tensors[t].dtype for t in narrowed(given_back).inputs] == ["int64", "int64"]
    chain = Chain()
    x = chain.input((1, 6), "x", "int64")
    doubled = narrowed(chain.graph(chain.op("ADD", x, x, dtype="int64", fusedActivationFunction="NONE")))
    assert [doubled.tensors[t].dtype for t in doubled.inputs] == ["int64"]


def test_a_cast_that_is_an_output_goes_on_being_written() -> None:
    graph = lookup()
    cast = graph.ops[0].outputs[0]
    found = narrowed(replace(graph, outputs=(cast,)))
    assert [op.kind for op in found.ops] == ["CAST", "CAST", "GATHER"]
    assert found.ops[0].options["inDataType"] == "INT32"


def wide(chain: Chain, number: int) -> int:
    """A constant of 64 bits."""
    return chain._add(Tensor(f"wide{number}", (1,), "int64", np.array([number])))


def test_what_moves_and_compares_ids_is_32_bits_with_them() -> None:
    """The place of a text's last token, as CLIP finds it, and a mask that is counted and chosen by."""
    chain = Chain()
    ids, mask = chain.input((1, 6), "ids", "int64"), chain.input((1, 6), "mask", "int64")
    last = chain.op(
        "ARG_MAX", ids, chain.constant(np.array([1], np.int32)), shape=(1,), dtype="int32", outputType="INT32"
    )
    count = chain.op(
        "CUMSUM",
        mask,
        chain.constant(np.array(1, np.int32)),
        dtype="int64",
        shape=(1, 6),
        exclusive=False,
        reverse=False,
    )
    zero = wide(chain, 0)
    hidden = chain.op("EQUAL", mask, zero, dtype="bool", shape=(1, 6))
    chosen = chain.op("SELECT_V2", hidden, zero, count, dtype="int64", shape=(1, 6))
    places = chain.op("CAST", chosen, shape=(1, 6), inDataType="INT64", outDataType="FLOAT32")
    graph = chain.graph(last, places)
    found = narrowed(graph)
    assert "int64" not in {tensor.dtype for tensor in found.tensors}
    values = [np.array([[0, 1, 2, 9, 0, 0]]), np.array([[0, 0, 1, 1, 1, 0]])]
    computed = reference(found).run({t: v.astype(np.int32) for t, v in zip(found.inputs, values, strict=True)})
    assert [computed[t].tolist() for t in found.outputs] == [[3], [[0, 0, 1, 2, 3, 0]]]


def test_a_constant_beyond_32_bits_keeps_what_it_is_compared_with() -> None:
    chain = Chain()
    x = chain.input((1, 6), "x", "int64")
    graph = chain.graph(chain.op("LESS", x, wide(chain, 2**40), dtype="bool"))
    assert narrowed(graph) is graph


def indices(chain: Chain, axis: int) -> int:
    """Of the largest in each row, (3,), 64 bits."""
    x = chain.input((3, 5), "x")
    at = chain.constant(np.array([axis], np.int32))
    return chain.op("ARG_MAX", x, at, shape=(3,), dtype="int64", outputType="INT64")


def test_indices_are_32_bits_where_they_are_used_and_given() -> None:
    chain = Chain()
    best = indices(chain, 1)
    places = chain.op("CAST", best, dtype="int32", inDataType="INT64", outDataType="INT32")
    rows = chain.op("GATHER", chain.constant(noise(5, 4)), places, axis=0, batchDims=0, shape=(3, 4))
    graph = chain.graph(best, rows)
    found = narrowed(graph)
    assert [op.kind for op in found.ops] == ["ARG_MAX", "GATHER"]
    assert found.ops[0].options["outputType"] == "INT32"
    assert found.tensors[found.outputs[0]].dtype == "int32"
    values = {"x": noise(3, 5)}
    expected = reference(graph).run({graph.inputs[0]: values["x"]})
    for runner in (reference(found), TFLiteMicro(found)):
        computed = runner.run({found.inputs[0]: values["x"]})
        for old, new in zip(graph.outputs, found.outputs, strict=True):
            np.testing.assert_array_equal(computed[new], expected[old])


def test_indices_that_are_computed_with_stay() -> None:
    chain = Chain()
    best = indices(chain, 1)
    doubled = chain.op("ADD", best, best, dtype="int64", fusedActivationFunction="NONE")
    assert narrowed(chain.graph(doubled)).ops[0].options["outputType"] == "INT64"
