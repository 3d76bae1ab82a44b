"""Ranges of tensors of which few values are known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.calibration.statistics import Statistics
from edgeqwt.graph.graph import Array
from edgeqwt.scales.activation_roles import at_layers
from edgeqwt.scales.activations import assign
from edgeqwt.scales.before_curves import BeforeCurves
from edgeqwt.scales.ranges import Mse, marginless, saturated
from edgeqwt.scales.tails import with_tails
from tests.chain import NONE, Chain, noise

SHORT = Mse()


def observed(samples: Array) -> Statistics:
    found = Statistics()
    for number, values in enumerate(samples.astype(np.float32)):
        found.add(values, sample=number)
    return found


def error(values: Array, low: float, high: float) -> float:
    """Mean squared error of 256 integers that span a range: clipping, and rounding inside."""
    beyond = np.maximum(values - high, 0) + np.maximum(low - values, 0)
    return float(np.square(beyond).mean() + (beyond == 0).mean() * ((high - low) / 255) ** 2 / 12)


@pytest.mark.parametrize("draw", ["normal", "laplace"])
def test_few_values_do_not_show_how_far_values_reach(draw: str) -> None:
    rng = np.random.default_rng(0)
    fresh = getattr(rng, draw)(size=(1000, 10))
    gains = []
    for _ in range(8):
        seen = observed(getattr(rng, draw)(size=(24, 10)))
        gains.append(error(fresh, *SHORT.choose(seen, 256)) / error(fresh, *Mse(tails=True).choose(seen, 256)))
    assert np.exp(np.log(gains).mean()) > 1.5  # 2 dB
    assert min(gains) > 0.5  # 3 dB of rounding is the price where a draw happens to hold its extremes


def test_of_many_values_the_observed_ones_tell_enough() -> None:
    seen = observed(np.random.default_rng(0).normal(size=(32, 4096)))
    assert Mse().choose(seen, 256) == SHORT.choose(seen, 256)


def test_values_that_end_at_a_limit_have_no_tail() -> None:
    limited = observed(np.clip(np.random.default_rng(0).normal(size=(24, 10)), -0.5, 0.5))
    assert with_tails(limited, -0.5, 0.5, 256) == (-0.5, 0.5)
    of_one_sign = observed(np.abs(np.random.default_rng(0).normal(size=(24, 10))))
    assert with_tails(of_one_sign, 0.0, 3.0, 256)[0] == 0


def test_a_tail_is_that_of_all_values_on_its_side() -> None:
    """Of values around -4 few are positive: what lies beyond them follows from the others, too."""
    values = np.random.default_rng(0).normal(-4.0, 2.0, size=(36, 2))
    values[0, 0] = 0.1
    assert (values > 0).sum() < 3
    low, high = with_tails(observed(values), float(values.min()), 0.1, 256)
    assert low < values.min()
    # Of a thousand fresh ones the largest are above 2; an exponential tail goes on further than a normal one.
    assert 2.0 < high < 10.0


def test_large_values_that_every_sample_has_are_no_tail() -> None:
    """Outputs that hardly vary, each about a value of its own: the largest is that of one channel, and known."""
    rng = np.random.default_rng(0)
    of_channels = np.linspace(-1.0, 1.0, 10)
    seen = observed(of_channels + 0.01 * rng.normal(size=(16, 10)))
    low, high = with_tails(seen, -1.02, 1.02, 256)
    assert -1.15 < low < -1.02
    assert 1.02 < high < 1.15
    other = observed(rng.permuted(np.tile(of_channels, (16, 1)), axis=0) * rng.exponential(size=(16, 1)))
    assert with_tails(other, other.low, other.high, 256)[1] > 1.5 * other.high


def test_one_sample_says_nothing_of_others() -> None:
    values = np.random.default_rng(0).normal(size=(2, 64))
    assert with_tails(observed(values[:1]), -2.0, 2.0, 256) == (-2.0, 2.0)
    assert with_tails(observed(values), -2.0, 2.0, 256) != (-2.0, 2.0)


def test_a_handful_of_values_says_nothing_of_a_tail() -> None:
    assert with_tails(observed(np.array([[1.0, 2.0, 3.0, 9.0]])), 0.0, 9.0, 256) == (0.0, 9.0)
    assert with_tails(Statistics(), 0.0, 0.0, 256) == (0.0, 0.0)


def test_constants_have_no_tail() -> None:
    known = Statistics()
    known.add(np.random.default_rng(0).normal(size=(24, 10)).astype(np.float32))
    assert with_tails(known, -2.0, 2.0, 256) == (-2.0, 2.0)


def test_weights_of_values_do_not_make_more_or_fewer_of_them() -> None:
    seen = observed(np.random.default_rng(0).normal(size=(24, 10)))
    assert seen.counts is not None
    heavier = seen.weighed(seen.reach, seen.counts * 1000.0)
    assert with_tails(heavier, -2.0, 2.0, 256) == with_tails(seen, -2.0, 2.0, 256) != (-2.0, 2.0)


def test_what_saturates_or_has_more_integers_gets_none() -> None:
    assert not saturated(Mse(tails=True)).tails  # type: ignore[attr-defined]
    assert not marginless(Mse(tails=True)).tails  # type: ignore[attr-defined]


def test_only_what_layers_and_callers_see_reaches_further() -> None:
    chain = Chain()
    x = chain.input((1, 6), name="x")
    squares = chain.op("MUL", x, x, name="squares", shape=(1, 6), **NONE)
    inner = chain.op("MUL", squares, x, name="inner", shape=(1, 6), **NONE)
    layer = chain.op("FULLY_CONNECTED", inner, chain.constant(noise(4, 6)), -1, shape=(1, 4), keepNumDims=False, **NONE)
    graph = chain.graph(layer)
    assert at_layers(graph) == {x, inner, layer}
    statistics, _ = observe(graph, [{x: noise(1, 6, seed=seed)} for seed in range(24)])
    ends = [assign(graph, statistics, Mse(tails=tails)).quantization for tails in (False, True)]
    assert ends[0][squares].same_as(ends[1][squares])
    assert not ends[0][layer].same_as(ends[1][layer])


def test_what_curves_and_constants_make_of_a_layer_reaches_as_far_as_it() -> None:
    """A clipped action of an actor that ends in `tanh(x) * scale` cost 8 dB of 31 on fresh samples."""
    chain = Chain()
    x = chain.input((1, 6), name="x")
    layer = chain.op("FULLY_CONNECTED", x, chain.constant(noise(4, 6)), -1, shape=(1, 4), keepNumDims=False, **NONE)
    curve = chain.op("TANH", layer, shape=(1, 4))
    scaled = chain.op("MUL", curve, chain.constant(noise(4)), shape=(1, 4), **NONE)
    behind = chain.op("ABS", scaled, shape=(1, 4))
    assert at_layers(chain.graph(chain.op("NEG", behind, shape=(1, 4)))) >= {x, layer, curve, scaled}
    assert behind not in at_layers(chain.graph(chain.op("NEG", behind, shape=(1, 4))))


def test_what_outputs_are_made_of_and_angles_reach_further() -> None:
    """A sum over a graph's nodes ended where calibration did, before a constant made the output of it: 22 dB of 36."""
    chain = Chain()
    x = chain.input((1, 4, 1), name="x")
    turn = chain.op("ABS", x, shape=(1, 4, 1))
    rows = chain.op("SIN", turn, shape=(1, 4, 1))
    total = chain.op("MEAN", rows, chain.constant(np.array([1], np.int32)), shape=(1, 1), keepDims=False)
    row = chain.op("RESHAPE", total, chain.constant(np.array([1], np.int32)), shape=(1,))
    graph = chain.graph(chain.op("MUL", row, row, shape=(1,), **NONE))
    assert at_layers(graph) >= {turn, total, row}
    assert rows not in at_layers(graph)


@pytest.mark.parametrize("kind", ["TANH", "LOGISTIC"])
@pytest.mark.parametrize(("size", "reaches"), [(0.1, True), (8.0, False)])
def test_what_a_curve_reads_reaches_further_where_it_is_steep(kind: str, size: float, reaches: bool) -> None:
    """It was clipped where values ended, as if curves hid that: 12 dB were left of a probability, 25 without."""
    seen = observed(size * np.random.default_rng(0).normal(size=(24, 10)))
    far, near = Mse(tails=1.0), saturated(Mse(tails=1.0))
    assert far.choose(seen, 256) != near.choose(seen, 256)
    wanted = far if reaches else near
    assert BeforeCurves(far, frozenset({kind})).choose(seen, 256) == wanted.choose(seen, 256)


def test_softmax_hides_what_is_cut_off_whatever_else_reads_it() -> None:
    seen = observed(np.random.default_rng(0).normal(size=(24, 10)))
    far, near = Mse(tails=1.0), saturated(Mse(tails=1.0))
    for kinds in ({"SOFTMAX"}, {"SOFTMAX", "TANH"}, set[str]()):
        assert BeforeCurves(far, kinds).choose(seen, 256) == near.choose(seen, 256)
