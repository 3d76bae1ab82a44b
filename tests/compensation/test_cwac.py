from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.compensation import layer
from edgeqwt.compensation.channel_constants import constant_ops
from edgeqwt.compensation.cwac import Outcome, compensate, decibel, offsets_where_gains_lose
from edgeqwt.compensation.layer import FOLDS
from edgeqwt.compensation.solve import DEGENERATE, Options
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import is_linear, linear_ops, slots
from edgeqwt.lowering.lower import lower
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.scales.ranges import MinMax, Mse
from edgeqwt.widths.precision import Precision, Widths, parse
from tests.chain import NONE, Chain, noise
from tests.compensation.nets import (
    RELU,
    Case,
    check_bias_scales,
    check_linear_ops,
    conv,
    dense,
    made,
    mean,
    outputs,
    plain_net,
    probed,
    residual_net,
    run,
    sqnr,
)


def two_inputs() -> Graph:
    """An image and a vector; the vector scales the image's channels."""
    chain = Chain()
    image, vector = chain.input((1, 6, 6, 3), "image"), chain.input((1, 8), "vector")
    gate = chain.op("LOGISTIC", dense(chain, vector, 8, 2), name="gate")
    x = chain.op("MUL", conv(chain, image, 8, 1), gate, name="gated", **NONE)
    return chain.graph(dense(chain, mean(chain, x), 4, 3))


def siblings() -> Graph:
    """Two linear ops that read one tensor, which is the graph's input; both are outputs."""
    chain = Chain()
    x = chain.input((2, 6))
    return chain.graph(dense(chain, x, 5, 1), dense(chain, x, 4, 2, "RELU"))


def output_in_the_middle() -> Graph:
    """A linear op's output that is the graph's and another linear op's input."""
    chain = Chain()
    hidden = dense(chain, chain.input((2, 6)), 5, 1, "RELU")
    return chain.graph(hidden, dense(chain, hidden, 3, 2))


def ops_after_the_last() -> Graph:
    chain = Chain()
    x = chain.op("SOFTMAX", dense(chain, chain.input((2, 6)), 5, 1), name="softmax", beta=1.0)
    return chain.graph(chain.op("MUL", x, chain.constant(np.full((1, 5), 2.0, np.float32)), name="double", **NONE))


NETS: dict[str, Callable[[], Graph]] = {
    "plain": plain_net,
    "residual": residual_net,
    "two-inputs": two_inputs,
    "siblings": siblings,
    "output-in-the-middle": output_in_the_middle,
    "ops-after-the-last": ops_after_the_last,
}


def check(case: Case, outcome: Outcome) -> None:
    """What must hold whatever was compensated."""
    old, new = case.integer, outcome.graph
    assert [(op.kind, op.inputs, op.outputs) for op in new.ops] == [(op.kind, op.inputs, op.outputs) for op in old.ops]
    assert len(flatbuffer.to_bytes(new)) == len(flatbuffer.to_bytes(old))
    assert [change.op for change in outcome.changes] == sorted([*linear_ops(old), *constant_ops(old)])
    for runner in RUNNERS.values():
        runner(new)
    check_linear_ops(new, case.samples)
    check_bias_scales(new)


@pytest.mark.parametrize("precision", ["w8a8", "w3a8", "w3a16"])
@pytest.mark.parametrize("name", NETS)
def test_structures(name: str, precision: str) -> None:
    case = made(NETS[name](), count=32, precision=parse(precision))
    outcome = case.compensated()
    assert outcome.samples == 32
    check(case, outcome)


def test_mixed_widths() -> None:
    layers = {"conv2": Widths(3, 16), "conv3": Widths(8, 16), "fc5": Widths(4, 8)}
    case = made(residual_net(), count=32, precision=Precision(layers=layers))
    outcome = case.compensated()
    check(case, outcome)
    dtypes = {
        change.name: outcome.graph.tensors[case.integer.ops[change.op].outputs[0]].dtype for change in outcome.changes
    }
    assert dtypes == {"conv1": "int8", "conv2": "int16", "conv3": "int16", "conv4": "int8", "fc5": "int8"}


