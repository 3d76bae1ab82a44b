"""A kernel that ends its process is found and named; the process that asked for the run goes on."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.runtime.child import EndedError, in_child
from edgeqwt.runtime.ended import KernelEndedError, ending_op
from edgeqwt.runtime.runners import TriedLiteRT, reference, xnnpack
from edgeqwt.runtime.subprocess_runners import Hosted, litert_host
from edgeqwt.verify.bitexact import compare_runtimes
from tests.runtime.test_foreign import added


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


class TestTrials:
    """What kernels end is another process first; this one goes on with an error that names the op."""

    def test_a_graph_whose_kernel_aborts(self) -> None:
        runner = reference(attention(512))
        with pytest.raises(KernelEndedError, match=r"SOFTMAX #1 -> 'weights' ends .* on a sample: .*SIGABRT"):
            runner.run(alike(512))
        # Nothing is known to be safe since: another sample is tried anew, and runs here then.
        assert reference(attention(512)).run(peaked(512))[3].shape == (1, 1, 512)

    def test_a_kernel_that_aborts_on_a_later_sample(self) -> None:
        graph, short = attention(512), attention(511)
        runner, other = reference(graph), reference(short)
        assert isinstance(runner, TriedLiteRT)
        assert isinstance(other, TriedLiteRT)
        first = runner.run(peaked(512))[3]
        assert first[0, 0, 3] > first[0, 0, 4]
        with pytest.raises(KernelEndedError, match=r"SOFTMAX #1 -> 'weights' ends .* on a sample"):
            runner.run(alike(512))
        assert np.array_equal(runner.run(peaked(512))[3], first)
        assert runner.trial.there is not None
        other.run(alike(511))
        assert other.trial.there is None, "short rows run here, after the first one"

    def test_loading_is_tried_as_well(self) -> None:
        with pytest.raises(KernelEndedError, match=r"ADD #1 -> 'sum' ends the .* when it is loaded: .*SIGABRT"):
            xnnpack(added(2.0**24))

    def test_workers_for_one_graph_share_one_trial(self, monkeypatch: pytest.MonkeyPatch) -> None:
        graph, runs = attention(10), []
        monkeypatch.setattr(Hosted, "run", lambda self, inputs: runs.append(self))
        workers = [xnnpack(graph), xnnpack(graph)]
        outputs = [worker.run(peaked(10))[3] for worker in (*workers, *workers, xnnpack(graph))]
        assert len(runs) == 1
        assert all(np.array_equal(outputs[0], other) for other in outputs)

    def test_within_a_process_of_ours_there_is_none(self) -> None:
        assert in_child(_kind_of_runner) == "LiteRT"


def _kind_of_runner() -> str:
    return type(xnnpack(attention(4))).__name__
