"""A kernel that ends its process is found and named; the process that asked for the run goes on."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.runtime.child import EndedError
from edgeqwt.runtime.ended import KernelEndedError, ending_op
from edgeqwt.runtime.subprocess_runners import litert_host
from edgeqwt.verify.bitexact import compare_runtimes


def attention(tokens: int) -> Graph:
    """(1, tokens) int8 -> RESHAPE -> SOFTMAX at 8 bits, as other tools write it, and as no build of ours does."""
    step, unit = Quantization.per_tensor(0.1, 0), Quantization.per_tensor(1 / 256, -128)
    tensors = (
        Tensor("logits", (1, tokens), "int8", quantization=step),
        Tensor("rows", (1, 1, tokens), "int8", quantization=step),
        Tensor("shape", (3,), "int32", data=np.array([1, 1, tokens], np.int32)),
        Tensor("weights", (1, 1, tokens), "int8", quantization=unit),
    )
    reshape = Op("RESHAPE", (0, 2), (1,), {"newShape": [1, 1, tokens]})
    softmax = Op("SOFTMAX", (1,), (3,), {"beta": 1.0}, version=2)
    return Graph(tensors=tensors, ops=(reshape, softmax), inputs=(0,), outputs=(3,))


def alike(tokens: int) -> dict[int, Array]:
    return {0: np.zeros((1, tokens), np.int8)}


def peaked(tokens: int) -> dict[int, Array]:
    return {0: np.where(np.arange(tokens) == 3, 127, -128).astype(np.int8)[None]}


def test_the_op_that_ends_the_process_is_named() -> None:
    graph = attention(512)
    with pytest.raises(KernelEndedError) as caught:
        compare_runtimes(graph, [peaked(512), alike(512)], threads=1)
    error = caught.value
    assert error.op == "SOFTMAX #1 -> 'weights'"
    assert error.message.startswith("SOFTMAX #1 -> 'weights' ends the process of the reference kernels on a sample: ")
    assert "SIGABRT" in error.message
    assert "--layer 'weights=w8a16'" in error.hint
    assert error.exit_code == 5


def test_samples_on_which_kernels_do_not_abort_are_compared() -> None:
    assert compare_runtimes(attention(512), [peaked(512)], threads=1).ok
    assert compare_runtimes(attention(511), [alike(511)], threads=1).ok


def test_where_no_op_does_so_alone_none_is_named() -> None:
    graph = attention(8)
    assert ending_op(graph, alike(8), "reference", litert_host()) is None
    lines = ("LiteRT", "run", ("its process ended with signal SIGSEGV",))
    error = KernelEndedError(graph, None, "xnnpack", EndedError(*lines))
    assert error.op == ""
    assert error.message == (
        "no single op, but all of them together, ends the process of the xnnpack kernels on a sample: "
        "its process ended with signal SIGSEGV"
    )
