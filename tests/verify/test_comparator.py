"""The noise of an integer graph against numpy's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.errors import InputError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import feed_as, to_real
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.ranges import MinMax
from edgeqwt.scales.scales import Scales
from edgeqwt.verify.comparator import Comparator
from edgeqwt.verify.parts import Part
from tests import small
from tests.chain import samples
from tests.runtime.test_foreign import added
from tests.scales.problems import problem


def varying(real: Array) -> float:
    """Squares of what distinguishes samples; shape (samples, ...)."""
    return float(real.var(axis=0, ddof=1).sum() * len(real))


def test_noise_is_the_error_relative_to_what_varies_before_the_softmax_too() -> None:
    graph = small.graph()
    inputs: list[Mapping[int, Array]] = [*samples(graph, 9)]
    integer = problem(graph, inputs, MinMax()).lower(Scales())
    names = [op.outputs[0] for op in graph.ops]
    logits, classes = names[-2], names[-1]
    counterparts = {integer.tensors[t].name: t for op in integer.ops for t in op.outputs}
    for wanted in (logits, classes):
        counterpart = counterparts[graph.tensors[wanted].name]
        reference, found = xnnpack(graph, [wanted]), xnnpack(integer, [counterpart])
        real = np.stack([reference.run(x)[wanted] for x in inputs]).astype(np.float64)
        got = np.stack(
            [to_real(integer, counterpart, found.run(feed_as(integer, graph, x))[counterpart]) for x in inputs]
        )
        with Comparator(graph, iter(inputs), (wanted,)) as comparator:
            assert comparator.count == 9
            assert comparator.noise(integer) == pytest.approx(np.square(got - real).sum() / varying(real))
    with Comparator(graph, inputs) as outputs, Comparator(graph, inputs, (classes,)) as same:
        assert outputs.noise(integer) == same.noise(integer)


def test_a_graph_that_is_still_in_use_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small.graph()
    inputs: list[Mapping[int, Array]] = [*samples(graph, 5)]
    integer = problem(graph, inputs, MinMax()).lower(Scales())
    with Comparator(graph, inputs, centered=True) as comparator:
        centered, whole = comparator.noise(integer), comparator.uncentered().noise(integer)
        assert 0 < centered < whole
        runs: list[Graph] = []
        monkeypatch.setattr("edgeqwt.verify.comparator.xnnpack", lambda g, taps: runs.append(g) or xnnpack(g, taps))
        assert (comparator.noise(integer), comparator.uncentered().noise(integer)) == (centered, whole)
        assert runs == []
        assert comparator.noise(replace(integer)) == centered
        assert runs != []


def test_the_float_graph_itself_has_no_noise() -> None:
    graph = small.graph()
    with Comparator(graph, samples(graph, 3)) as comparator:
        assert comparator.noise(graph) == 0


def test_what_is_constant_of_the_errors_may_be_left_out() -> None:
    graph = small.graph()
    inputs: list[Mapping[int, Array]] = [*samples(graph, 9)]
    integer = problem(graph, inputs, MinMax()).lower(Scales())
    logits = graph.ops[-2].outputs[0]
    (counterpart,) = (
        t for op in integer.ops for t in op.outputs if integer.tensors[t].name == graph.tensors[logits].name
    )
    reference, found = xnnpack(graph, [logits]), xnnpack(integer, [counterpart])
    real = np.stack([reference.run(x)[logits] for x in inputs]).astype(np.float64)
    got = np.stack([to_real(integer, counterpart, found.run(feed_as(integer, graph, x))[counterpart]) for x in inputs])
    with Comparator(graph, inputs, (logits,), centered=True) as comparator:
        variance = (got - real).var(axis=0, ddof=1).sum() * len(inputs)
        assert comparator.noise(integer) == pytest.approx(variance / varying(real))
    same = [inputs[0]] * 5  # all is constant: what is left out would be rounding by chance
    with Comparator(graph, same, (logits,), centered=True) as alike, Comparator(graph, same, (logits,)) as plain:
        assert alike.noise(integer) == plain.noise(integer) > 0
    with (
        Comparator(graph, inputs[:1], (logits,), centered=True) as one,
        Comparator(graph, inputs[:1], (logits,)) as plain,
    ):
        assert one.noise(integer) == plain.noise(integer) > 0


def test_no_samples() -> None:
    graph = replace(small.graph())
    with pytest.raises(InputError, match="no samples"):
        Comparator(graph, [])


def test_parts_count_as_outputs_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small.graph()
    inputs: list[Mapping[int, Array]] = [*samples(graph, 9)]
    integer = problem(graph, inputs, MinMax()).lower(Scales())
    (classes,) = graph.outputs
    parts = (Part("first", 1, 0, 1), Part("others", 1, 1, 4))
    monkeypatch.setattr("edgeqwt.verify.comparator.parts_of", lambda graph, tensor: parts if tensor == classes else ())
    reference, found = xnnpack(graph), xnnpack(integer)
    real = np.stack([reference.run(x)[classes] for x in inputs]).astype(np.float64)
    (output,) = integer.outputs
    got = np.stack([to_real(integer, output, found.run(feed_as(integer, graph, x))[output]) for x in inputs])
    with Comparator(graph, inputs) as comparator:
        ratios = [np.square((got - real)[..., s]).sum() / varying(real[..., s]) for s in (slice(0, 1), slice(1, 4))]
        assert comparator.noise(integer) == pytest.approx(sum(ratios))


def test_a_candidate_whose_kernel_ends_its_process_errs_without_bound() -> None:
    """Nobody keeps it, and the process that compares goes on."""
    good, bad = added(1.0), added(2.0**24)
    tensors = tuple(replace(t, dtype="float32", quantization=None) for t in good.tensors)
    with Comparator(replace(good, tensors=tensors), [{0: np.array([1.0, 2.0 + k], np.float32)} for k in range(3)]) as c:
        assert c.noise(bad) == math.inf
        assert c.noise(good) < 0.1