@pytest.mark.parametrize("precision", ["w3a8", "w3a16"])
@pytest.mark.parametrize("name", ["plain", "residual", "two-inputs"])
def test_low_precision_is_helped(name: str, precision: str) -> None:
    """At 3 bits weights err by a tenth of themselves; what of it is an offset or a gain can be taken back."""
    case = made(NETS[name](), count=128, precision=parse(precision))
    rng = np.random.default_rng(99)
    fresh = [
        {t: rng.standard_normal(case.floating.tensors[t].shape).astype(np.float32) for t in case.floating.inputs}
        for _ in range(64)
    ]
    wanted = outputs(case.floating, fresh)
    before, after = (sqnr(wanted, outputs(g, fresh)) for g in (case.integer, case.compensated().graph))
    assert after > before + 1


def test_first_layer_gets_the_least_squares_line() -> None:
    """The planted error: channel c's weights and bias are off by a factor, its bias by an offset as well.

    The first layer's input is the same for both graphs, so the line is exact up to the
    rounding of input, weights and bias.
    """
    case = made(siblings(), count=64)
    s = slots(case.integer.ops[0])
    weight, bias = case.integer.tensors[s.weight], case.integer.tensors[s.bias]
    gain, offset = np.array([2.0, 0.5, 1.0, -1.5, 1.2]), np.array([0.1, -0.3, 0.5, 0.0, -0.2])
    assert weight.quantization is not None
    assert bias.quantization is not None
    assert weight.data is not None
    assert bias.data is not None
    # The planted graph computes (y - o) / g.
    planted_scale = weight.quantization.scale / np.abs(gain)
    x = case.integer.tensors[s.data].quantization
    assert x is not None
    bias_scale = (x.scale * planted_scale.astype(np.float32)).astype(np.float64)
    real_bias = (bias.data * bias.quantization.scale.astype(np.float64) - offset) / gain
    sign = np.sign(gain).astype(np.int8)
    planted = case.integer.with_tensors(
        {
            s.weight: replace(
                weight,
                data=weight.data * sign[:, None],
                quantization=replace(weight.quantization, scale=planted_scale.astype(np.float32)),
            ),
            s.bias: replace(
                bias,
                data=np.rint(real_bias / bias_scale).astype(np.int32),
                quantization=replace(bias.quantization, scale=bias_scale.astype(np.float32)),
            ),
        }
    )
    outcome = case.compensated(Options(rewrite_scales=False, gain_margin=0.0), planted)
    found = outcome.graph.tensors[s.weight]
    assert found.quantization is not None
    assert found.data is not None
    np.testing.assert_allclose(found.quantization.scale, weight.quantization.scale, rtol=0.01)
    np.testing.assert_array_equal(found.data, weight.data)
    [change] = [c for c in outcome.changes if c.op == 0]
    assert change.gain_low == pytest.approx(-1.5, rel=0.01)
    assert change.gain_high == pytest.approx(2.0, rel=0.01)
    assert change.error_before < 5 < 30 < change.error_after


def test_reported_errors_are_of_samples_that_were_not_fitted_on() -> None:
    case = made(siblings(), count=18, bits=3)
    change = case.compensated(Options(rewrite_scales=False)).changes[0]
    t, x = case.floating.ops[0].outputs[0], slots(case.integer.ops[0]).data
    wanted, before, after = [], [], []
    for k in range(FOLDS):
        others = replace(case, samples=[s for i, s in enumerate(case.samples) if i % FOLDS != k])
        graph = others.compensated(Options(rewrite_scales=False)).graph
        left_out = case.samples[k::FOLDS]
        wanted.append(outputs(replace(case.floating, outputs=(t,)), left_out))
        for found, one in ((before, case.integer), (after, graph)):
            found.append(np.stack([probed(one, 0, values[x]) for values in run(one, left_out, [x])]))
    for found, reported in ((before, change.error_before), (after, change.error_after)):
        # Biases are rounded when lines are folded, and a channel's choice may be another one without a third.
        assert sqnr(np.concatenate(wanted), np.concatenate(found)) == pytest.approx(reported, abs=0.1)


