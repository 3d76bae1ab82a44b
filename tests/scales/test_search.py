"""Searches where the best scales are known, on a real model, and that nothing worse is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.prepare.prepare import prepare
from edgeqwt.scales.ranges import MinMax, Mse, Percentile, Range
from edgeqwt.scales.scales import Problem, Scales
from edgeqwt.scales.search import Against, Method, search
from edgeqwt.scales.search_layers import EasyQuant, HessianGuided, cosine_distance, weighted_error
from edgeqwt.scales.search_outputs import Lapq
from edgeqwt.verify.comparator import Comparator
from edgeqwt.widths.precision import Precision
from tests import small
from tests.chain import NONE, Chain, samples
from tests.scales.problems import against, problem


def dense(weights: Array) -> Graph:
    """One dense layer."""
    chain = Chain()
    x = chain.input((1, weights.shape[1]), "x")
    return chain.graph(chain.op("FULLY_CONNECTED", x, chain.constant(weights), -1, name="y", keepNumDims=False, **NONE))


def test_cosine_distance() -> None:
    wanted = np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 4.0]])
    one = np.ones((1, 1))
    assert cosine_distance(wanted, 2 * wanted, one, None) == pytest.approx(0)
    assert cosine_distance(wanted, -wanted, one, None) == pytest.approx(2)
    found = np.array([[0.0, 0.0, 4.0], [1.0, 0.0, -3.0]])
    assert cosine_distance(wanted, found, one, 0) == pytest.approx([1, 0, 1])


def test_weighted_error() -> None:
    wanted, found = np.zeros((2, 2)), np.array([[1.0, 2.0], [3.0, 4.0]])
    importance = np.array([[1.0, 10.0], [0.0, 1.0]])
    assert weighted_error(wanted, found, importance, 0).tolist() == [1.0, 56.0]
    assert weighted_error(wanted, found, importance, None) == 57.0
    assert weighted_error(wanted, found, np.ones((1, 1)), None) == 30.0


@pytest.mark.parametrize("method", [EasyQuant(), HessianGuided()])
def test_weight_scales_of_ternary_weights(method: Method) -> None:
    # Inputs that do not correlate: the output's error is the weights' squared error, which for nine times 1 and
    # one 2 in integers -1, 0, 1 is least at the scale 1.1 (see test_weight_scales), a share of 0.55 of min-max.
    # The cosine is largest where all integers are 1, at any scale below 2: there the first share that gets them wins.
    graph = dense(np.array([[1.0] * 9 + [2.0]] * 2))
    found = method.propose(problem(graph, samples(graph, 64), MinMax(), Precision(2)))
    (scales,) = found[0].weights.values()
    step = 2 * 0.7 / 31  # of the candidates, from 0.5 to 1.2 times 2
    if isinstance(method, HessianGuided):
        # The sample covariance of 48 inputs is not quite the identity, so one candidate further is as good.
        assert scales == pytest.approx([1.1, 1.1], abs=2.5 * step)
    assert (np.rint(1 / scales) == 1).all()


def test_gradients_say_which_output_counts() -> None:
    # Output 0 is an input within +-0.1, output 1 one within +-10; both inputs share one scale.
    graph = dense(np.eye(2))
    rng = np.random.default_rng(0)
    inputs = [{graph.inputs[0]: rng.uniform(-1, 1, (1, 2)).astype(np.float32) * [[0.1, 10]]} for _ in range(200)]
    inputs = [{t: x.astype(np.float32) for t, x in sample.items()} for sample in inputs]
    plain = problem(graph, inputs, MinMax())

    def range_for(slopes: list[float]) -> Range:
        out = graph.outputs[0]
        guided = replace(plain, gradients=lambda sample: {out: np.array([slopes])})
        ranges = HessianGuided(samples=150).propose(guided)[1].ranges
        return ranges.get(graph.inputs[0], (-10.0, 10.0))

    assert range_for([1.0, 0.0])[1] < 6  # the narrowest share, 0.5, or nearly: fine steps are all that counts
    assert range_for([0.0, 1.0])[1] > 9.5  # clipping is what costs
    assert range_for([1.0, 1.0])[1] > 9.5


@dataclass(frozen=True)
class Proposed:
    """Scales that a test proposes."""

    scales: tuple[Scales, ...]

    def propose(self, problem: Problem) -> list[Scales]:
        """See Method."""
        return list(self.scales)


def test_only_what_helps_on_held_out_samples_is_kept() -> None:
    graph = small.graph()
    inputs = [*samples(graph, 32)]
    clipped = problem(graph, inputs, Percentile(70), Precision())
    whole = {group[0]: MinMax().choose(clipped.statistics[group[0]], 256) for group in clipped.free_groups()}
    coarse = {t: (100 * low, 100 * high) for t, (low, high) in whole.items()}
    kept = search(Proposed((Scales(coarse), Scales(whole))), clipped, against(inputs))
    assert kept.scales.ranges == whole
    assert kept.after > kept.before + 3
    assert kept.candidates == 2
    with Comparator(graph, inputs[1::4]) as comparator:
        assert kept.after == pytest.approx(-10 * np.log10(comparator.noise(clipped.lower(Scales(whole)))))
    refused = search(Proposed((Scales(coarse),)), clipped, against(inputs))
    assert refused.scales.ranges == {}
    assert refused.after == refused.before == kept.before


def test_nothing_proposed_is_nothing_found() -> None:
    inputs = [*samples(small.graph(), 4)]
    found = search(Proposed(()), problem(small.graph(), inputs, MinMax()), against(inputs))
    assert (found.scales.ranges, found.scales.weights, found.candidates) == ({}, {}, 0)


def test_ranges_that_an_op_demands_are_not_proposed() -> None:
    graph = small.graph()
    one = problem(graph, samples(graph, 16), Mse())
    classes = graph.outputs[0]
    for method in (EasyQuant(samples=4, candidates=4), HessianGuided(samples=4, candidates=4), Lapq(evaluations=12)):
        assert all(classes not in scales.ranges for scales in method.propose(one))


Real = tuple[Problem, Against, list[dict[int, Array]]]


@pytest.fixture(scope="module")
def real(mlperf_tiny: Path, cifar10: Mapping[str, npt.NDArray[Any]]) -> Real:
    """A real network with 4-bit weights, to be judged before its softmax; who judges; and test inputs."""
    graph = prepare(flatbuffer.read(mlperf_tiny / "image_classification_float32.tflite")).graph

    def inputs(name: str, count: int) -> list[dict[int, Array]]:
        return [{graph.inputs[0]: image[None].astype(np.float32)} for image in cifar10[name][:count]]

    (logits,) = (op.inputs[0] for op in graph.ops if op.kind == "SOFTMAX")
    seen = inputs("calibration_images", 64)
    one = problem(graph, seen, Mse(), Precision(4))
    return replace(one, outputs=(logits,)), against(seen), inputs("test_images", 96)


@pytest.mark.parametrize("method", [EasyQuant(), HessianGuided()])
def test_searched_weight_scales_pay_on_other_images(real: Real, method: Method) -> None:
    one, judged, test = real
    found = search(method, one, judged)
    assert found.after > found.before
    with Comparator(one.graph, test, one.outputs) as comparator:
        before, after = (comparator.noise(one.lower(scales)) for scales in (Scales(), found.scales))
    # Half of the gain that was measured is left as room.
    assert 10 * np.log10(before / after) > MEASURED[type(method)] / 2


MEASURED = {EasyQuant: 7.9, HessianGuided: 9.5}


def test_same_scales_again(real: Real) -> None:
    one, *_ = real
    once, twice = (HessianGuided(samples=8, candidates=8).propose(one)[0] for _ in range(2))
    assert once.ranges == twice.ranges
    assert once.weights.keys() == twice.weights.keys()
    assert all((once.weights[t] == twice.weights[t]).all() for t in once.weights)
    assert {slots(op).weight for op in one.graph.ops if op.kind == "CONV_2D"} <= once.weights.keys()
