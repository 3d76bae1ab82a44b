"""The model's derivatives, and its word against what lowering does."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="gradients need torch")

from edgeqwt.calibration.observe import observe
from edgeqwt.equalize.channels import channels
from edgeqwt.equalize.copy_sensitivity import sensitivities
from edgeqwt.equalize.factors import Channels
from edgeqwt.equalize.multiply import multiplied
from edgeqwt.equalize.noise import Noise, Operand, Rows, Stored, noise, observe_elements
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.prepare.prepare import prepare
from edgeqwt.scales.activations import assign
from edgeqwt.scales.ranges import MinMax
from edgeqwt.widths.plan import planned
from edgeqwt.widths.precision import Precision
from edgeqwt.widths.regions import regions, widened
from tests.chain import Chain, samples
from tests.chain import noise as drawn
from tests.equalize.same import drawn as factors_of
from tests.equalize.same import squared_error
from tests.prepare import toy


def model(graph: Graph, precision: Precision, data: list[dict[int, Array]]) -> tuple[Noise, Channels]:
    """The model of a graph on some samples."""
    found = channels(graph)
    seen = observe_elements(graph, data)
    by_factor = {t: seen[t].by_factor(numbers, found.count) for t, numbers in found.of.items()}
    plan = planned(graph, precision)
    found_sensitivities = sensitivities(graph, data * 2, graph.outputs, plan)  # twice as many random signs
    assignment = assign(graph, observe(graph, data)[0], MinMax(), plan)
    return noise(graph, found, by_factor, found_sensitivities, assignment, precision), found


@pytest.mark.parametrize("weights", [8, 4])
@pytest.mark.parametrize("wide", [False, True])
def test_derivatives_are_those_of_the_error(weights: int, wide: bool) -> None:
    graph = prepare(toy.language()).graph
    precision = Precision(weights)
    precision = widened(graph, precision, regions(graph)) if wide else precision
    found, numbers = model(graph, precision, samples(graph, 4))
    assert {type(term) for term in found.terms} == {Stored, Operand, Rows}
    rng = np.random.default_rng(0)
    logs, way = (rng.normal(0, scale, numbers.count) for scale in (0.5, 1.0))
    step = 1e-6
    ends = [found.at(np.exp(logs + sign * step * way))[0] for sign in (1, -1)]
    error, gradient = found.at(np.exp(logs))
    # Central differences err by step^2; largest weights are compared in float32, 2^-24 of them.
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(gradient @ way, rel=1e-2, abs=0.1 * error)


def test_the_error_is_convex_in_the_logarithms() -> None:
    graph = prepare(toy.vision()).graph
    found, numbers = model(graph, Precision(), samples(graph, 4))
    rng = np.random.default_rng(1)
    for _ in range(20):
        first, second = rng.normal(0, 1, (2, numbers.count))
        middle = found.at(np.exp((first + second) / 2))[0]
        assert middle <= (found.at(np.exp(first))[0] + found.at(np.exp(second))[0]) / 2


@pytest.mark.parametrize("seed", range(2))
def test_multiplying_a_graph_changes_its_error_as_the_model_says(seed: int) -> None:
    graph = prepare(toy.language()).graph
    data = samples(graph, 8)
    found, numbers = model(graph, Precision(), data)
    factors = factors_of(numbers, seed, 1.0)
    ratio = found.at(factors)[0] / found.at(np.ones(numbers.count))[0]
    assert ratio > 2
    before, after = (squared_error(g, Precision(), data) for g in (graph, multiplied(graph, numbers, factors)))
    measured = after / before
    assert 0.5 < measured / ratio < 2  # rounding at some hundred places; it is not independent everywhere


def test_a_rounded_gamma_costs_what_its_output_feels_times_what_it_meets() -> None:
    chain = Chain()
    x = chain.input((1, 3, 4))
    gamma = np.array([1.0, 2.0, -3.0, 0.5], np.float32)
    y = chain.op("MUL", x, chain.constant(gamma), fusedActivationFunction="NONE")
    graph = chain.graph(toy.dense(chain, y, 2, 1))
    data = samples(graph, 8)
    found, numbers = model(graph, Precision(), data)
    (term,) = [term for term in found.terms if isinstance(term, Operand)]
    weights = graph.tensors[graph.ops[1].inputs[1]].data
    assert weights is not None
    values = np.stack([sample[x] for sample in data]).astype(np.float64)
    # The sensitivity of y's channel j is the sum of its squared weights, at each of three positions.
    found_sensitivities = 3 * np.square(weights.astype(np.float64)).sum(axis=0) * np.square(values).mean()
    step = (gamma.max() - gamma.min()) / 255
    cost = term.at(np.ones(numbers.count), np.zeros(numbers.count))
    # Random signs estimate the sum of squares: 2 outputs x 3 positions x 8 samples x 4 draws.
    assert cost == pytest.approx(step**2 / 12 * found_sensitivities.sum(), rel=0.2)
    # Made even, one step is as good for all: the model sees the largest only.
    assert term.at(drawn(numbers.count) * 0 + 2, np.zeros(numbers.count)) == pytest.approx(cost)
