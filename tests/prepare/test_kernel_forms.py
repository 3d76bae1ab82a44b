"""Ops without 16-bit kernels: the same function, and errors of 16 bits, not of 8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.opset16 import RULES16
from edgeqwt.prepare.kernel_forms import FORMS, for_kernels
from edgeqwt.profile import LITERT, Kernels, kernels_of
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.scales.ranges import MinMax
from edgeqwt.scales.scales import Scales
from edgeqwt.target.load import load
from edgeqwt.verify.quality import layer_quality
from edgeqwt.widths.precision import Precision, Widths, parse
from tests.chain import CONV, NONE, Chain, noise, samples
from tests.scales.problems import problem

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "L2_NORMALIZATION": NONE,
    "SPACE_TO_DEPTH": {"blockSize": 2},
}
W8A16 = parse("w8a16")


def network(kind: str) -> Graph:
    """A convolution, the op, and a convolution."""
    chain = Chain()

    def conv(x: int, seed: int) -> int:
        channels = chain.tensors[x].shape[-1]
        filters, bias = chain.constant(noise(8, 1, 1, channels, seed=seed)), chain.constant(noise(8, seed=seed + 1))
        return chain.op("CONV_2D", x, filters, bias, name=f"conv{seed}", **CONV)

    x = conv(chain.input((1, 4, 6, 8), "x"), 0)
    more = {
        "PRELU": lambda: [chain.constant(noise(1, 1, 8, seed=5))],
        "TILE": lambda: [chain.constant(np.array([1, 2, 1, 3]))],
        "SQUARED_DIFFERENCE": lambda: [conv(0, 7)],
    }
    if kind == "DIV":  # what it divides by is positive
        x = chain.op("ADD", chain.op("MUL", x, x, **NONE), chain.constant([0.5]), **NONE)
        return chain.graph(conv(chain.op(kind, chain.constant([3.0]), x, name="y", shape=(1, 4, 6, 8), **NONE), 9))
    inputs = more[kind]() if kind in more else []
    return chain.graph(conv(chain.op(kind, x, *inputs, name="y", **OPTIONS.get(kind, {})), 9))


def test_kinds_with_forms_have_no_row_of_their_own() -> None:
    assert not FORMS.keys() & RULES16.keys()
    assert {need for form in FORMS.values() for need in form.needs} <= RULES16.keys()


@pytest.mark.parametrize("kind", FORMS)
def test_the_forms_compute_the_same_and_are_16_bits_fine(kind: str) -> None:
    graph = network(kind)
    wide, precision = for_kernels(graph, W8A16, LITERT)
    assert precision == W8A16
    assert kind not in {op.kind for op in wide.ops}
    for sample in samples(graph, 3):
        wanted, found = (
            xnnpack(g).run(dict(zip(g.inputs, sample.values(), strict=True)))[g.outputs[0]] for g in (graph, wide)
        )
        # A handful of float32 roundings each, of values below 100, go through 8 to 24 products.
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())
    data = samples(graph, 24)
    db = [
        layer_quality(g, {"": problem(g, data, MinMax(), W8A16).lower(Scales())}, data)[""].worst_db
        for g in (graph, wide)
    ]
    # 8-bit weights leave more than 40 dB of both; SPACE_TO_DEPTH and TILE only move values, which rounds once more.
    # A quotient's relative error is its divisor's: small ones, which give large quotients, have more of it.
    assert db[1] > max(35.0 if kind == "DIV" else 40.0, db[0] + (0 if kind in ("SPACE_TO_DEPTH", "TILE") else 1))


def test_ops_that_stay_at_8_bits_stay_as_they_are() -> None:
    graph = network("PRELU")
    for precision in (Precision(), Precision(8, 16, floats=frozenset({"y"})), parse("w8-dynamic")):
        assert for_kernels(graph, precision, LITERT) == (graph, precision)
    assert for_kernels(graph, W8A16, Kernels(missing16=frozenset({"SUB"}))) == (graph, W8A16)


def test_what_an_accelerator_leaves_over_is_written_with_what_it_takes() -> None:
    graph, left = network("HARD_SWISH"), Kernels(left_over=frozenset({"HARD_SWISH"}))
    assert "HARD_SWISH" not in {op.kind for op in for_kernels(graph, Precision(), left)[0].ops}
    both = Kernels(left_over=frozenset({"HARD_SWISH", "ADD"}))
    assert for_kernels(graph, Precision(), both) == (graph, Precision())
    assert "HARD_SWISH" in kernels_of(load("edgetpu")).left_over
    for target in ("tflite", "edgetpu"):
        assert {op.kind for op in for_kernels(graph, Precision(), kernels_of(load(target)))[0].ops} == {
            "CONV_2D",
            "ADD",
            "MUL",
        }
    for target in ("tflm", "ethos-u55-128", "qualcomm-sm8650"):
        assert for_kernels(graph, Precision(), kernels_of(load(target))) == (graph, Precision())


def test_one_layer_of_16_bits_takes_its_form_along() -> None:
    graph = network("PRELU")
    wide, precision = for_kernels(graph, Precision(layers={"y": Widths(8, 16)}), LITERT)
    assert precision.layers == dict.fromkeys(("y", "y/positive", "y/negative", "y/scaled"), Widths(8, 16))
    assert {op.kind for op in wide.ops} == {"CONV_2D", "RELU", "SUB", "MUL", "ADD"}
    assert flatbuffer.to_bytes(for_kernels(graph, precision, LITERT)[0]) == flatbuffer.to_bytes(wide)


def test_a_build_with_16_bits_has_them_throughout(tmp_path: Path) -> None:
    graph = network("HARD_SWISH")
    flatbuffer.write(graph, tmp_path / "net.tflite")
    data = noise(32, 4, 6, 8)
    built = edgeqwt.build(tmp_path / "net.tflite", calibration=data, recipe="fast", precision="w8a16", target="tflm")
    assert "int8" not in {t.dtype for t in built.graph.tensors if not t.is_constant}
    assert built.quality[built.choice.name].worst_db > 45  # 8 bits at HARD_SWISH leave about 40


def test_what_divides_may_have_either_sign() -> None:
    chain = Chain()
    x = chain.input((1, 64), "x")
    y = chain.op("DIV", chain.constant([3.0]), x, name="y", shape=(1, 64), **NONE)
    graph = chain.graph(chain.op("MUL", x, chain.op("MUL", y, x, **NONE), **NONE))
    wide, _ = for_kernels(graph, W8A16, LITERT)
    assert {op.kind for op in wide.ops} == {"ABS", "RSQRT", "MUL"}
    values = np.random.default_rng(1).uniform(0.3, 3, (24, 1, 64)) * np.where(np.arange(64) % 2, 1, -1)
    data = [{x: v.astype(np.float32)} for v in values]
    db = [
        layer_quality(g, {"": problem(g, data, MinMax(), W8A16).lower(Scales())}, data)[""].worst_db
        for g in (graph, wide)
    ]
    assert db[1] > max(50.0, db[0] + 10)  # a table of 256 entries beside 16 bits
