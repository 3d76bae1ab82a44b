"""Activations that kernels round at run time: what is written, what it computes, and what techniques make of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeqwt
from edgeqwt.calibration.observe import observe
from edgeqwt.compensation.cwac import compensate
from edgeqwt.compensation.fold import fold, headroom
from edgeqwt.compensation.solve import Correction, Options
from edgeqwt.errors import RecipeError, TargetError, UnsupportedError
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import is_hybrid, slots
from edgeqwt.lowering.lower import lower
from edgeqwt.recipe.layers import resolved, settings
from edgeqwt.report.document import document
from edgeqwt.rounding.methods import Gptq
from edgeqwt.rounding.reround import reround
from edgeqwt.runtime.runners import RUNNERS, reference, xnnpack
from edgeqwt.scales.ranges import MinMax
from edgeqwt.target.check import check, require
from edgeqwt.target.load import load
from edgeqwt.widths.precision import Precision, parse
from tests import small
from tests.chain import CONV, NONE, Chain, noise, samples
from tests.reports import problems

ROWS, INPUTS, OUTPUTS = 5, 24, 8
LITERT = {name: RUNNERS[name] for name in ("reference", "xnnpack")}


def dense() -> Graph:
    """Two dense layers on rows, with ReLU between, the second one without a bias."""
    chain = Chain()
    x = chain.input((1, ROWS, INPUTS))
    first = chain.op("FULLY_CONNECTED", x, chain.constant(noise(16, INPUTS)), chain.constant(noise(16, seed=1)),
                     **NONE, keepNumDims=True)  # fmt: skip
    second = chain.op("FULLY_CONNECTED", chain.op("RELU", first), chain.constant(noise(OUTPUTS, 16, seed=2)),
                      **NONE, keepNumDims=True)  # fmt: skip
    return chain.graph(second)


def made(graph: Graph, name: str = "w8-dynamic", feeds: list[dict[int, Array]] | None = None) -> Graph:
    feeds = samples(graph) if feeds is None else feeds
    return lower(graph, observe(graph, feeds)[0], MinMax(), parse(name))


def ran(graph: Graph, feed: dict[int, Array], runner: str = "xnnpack") -> Array:
    return RUNNERS[runner](graph).run(feed)[graph.outputs[0]]


def error(graph: Graph, float_graph: Graph, feeds: list[dict[int, Array]]) -> float:
    return float(sum(np.square(ran(graph, f) - ran(float_graph, f)).sum(dtype=np.float64) for f in feeds))


def test_a_model_that_would_stay_float_is_refused() -> None:
    chain = Chain()
    graph = chain.graph(chain.op("TANH", chain.input((1, ROWS, INPUTS))))
    with pytest.raises(UnsupportedError, match="none of its ops has a kernel that rounds activations at run time"):
        made(graph)


@pytest.mark.parametrize("runner", LITERT)
def test_each_row_is_rounded_by_its_own_range(runner: str) -> None:
    """A step of a row is its range, zero included, over 255; an output errs by at most a step times its weights.

    Half of it is rounding, the other half that asymmetric kernels move zero to an integer.
    """
    graph = dense()
    found = made(graph)
    first = found.ops[0]
    assert is_hybrid(found, first)
    feed = dict(samples(graph)[0])
    feed[graph.inputs[0]][0, 1] *= 1000  # what a range of the whole tensor would have to hold
    looked = LITERT[runner](found, [first.outputs[0]]).run(feed)[first.outputs[0]]
    weights = found.tensors[slots(first).weight].real
    bias = found.tensors[slots(first).bias].data
    assert bias is not None
    x = feed[graph.inputs[0]].astype(np.float64)
    exact = x @ weights.T + bias
    step = (np.maximum(x.max(-1), 0) - np.minimum(x.min(-1), 0)) / 255
    allowed = step[..., None] * np.abs(weights).sum(1) + 1e-5 * np.abs(exact)
    assert (np.abs(looked - exact) <= allowed).all()
    assert (np.abs(looked - exact).max(-1) > 1e-4 * step).all()  # it does round


def test_what_is_written() -> None:
    chain = Chain()
    x = chain.input((1, 8, 8, 4))
    y = chain.op("CONV_2D", x, chain.constant(noise(6, 3, 3, 4)), chain.constant(noise(6)), **CONV)
    y = chain.op("DEPTHWISE_CONV_2D", y, chain.constant(noise(1, 3, 3, 6)), chain.constant(noise(6)), depthMultiplier=1,
                 **CONV)  # fmt: skip
    found = made(chain.graph(y))
    (convolution, depthwise) = found.ops
    weights = found.tensors[slots(convolution).weight]
    assert (weights.dtype, found.tensors[slots(convolution).bias].dtype) == ("int8", "float32")
    assert weights.quantization is not None
    assert len(weights.quantization.scale) == 6
    assert not is_hybrid(found, depthwise)
    assert {found.tensors[t].dtype for t in (*found.inputs, *found.outputs)} == {"float32"}
    feed = samples(chain.graph(y))[0]
    for runner in LITERT:
        wanted = ran(chain.graph(y), feed)
        # Two roundings to 8 bits with ranges of four deviations or so, each some 38 dB below what it rounds.
        assert np.square(ran(found, feed, runner) - wanted).sum() < 1e-3 * np.square(wanted).sum()


def test_rows_of_a_large_table_are_integers() -> None:
    chain = Chain()
    ids = chain.input((1, 4), dtype="int32")
    table = noise(64, 32)
    graph = chain.graph(chain.op("GATHER", chain.constant(table), ids, axis=0, batchDims=0))
    found = made(graph, feeds=[{graph.inputs[0]: np.array([[1, 5, 9, 63]], np.int32)}])
    assert [op.kind for op in found.ops] == ["GATHER", "DEQUANTIZE"]
    rows = ran(found, {found.inputs[0]: np.array([[1, 5, 9, 63]], np.int32)})
    np.testing.assert_allclose(rows[0], table[[1, 5, 9, 63]], atol=np.abs(table).max() / 254 * 1.001)


@pytest.mark.parametrize("gain", [1.7, -0.6])
def test_a_correction_goes_into_scales_and_the_float_bias(gain: float) -> None:
    """Signs and scales of weights leave what is rounded as it is: both files differ by float32's rounding alone."""
    graph = dense()
    found, feed = made(graph), samples(graph)[0]
    last = len(found.ops) - 1
    gains, offsets = np.linspace(gain, 1.1 * gain, OUTPUTS), np.linspace(-1.0, 2.0, OUTPUTS)
    assert headroom(found, last).gain
    assert headroom(found, last).offset
    folded, done = fold(found, last, Correction(gains, offsets, {}))
    np.testing.assert_array_equal(done.gain, gains)
    wanted = gains * ran(found, feed, "reference") + offsets
    np.testing.assert_allclose(ran(folded, feed, "reference"), wanted, rtol=1e-4, atol=1e-4)


