"""Rounding on the inputs that layers really get, on a real model and on small ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.calibration.observe import observe
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.graph.linear import slots
from edgeqwt.lowering.lower import Precision, lower
from edgeqwt.prepare.prepare import prepare
from edgeqwt.rounding.methods import Erq, Gptq, Nearest, RoundingRule
from edgeqwt.rounding.reround import DEPTHWISE, reround, stride
from edgeqwt.runtime.runners import RUNNERS
from edgeqwt.scales.ranges import MinMax, Mse
from edgeqwt.verify.quality import layer_quality
from tests.chain import Chain, noise, samples
from tests.compensation.nets import (
    check_bias_scales,
    check_linear_ops,
    conv,
    fully_connected,
    outputs,
    plain_net,
    residual_net,
    sqnr,
)
from tests.prepare import toy

Inputs = list[dict[int, Array]]
EVERYTHING = Gptq(float_targets=True, scales=5, refine=True)


@pytest.fixture(scope="module")
def model(mlperf_tiny: Path, cifar10: Mapping[str, npt.NDArray[Any]]) -> tuple[Graph, Graph, Inputs, Inputs]:
    """A float network, its 4-bit form rounded to nearest, calibration inputs and test inputs."""
    graph = prepare(flatbuffer.read(mlperf_tiny / "image_classification_float32.tflite")).graph

    def inputs(name: str, count: int) -> Inputs:
        return [{graph.inputs[0]: image[None].astype(np.float32)} for image in cifar10[name][:count]]

    calibration = inputs("calibration_images", 48)
    statistics, _ = observe(graph, calibration)
    nearest = lower(graph, statistics, Mse(), Precision(4))
    return graph, nearest, calibration, inputs("test_images", 64)


def test_nearest_changes_nothing(model: tuple[Graph, Graph, Inputs, Inputs]) -> None:
    graph, nearest, calibration, _ = model
    again = reround(nearest, graph, calibration, Nearest(), Precision(4))
    assert flatbuffer.to_bytes(again) == flatbuffer.to_bytes(nearest)


def test_each_rule_comes_closer_on_other_images(model: tuple[Graph, Graph, Inputs, Inputs]) -> None:
    graph, nearest, calibration, test = model
    rules: dict[str, RoundingRule] = {"gptq": Gptq(), "erq": Erq(), "everything": EVERYTHING}
    variants = {name: reround(nearest, graph, calibration, rule, Precision(4)) for name, rule in rules.items()}
    quality = layer_quality(graph, {"nearest": nearest, **variants}, test)
    found = {name: quality[name].decisive[0].closeness.sqnr_db for name in quality}
    # Measured at the logits: 6.5 dB, 17.1, 19.3 and 21.3; half of each gain is left as room.
    assert found["gptq"] > found["nearest"] + 5.2
    assert found["erq"] > found["gptq"] + 1.1
    assert found["everything"] > found["gptq"] + 2.1


def test_weights_alone_change_where_scales_are_not_searched(model: tuple[Graph, Graph, Inputs, Inputs]) -> None:
    graph, nearest, calibration, _ = model
    rounded = reround(nearest, graph, calibration[:8], Gptq(float_targets=True), Precision(4))
    for a, b in zip(nearest.tensors, rounded.tensors, strict=True):
        assert (a.name, a.dtype) == (b.name, b.dtype)
        assert a.quantization is None or a.quantization.same_as(b.quantization)
        assert a.dtype == "int8" or a.data is b.data


def test_same_bytes_on_any_number_of_threads(model: tuple[Graph, Graph, Inputs, Inputs]) -> None:
    graph, nearest, calibration, _ = model
    found = [reround(nearest, graph, calibration[:24], EVERYTHING, Precision(4), threads=n) for n in (1, 3)]
    assert flatbuffer.to_bytes(found[0]) == flatbuffer.to_bytes(found[1])


def shared_weights() -> Graph:
    """One weight tensor and one bias, read by two convolutions, and one convolution with its own."""
    chain = Chain()
    x = conv(chain, chain.input((1, 6, 6, 4)), 4, 1)
    shared = chain.ops[-1]
    x = chain.op("CONV_2D", x, *shared.inputs[1:], name="again", **shared.options)
    return chain.graph(conv(chain, x, 4, 2, "NONE"))


NETS = {"plain": plain_net, "residual": residual_net, "shared": shared_weights}


@pytest.mark.parametrize("activation_bits", [8, 16])
@pytest.mark.parametrize("rule", [EVERYTHING, Erq(scales=3)], ids=["gptq", "erq"])
@pytest.mark.parametrize("name", NETS)
def test_what_comes_out_computes_what_its_scales_say(name: str, rule: RoundingRule, activation_bits: int) -> None:
    """Depthwise layers, branches, shared weights, int16 activations: in every runtime, with consistent biases."""
    graph = NETS[name]()
    calibration = samples(graph, 16)
    statistics, _ = observe(graph, calibration)
    precision = Precision(4, activation_bits)
    plain = lower(graph, statistics, MinMax(), precision)
    rounded = reround(plain, graph, calibration, rule, precision)
    for runner in RUNNERS.values():
        runner(rounded)
    check_linear_ops(rounded, calibration)
    check_bias_scales(rounded)
    wanted, before, after = (outputs(g, calibration) for g in (graph, plain, rounded))
    assert sqnr(wanted, after) > sqnr(wanted, before)


def test_searched_scales_change_weights_and_biases_alone() -> None:
    graph = plain_net()
    calibration = samples(graph, 16)
    statistics, _ = observe(graph, calibration)
    plain = lower(graph, statistics, MinMax(), Precision(4))
    rounded = reround(plain, graph, calibration, EVERYTHING, Precision(4))
    parameters = {t for op in plain.ops if op.kind != "MEAN" for t in op.inputs[1:3]}
    changed = {
        i
        for i, (a, b) in enumerate(zip(plain.tensors, rounded.tensors, strict=True))
        if a.quantization is not None and not a.quantization.same_as(b.quantization)
    }
    assert changed
    assert changed <= parameters


def test_a_heavy_bias_keeps_scales_large() -> None:
    """At the scale that clips nothing the bias is 0.9 * 2^30 steps: there is no room for a scale 0.6 times as large."""
    graph = fully_connected()
    calibration = samples(graph, 4)
    bias = slots(graph.ops[0]).bias

    def lowered() -> Graph:
        statistics, _ = observe(graph, calibration)
        return lower(graph, statistics, MinMax(), Precision(4))

    step = lowered().tensors[slots(graph.ops[0]).bias].quantization
    assert step is not None
    heavy = (0.9 * 2**30 * step.scale.astype(np.float64)).astype(np.float32)
    graph = graph.with_tensors({bias: replace(graph.tensors[bias], data=heavy)})
    rounded = reround(lowered(), graph, calibration, EVERYTHING, Precision(4))
    data = rounded.tensors[slots(rounded.ops[0]).bias].data
    assert data is not None
    # 2^30 is half of the accumulator; float32 scales are off by 2^-24 of it.
    assert 0.85 * 2**30 < np.abs(data).max() <= 2**30 * (1 + 2.0**-23)
    check_bias_scales(rounded)


def test_rows_that_nobody_feels_do_not_pull_at_the_weights() -> None:
    """Two rows of four are padding that saturates; with weights the others come closer, and padding may go astray."""
    chain = Chain()
    x = chain.input((1, 4, 16))
    graph = prepare(chain.graph(toy.dense(chain, toy.dense(chain, x, 24, 1), 8, 3))).graph
    data = [{graph.inputs[0]: noise(1, 4, 16, seed=seed)} for seed in range(48)]
    for sample in data:
        sample[graph.inputs[0]][:, 2:] = 30 * noise(1, 2, 16, seed=99)
    calm = [{t: v[:, :2].repeat(2, axis=1) for t, v in sample.items()} for sample in data]
    plain = lower(graph, observe(graph, calm)[0], MinMax(), Precision(4))

    def token_weights(sample: Mapping[int, Array]) -> dict[int, Array]:
        return {op.outputs[0]: np.array([1.01, 1.01, 0.01, 0.01]) for op in graph.ops}

    rule = Gptq(float_targets=True)
    blind, seeing = (
        reround(plain, graph, data[:32], rule, Precision(4), token_weights=f) for f in (None, token_weights)
    )

    def error(integer: Graph) -> float:
        wanted, found = outputs(graph, data[32:]), outputs(integer, data[32:])
        return float(np.square(np.array(wanted)[:, :, :2] - np.array(found)[:, :, :2]).sum())

    assert error(seeing) < 0.5 * error(blind)


def test_many_samples_need_fewer_positions_each() -> None:
    few, many, more = ([stride(map_, n) for map_ in ((1, 1), (32, 32), (56, 56), (1, 16384))] for n in (24, 384, 4096))
    assert few == [1, 1, 2, 4]
    assert many == [1, 2, 4, 7]
    assert more == [1, 2, 4, 8]  # 256 of each at least: those of one sample are alike
    assert stride((56, 56), 4096, *DEPTHWISE) == 10  # 32 of each, for the few weights of a channel


def test_layers_with_many_terms_are_rounded_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows in place of each fold's moments: the same ridges, so the same integers."""
    graph = residual_net()
    calibration = samples(graph, 24)
    plain = lower(graph, observe(graph, calibration)[0], MinMax(), Precision(4))
    usual = reround(plain, graph, calibration, EVERYTHING, Precision(4))
    monkeypatch.setattr("edgeqwt.rounding.moments.WIDE", 16)
    wide = reround(plain, graph, calibration, EVERYTHING, Precision(4))
    assert flatbuffer.to_bytes(wide) == flatbuffer.to_bytes(usual)
    assert flatbuffer.to_bytes(wide) != flatbuffer.to_bytes(plain)