@pytest.mark.parametrize(("errors", "kept"), [((1.0, 2.0, 0.5), "offsets"), ((1.0, 2.0, 1.5), "gains")])
def test_offsets_alone_where_gains_lose(errors: tuple[float, float, float], kept: str) -> None:
    """Errors at the outputs: of the graph as it was, with gains, and with offsets alone."""
    case = made(siblings(), count=12, bits=3)
    gains, asked = case.compensated(), list[Options]()
    assert gains.has_gains

    def again(options: Options) -> Outcome:
        asked.append(options)
        return offsets

    offsets = case.compensated(Options(gain=False))
    known = dict(zip((id(case.integer), id(gains.graph), id(offsets.graph)), errors, strict=True))
    found = offsets_where_gains_lose(gains, case.integer, Options(), again, lambda graph: known[id(graph)])
    assert found is {"offsets": offsets, "gains": gains}[kept]
    assert asked == [Options(gain=False)]
    assert not offsets.has_gains


def test_gains_that_do_not_lose_stay() -> None:
    case = made(siblings(), count=12, bits=3)
    gains = case.compensated()
    error = {id(case.integer): 1.0, id(gains.graph): 1.0}
    again = dict[Options, Outcome]().__getitem__  # nothing is compensated again
    assert offsets_where_gains_lose(gains, case.integer, Options(), again, lambda g: error[id(g)]) is gains


# -- determinism ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_threads_do_not_change_a_byte(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = made(NETS[name](), count=70, bits=4)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(layer, "THREADS", threads)
        outcome = case.compensated()
        found.append((flatbuffer.to_bytes(outcome.graph), outcome.changes, outcome.skips))
    assert found[0] == found[1] == found[2]
    assert found[0][0] != flatbuffer.to_bytes(case.integer)


# -- samples -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17])
def test_few_samples(count: int) -> None:
    case = made(plain_net(), count=32, bits=4)
    few = replace(case, samples=case.samples[:count])
    outcome = few.compensated()
    assert outcome.samples == count
    check(few, outcome)


def test_no_samples() -> None:
    case = replace(made(plain_net(), count=2), samples=[])
    with pytest.raises(InputError, match="no calibration samples"):
        case.compensated()


def test_samples_are_read_once_and_the_reader_may_fail() -> None:
    case, reads = made(siblings(), count=8), []

    def stream() -> Iterator[dict[int, Array]]:
        for i, sample in enumerate(case.samples):
            reads.append(i)
            yield dict(sample)
        if len(reads) > 8:
            raise InputError("sample 8: NaN")

    compensate(case.integer, case.floating, stream(), case.statistics, Mse(), Options())
    assert reads == list(range(8))
    with pytest.raises(InputError, match="sample 8"):
        compensate(case.integer, case.floating, stream(), case.statistics, Mse(), Options())


def test_progress_counts_layers() -> None:
    case, seen = made(residual_net(), count=4), []
    compensate(
        case.integer,
        case.floating,
        case.samples,
        case.statistics,
        Mse(),
        Options(),
        lambda done, total, layer="": seen.append((done, total, layer)),
    )
    names = [case.floating.tensors[op.outputs[0]].name for op in case.floating.ops if is_linear(op)]
    assert seen == [(0, 5, ""), *((k, 5, name) for k, name in enumerate(names, start=1))]


def test_memory_does_not_grow_with_the_samples() -> None:
    """Activations of 512 samples would take 9 MB, those of 64 samples 1.1 MB; a chunk's take 0.3 MB."""
    case = made(plain_net(), count=4)

    def peak(count: int) -> int:
        def stream() -> Iterator[dict[int, Array]]:
            rng = np.random.default_rng(0)
            for _ in range(count):
                yield {0: rng.standard_normal((1, 8, 8, 3)).astype(np.float32)}

        tracemalloc.start()
        try:
            compensate(case.integer, case.floating, stream(), case.statistics, Mse(), Options())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(16)  # first use of modules and caches
    small, large = peak(64), peak(512)
    assert large < 1.1 * small + 100_000