def test_compensation_takes_a_bias_of_the_weights_away() -> None:
    graph = dense()
    feeds = samples(graph, 32)
    found = made(graph, "w4-dynamic", feeds)
    outcome = compensate(found, graph, feeds, observe(graph, feeds)[0], MinMax(), Options())
    assert len(outcome.changes) == 2
    assert error(outcome.graph, graph, feeds) < 0.95 * error(found, graph, feeds)


def test_gptq_rounds_weights_by_the_floats_that_they_meet() -> None:
    graph = dense()
    rng = np.random.default_rng(3)
    basis = rng.normal(size=(3, INPUTS))  # inputs that correlate, which is what second-order rounding uses
    feeds = [{graph.inputs[0]: (rng.normal(size=(1, ROWS, 3)) @ basis).astype(np.float32)} for _ in range(32)]
    found = made(graph, "w4-dynamic", feeds)
    rounded = reround(found, graph, feeds, Gptq(float_targets=True), parse("w4-dynamic"))
    assert error(rounded, graph, feeds) < 0.5 * error(found, graph, feeds)


def test_kernels_agree_on_packed_weights() -> None:
    from edgeqwt.lowering.int4 import with_packed_weights

    graph = dense()
    found, feed = made(graph, "w4-dynamic"), samples(graph)[0]
    packed = with_packed_weights(found, tflm=False)
    assert [packed.tensors[slots(op).weight].dtype for op in packed.ops if is_hybrid(packed, op)] == ["int4"] * 2
    np.testing.assert_array_equal(
        reference(packed).run(feed)[packed.outputs[0]], reference(found).run(feed)[found.outputs[0]]
    )
    np.testing.assert_allclose(
        xnnpack(packed).run(feed)[packed.outputs[0]], reference(found).run(feed)[found.outputs[0]], atol=0.2
    )


@pytest.mark.parametrize("target", ["tflm", "ethos-u55-128", "ethos-u85-256", "edgetpu", "stm32n6"])
def test_targets_without_such_kernels_refuse_it(target: str) -> None:
    graph, profile = dense(), load(target)
    with pytest.raises(TargetError, match="run time") as caught:
        require(graph, profile, bits=parse("w8-dynamic").activation_bits)
    assert "w8a8" in caught.value.hint
    assert [f.op for f in check(made(graph), profile) if f.rule == "no_hybrid"]
    assert not [f for f in check(made(graph), load("tflite")) if f.rule == "no_hybrid"]


@pytest.mark.parametrize(("whole", "layer"), [("w8-dynamic", "w8a8"), ("w8a8", "w4-dynamic")])
def test_layers_are_of_the_models_kind(whole: str, layer: str) -> None:
    with pytest.raises(RecipeError, match="run time"):
        resolved(parse(whole), [settings("y", layer, "layers")], {"y": "", "z": ""}, load("tflite"))
    found = resolved(parse("w8-dynamic"), [settings("y", "w4-dynamic", "layers")], {"y": "", "z": ""}, load("tflite"))
    assert found.precision.of("y").weights == 4
    assert Precision().name == "w8a8"
    assert found.precision.name == "w8-dynamic"


def test_a_build_from_file_to_report(tmp_path: Path) -> None:
    """The ordinary way, its gates and its report; a target without such kernels stops it before anything is made."""
    files = small.write(tmp_path)
    built = edgeqwt.build(
        files.model, calibration=files.samples, target="tflite", recipe="fast", precision="w8-dynamic", accept=True
    )
    graph = built.graph
    assert any(is_hybrid(graph, op) for op in graph.ops)
    assert {graph.tensors[t].dtype for t in (*graph.inputs, *graph.outputs)} == {"float32"}
    static = edgeqwt.build(files.model, calibration=files.samples, target="tflite", recipe="fast", accept=True)
    assert built.quality[built.choice.name].worst_db > static.quality[static.choice.name].worst_db
    assert problems(document(built)) == []
    with pytest.raises(TargetError, match="run time"):
        edgeqwt.build(files.model, calibration=files.samples, target="tflm", recipe="fast", precision="w8-dynamic")
