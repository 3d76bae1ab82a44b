from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.lowering.lower import lower
from edgeqwt.runtime.boundary import graph_feed
from edgeqwt.runtime.overwritten import protected
from edgeqwt.runtime.runners import Values, reference, xnnpack
from edgeqwt.runtime.subprocess_runners import Hosted
from edgeqwt.scales.ranges import MinMax
from edgeqwt.verify.bitexact import BitExactness, Difference, OpByOp, compare_runtimes
from edgeqwt.widths.precision import Precision
from tests.chain import samples
from tests.runtime.test_overwritten import shortcut

Images = Mapping[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def resnet(mlperf_tiny: Path) -> Graph:
    """MLPerf Tiny's int8 image classification: 16 ops, FULLY_CONNECTED is the 14th."""
    return flatbuffer.read(mlperf_tiny / "image_classification_int8.tflite")


def _inputs(graph: Graph, images: npt.NDArray[Any], count: int) -> list[dict[int, Array]]:
    return [{graph.inputs[0]: image[None].astype(np.float32)} for image in images[:count]]


def test_a_real_model_is_exact_but_for_fully_connected(resnet: Graph, cifar10: Images) -> None:
    calls: list[None] = []
    inputs = _inputs(resnet, cifar10["calibration_images"], 30)
    found = compare_runtimes(resnet, inputs, threads=2, on_sample=lambda: calls.append(None))
    assert found.ok
    assert found.samples == len(calls) == 30
    assert found.ops == len(resnet.ops)
    assert found.elements == 30 * sum(resnet.tensors[t].size for op in resnet.ops for t in op.outputs)
    assert found.unavailable is None
    assert found.lacking == ()
    # On these 30 images FULLY_CONNECTED does differ, and SOFTMAX after it is exact all the same.
    (difference,) = found.differences
    assert (difference.op, difference.kind, difference.largest) == (14, "FULLY_CONNECTED", 1.0)
    assert difference.elements == 300
    assert 0 < difference.differing < 30


def test_xnnpack_differences_are_those_of_free_runs(resnet: Graph, cifar10: Images) -> None:
    inputs = _inputs(resnet, cifar10["calibration_images"], 5)
    found = compare_runtimes(resnet, inputs)
    taps = [op.outputs[0] for op in resnet.ops]
    one, other = reference(resnet, taps), xnnpack(resnet, taps)
    largest = np.zeros(len(taps))
    for sample in inputs:
        fed = graph_feed(resnet, sample)
        a, b = one.run(fed), other.run(fed)
        steps = [np.abs(a[t].astype(int) - b[t].astype(int)).max() for t in taps]
        largest = np.maximum(largest, steps)
    assert [d.largest for d in found.xnnpack] == list(largest)
    assert largest.max() > 0
    assert [d.tensor for d in found.xnnpack_outputs] == [resnet.tensors[resnet.outputs[0]].name]
    assert found.xnnpack_outputs[0].largest == largest[-1]


def test_values_that_litert_overwrites_are_found_although_every_op_is_right() -> None:
    graph = shortcut()
    integer = lower(graph, observe(graph, samples(graph))[0], MinMax(), Precision(activation_bits=16))
    (lost,) = integer.outputs
    found = compare_runtimes(integer, (graph_feed(integer, s) for s in samples(graph)))
    assert found.differences == ()
    assert found.overwritten == (integer.tensors[lost].name,)
    assert not found.ok
    safe = compare_runtimes(protected(integer), (graph_feed(integer, s) for s in samples(graph)))
    assert safe.overwritten == ()
    assert safe.ok


def test_reference_kernels_run_once_where_their_plan_loses_nothing(
    resnet: Graph, cifar10: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[tuple[str, bool]] = []
    run = Hosted.run

    def counted(self: Hosted, inputs: Mapping[int, Array]) -> Values:
        kind, _, taps = self.arguments
        kinds.append((kind, len(taps) > 0))
        return run(self, inputs)

    monkeypatch.setattr(Hosted, "run", counted)
    compare_runtimes(resnet, _inputs(resnet, cifar10["calibration_images"], 2), threads=1)
    assert kinds.count(("reference", True)) == kinds.count(("xnnpack", True)) == kinds.count(("xnnpack", False)) == 2
    assert ("reference", False) not in kinds


def test_the_result_does_not_depend_on_threads(resnet: Graph, cifar10: Images) -> None:
    inputs = _inputs(resnet, cifar10["calibration_images"], 5)
    assert compare_runtimes(resnet, inputs, threads=1) == compare_runtimes(resnet, inputs, threads=3)


def test_only_the_differing_op_is_named(resnet: Graph, cifar10: Images) -> None:
    """TFLite Micro runs the model; the bytes that it is held against come from one whose ops 4 and 9 differ."""
    changed = resnet
    for op in (4, 9):
        t = resnet.ops[op].inputs[2]
        bias = resnet.tensors[t].data
        assert bias is not None
        changed = changed.with_tensors({t: replace(resnet.tensors[t], data=bias + 2000)})
    activations = [t for op in resnet.ops for t in op.outputs]
    runner, micro = reference(changed, activations), OpByOp(resnet)
    for sample in _inputs(resnet, cifar10["calibration_images"], 3):
        fed = graph_feed(resnet, sample)
        micro.check({**fed, **runner.run(fed)})
    differing = [d for d in micro.tally.seen if d.differing and d.kind != "FULLY_CONNECTED"]
    assert [d.op for d in differing] == [4, 9]
    assert all(d.elements == 3 * resnet.tensors[resnet.ops[d.op].outputs[0]].size for d in micro.tally.seen)
    assert min(d.largest for d in differing) >= 1


def test_what_reads_inputs_alone_runs_before_the_reference_kernels_are_done(
    resnet: Graph, cifar10: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    micro = OpByOp(resnet)
    (sample,) = _inputs(resnet, cifar10["calibration_images"], 1)
    fed = graph_feed(resnet, sample)
    ahead = micro.ahead(fed)
    assert ahead is not None
    expected = {**fed, **reference(resnet, [t for op in resnet.ops for t in op.outputs]).run(fed)}
    monkeypatch.setattr("edgeqwt.verify.bitexact._Piece.run", lambda *given: pytest.fail("it runs again"))
    micro.check(expected, ahead)
    monkeypatch.undo()
    again = OpByOp(resnet)
    again.check(expected)
    assert micro.tally.seen == again.tally.seen
    assert OpByOp(resnet).ahead({}) is None


def _activations(*kinds: str) -> Graph:
    """A chain of int8 ops of one input on (1, 8)."""
    q = {"LOGISTIC": Quantization.per_tensor(1 / 256, -128), "TANH": Quantization.per_tensor(1 / 128, 0)}
    plain = Quantization.per_tensor(0.05, 0)
    tensors = [Tensor("x", (1, 8), "int8", None, plain)]
    tensors += [Tensor(f"y{i}", (1, 8), "int8", None, q.get(kind, plain)) for i, kind in enumerate(kinds)]
    ops = [
        Op(kind, (i,), (i + 1,), {"approximate": False} if kind == "GELU" else {}, version=1 if kind == "NEG" else 2)
        for i, kind in enumerate(kinds)
    ]
    return Graph(tuple(tensors), tuple(ops), (0,), (len(kinds),))


def test_an_op_that_tflite_micro_lacks_is_named_and_the_others_are_checked() -> None:
    graph = _activations("LOGISTIC", "GELU", "TANH", "LOGISTIC")
    inputs = [{0: np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)} for _ in range(3)]
    found = compare_runtimes(graph, inputs)
    assert found.unavailable is not None
    assert "GELU" in found.unavailable
    assert [(lack.op, lack.kind, lack.tensor) for lack in found.lacking] == [(1, "GELU", "y1")]
    assert "GELU" in found.lacking[0].reason
    assert found.ops == 3
    assert found.elements == 3 * 3 * 8
    assert found.ok


def test_an_op_that_tflite_micro_refuses_only_when_it_runs_it_is_named_and_the_others_are_checked() -> None:
    """Its NEG loads with int16 tensors, and has no int16 kernel."""
    q = Quantization.per_tensor(2.0**-15, 0)
    tensors = tuple(Tensor(f"y{i}", (1, 8), "int16", None, q) for i in range(6))
    kinds = ("LOGISTIC", "NEG", "LOGISTIC", "NEG", "LOGISTIC")
    graph = Graph(tensors, tuple(Op(kind, (i,), (i + 1,)) for i, kind in enumerate(kinds)), (0,), (5,))
    inputs = [{0: np.random.default_rng(i).integers(-30000, 30000, (1, 8), np.int16)} for i in range(3)]
    found = compare_runtimes(graph, inputs)
    assert [(lack.op, lack.kind, lack.tensor) for lack in found.lacking] == [(1, "NEG", "y2"), (3, "NEG", "y4")]
    assert "INT16" in found.lacking[0].reason
    assert found.unavailable == f"NEG #1 'y2': {found.lacking[0].reason}"
    assert found.ok
    assert (found.ops, found.elements) == (3, 3 * 3 * 8)


def test_a_model_with_state_is_not_checked_op_by_op() -> None:
    graph = _activations("LOGISTIC")
    graph = replace(graph, tensors=(*graph.tensors, Tensor("state", (1,), "int8", is_variable=True)))
    found = compare_runtimes(graph, [{0: np.zeros((1, 8), np.int8)}])
    assert found.unavailable is not None
    assert "state" in found.unavailable
    assert found.ops == 0


@pytest.mark.parametrize(
    ("kind", "largest", "bits", "ok"),
    [
        ("FULLY_CONNECTED", 1, 8, True),
        ("FULLY_CONNECTED", 2, 8, False),
        ("CONV_2D", 1, 8, False),
        ("FULLY_CONNECTED", 1, 16, True),
        ("MUL", 1, 16, True),
        ("MUL", 1, 8, True),
        ("MUL", 2, 8, False),
        ("ADD", 1, 8, False),
        ("CONV_2D", 1, 16, False),
    ],
)
def test_what_may_differ(kind: str, largest: float, bits: int, ok: bool) -> None:
    difference = Difference(0, kind, "y", 10, 1, largest, bits)
    assert BitExactness(1, 1, 10, (difference,), (), None, (), ()).ok is ok


def test_no_samples() -> None:
    with pytest.raises(InputError, match="no samples"):
        compare_runtimes(_activations("LOGISTIC"), [])