# -- layers that have nothing to fit ------------------------------------------------------------


def test_no_linear_op() -> None:
    chain = Chain()
    case = made(chain.graph(chain.op("ADD", chain.input((1, 4)), chain.input((1, 4)), name="sum", **RELU)), count=3)
    outcome = case.compensated()
    assert outcome.changes == outcome.skips == ()
    assert outcome.samples == 3
    assert outcome.graph is case.integer


def test_all_zero_channels_and_dead_activations() -> None:
    """Channel 0 has no weights, channel 1 is cut off by its bias, and the next layer reads both."""
    chain = Chain()
    x = chain.input((1, 6))
    weights, bias = noise(4, 6, seed=1), noise(4, seed=2)
    weights[0], bias[1] = 0, -100
    x = chain.op("FULLY_CONNECTED", x, chain.constant(weights), chain.constant(bias), name="first", **RELU)
    case = made(chain.graph(dense(chain, x, 3, 5)), count=24)
    outcome = case.compensated()
    check(case, outcome)
    assert (0, DEGENERATE) in {(skip.op, skip.reason) for skip in outcome.skips}
    change = outcome.changes[0]
    assert change.channels == 4


def test_constant_activations() -> None:
    """Every sample is the same: nothing varies over samples, and every channel is a constant."""
    chain = Chain()
    graph = chain.graph(dense(chain, dense(chain, chain.input((1, 6)), 5, 1, "RELU"), 3, 2))
    sample = {0: np.ones((1, 6), np.float32)}
    statistics, _ = observe(graph, [sample] * 8)
    integer = lower(graph, statistics, MinMax(), Precision(3))
    case = Case(graph, [sample] * 8, statistics, integer)
    outcome = case.compensated()
    check(case, outcome)
    assert {(skip.op, skip.reason, skip.channels) for skip in outcome.skips} >= {(0, DEGENERATE, 5), (1, DEGENERATE, 3)}
    wanted = outputs(graph, [sample])
    before, after = (np.abs(outputs(g, [sample]) - wanted).max() for g in (integer, outcome.graph))
    scale = outcome.graph.tensors[outcome.graph.outputs[0]].quantization
    assert scale is not None
    # The offset is exact, so what is left is the output's rounding.
    assert after <= scale.scale[0]
    assert after <= before


def test_all_zero_inputs() -> None:
    case = made(plain_net(), count=8)
    zeros = [{t: np.zeros_like(v) for t, v in sample.items()} for sample in case.samples]
    outcome = replace(case, samples=zeros).compensated()
    check(case, outcome)


def test_an_op_on_a_constant_is_left_alone() -> None:
    """Converters fold it; a file of another tool may hold one."""
    case = made(siblings(), count=8)
    graphs = []
    for graph in (case.integer, case.floating):
        x = graph.tensors[slots(graph.ops[0]).data]
        constant = replace(x, name="constant", data=np.ones(x.shape, np.dtype(x.dtype)))
        wider = replace(graph, tensors=(*graph.tensors, constant))
        op = graph.ops[0]
        graphs.append(wider.with_ops({0: replace(op, inputs=(len(graph.tensors), *op.inputs[1:]))}))
    outcome = replace(case, integer=graphs[0], floating=graphs[1]).compensated()
    assert [change.op for change in outcome.changes] == [1]


def test_statistics_may_be_absent() -> None:
    case = made(plain_net(), count=8)
    outcome = compensate(case.integer, case.floating, case.samples, {}, Mse(), Options())
    assert all(change.scale is None for change in outcome.changes)


def test_decibel() -> None:
    assert decibel(100.0, 1.0) == pytest.approx(20.0)
    assert decibel(1.0, 0.0) == float("inf")
    assert np.isfinite(decibel(0.0, 1.0))
