from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeqwt.errors import InputError, InvariantError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph
from edgeqwt.runtime.boundary import graph_feed, real
from edgeqwt.runtime.runners import xnnpack
from edgeqwt.verify.looks import Total
from edgeqwt.verify.metrics import compare
from edgeqwt.verify.quality import TensorQuality, layer_quality
from tests.runtime.test_foreign import added

Images = Mapping[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def graphs(mlperf_tiny: Path) -> tuple[Graph, Graph]:
    """MLPerf Tiny's image classification, float and int8."""
    read = flatbuffer.read
    kind = "image_classification"
    return read(mlperf_tiny / f"{kind}_float32.tflite"), read(mlperf_tiny / f"{kind}_int8.tflite")


def _inputs(graph: Graph, images: npt.NDArray[Any], count: int) -> list[dict[int, Array]]:
    return [{graph.inputs[0]: image[None].astype(np.float32)} for image in images[:count]]


def test_quality_is_what_direct_runs_give(graphs: tuple[Graph, Graph], cifar10: Images) -> None:
    float_graph, int_graph = graphs
    inputs = _inputs(float_graph, cifar10["calibration_images"], 6)
    calls: list[None] = []
    quality = layer_quality(float_graph, {"int8": int_graph}, inputs, on_sample=lambda: calls.append(None))["int8"]
    assert quality.samples == len(calls) == 6
    assert [layer.kind for layer in quality.layers] == ["CONV_2D"] * 9 + ["FULLY_CONNECTED"]
    layer = quality.layers[3]
    assert layer.op is not None
    t = int_graph.ops[layer.op].outputs[0]
    (f,) = [i for i, tensor in enumerate(float_graph.tensors) if tensor.name == layer.tensor]
    one, other = xnnpack(float_graph, [f]), xnnpack(int_graph, [t])
    signal = noise = 0.0
    q = int_graph.tensors[t].quantization
    assert q is not None
    for sample in inputs:
        wanted = one.run(sample)[f].astype(np.float64)
        fed = graph_feed(int_graph, {int_graph.inputs[0]: sample[float_graph.inputs[0]]})
        error = real(other.run(fed)[t], q) - wanted
        signal, noise = signal + (wanted**2).sum(), noise + (error**2).sum()
    # Sums of some 1e5 float64 terms in another order.
    assert layer.closeness.sqnr_db == pytest.approx(10 * np.log10(signal / noise), rel=1e-9)
    assert layer.closeness.max_steps == pytest.approx(layer.closeness.max_abs / q.scale[0])
    (output,) = quality.outputs
    assert output.kind == "SOFTMAX"
    assert output.closeness.elements == 60
    assert 10 < output.closeness.sqnr_db < 40
    assert 0.9 < output.closeness.cosine < 1


def test_large_layers_are_compared_on_the_first_samples_and_outputs_on_all(
    graphs: tuple[Graph, Graph], cifar10: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    float_graph, int_graph = graphs
    inputs = _inputs(float_graph, cifar10["calibration_images"], 7)
    every, first = (layer_quality(float_graph, {"": int_graph}, inputs[:n])[""] for n in (7, 3))
    monkeypatch.setattr("edgeqwt.verify.quality.LOOKED_AT", 1)
    monkeypatch.setattr("edgeqwt.verify.quality.LEAST", 3)
    found = layer_quality(float_graph, {"": int_graph}, inputs)[""]
    assert (found.samples, found.layer_samples, every.layer_samples) == (7, 3, 7)
    assert found.layers == first.layers != every.layers
    assert (found.outputs, found.decisive) == (every.outputs, every.decisive)
    monkeypatch.setattr("edgeqwt.verify.quality.EACH", 1 << 10)
    thinned = layer_quality(float_graph, {"": int_graph}, inputs)[""]
    assert all(1 << 10 <= layer.closeness.elements / 3 <= 1 << 12 for layer in thinned.layers[:-1])
    # Each of 3 samples has 1000 values and more of a layer: a mean square is known to 1/sqrt(3000), 0.08 dB, if they
    # were independent; neighbours in a map are not.
    for layer, other in zip(thinned.layers[:-1], first.layers[:-1], strict=True):
        assert layer.closeness.sqnr_db == pytest.approx(other.closeness.sqnr_db, abs=1)
    fewer = layer_quality(float_graph, {"": int_graph}, inputs[:2])[""]
    assert (fewer.samples, fewer.layer_samples) == (2, 2)


def test_variants_are_judged_apart_and_threads_change_nothing(graphs: tuple[Graph, Graph], cifar10: Images) -> None:
    float_graph, int_graph = graphs
    t = int_graph.ops[14].inputs[2]
    bias = int_graph.tensors[t].data
    assert bias is not None
    worse = int_graph.with_tensors({t: replace(int_graph.tensors[t], data=bias + np.arange(10, dtype=np.int32) * 100)})
    inputs = _inputs(float_graph, cifar10["calibration_images"], 9)
    variants = {"int8": int_graph, "worse": worse}
    quality = layer_quality(float_graph, variants, inputs, threads=3)
    assert quality == layer_quality(float_graph, variants, inputs, threads=1)
    assert quality["int8"].layers[:-1] == quality["worse"].layers[:-1]
    assert quality["int8"].outputs[0].closeness.sqnr_db > quality["worse"].outputs[0].closeness.sqnr_db


def test_layers_without_a_counterpart_are_left_out(graphs: tuple[Graph, Graph], cifar10: Images) -> None:
    float_graph, int_graph = graphs
    t = int_graph.ops[2].outputs[0]
    renamed = int_graph.with_tensors({t: replace(int_graph.tensors[t], name="other")})
    quality = layer_quality(float_graph, {"x": renamed}, _inputs(float_graph, cifar10["calibration_images"], 1))["x"]
    assert [layer.op for layer in quality.layers] == [0, 1, 4, 5, 6, 8, 9, 10, 14]


def test_the_float_graph_against_itself_is_exact(graphs: tuple[Graph, Graph], cifar10: Images) -> None:
    float_graph, _ = graphs
    quality = layer_quality(float_graph, {"x": float_graph}, _inputs(float_graph, cifar10["calibration_images"], 1))[
        "x"
    ]
    assert {judged.closeness.sqnr_db for judged in (*quality.layers, *quality.outputs)} == {np.inf}
    assert quality.outputs[0].closeness.max_steps is None


def test_graphs_that_do_not_correspond(graphs: tuple[Graph, Graph]) -> None:
    float_graph, int_graph = graphs
    with pytest.raises(InputError, match="no samples"):
        layer_quality(float_graph, {"int8": int_graph}, [])
    more = replace(int_graph, outputs=(*int_graph.outputs, int_graph.ops[0].outputs[0]))
    with pytest.raises(InvariantError):
        layer_quality(float_graph, {"int8": more}, [])


def test_a_model_that_ends_in_softmax_is_judged_before_it(mlperf_tiny: Path) -> None:
    graph = flatbuffer.read(mlperf_tiny / "image_classification_float32.tflite")
    image = np.random.default_rng(0).uniform(0, 255, graph.tensors[graph.inputs[0]].shape).astype(np.float32)
    quality = layer_quality(graph, {"same": graph}, [{graph.inputs[0]: image}])["same"]
    assert [judged.kind for judged in quality.outputs] == ["SOFTMAX"]
    assert [judged.kind for judged in quality.decisive] == ["FULLY_CONNECTED"]


def _judged(generator: np.random.Generator, samples: int) -> TensorQuality:
    """An output of 4 values with noise of unlike size, 20 dB below what varies on average."""
    total = Total()
    for _ in range(samples):
        reference = generator.standard_normal(4) + 5.0
        total.add(compare(reference, reference + 0.1 * generator.standard_normal(4), varying=True), each=True)
    errors, agreeing, variations = tuple(total.errors), tuple(total.agreeing), tuple(total.variations)
    return TensorQuality("y", 0, "FULLY_CONNECTED", total.sums.result(), errors, agreeing, variations)


def test_the_standard_error_is_how_far_other_samples_differ() -> None:
    generator = np.random.default_rng(0)
    drawn = [_judged(generator, 32) for _ in range(400)]
    found = np.array([one.closeness.judged_db for one in drawn])
    # 400 draws know their deviation to 4 %; the jackknife's mean is a little above it.
    assert np.sqrt(np.mean([one.standard_error**2 for one in drawn])) == pytest.approx(found.std(), rel=0.15)
    assert found.mean() == pytest.approx(20.0, abs=0.3)


def test_too_few_samples_have_no_standard_error() -> None:
    assert np.isnan(_judged(np.random.default_rng(0), 3).standard_error)
    assert np.isnan(TensorQuality("y", 0, "ADD", Total().sums.result()).standard_error)


def test_outputs_go_by_their_names_in_the_source_whatever_copies_of_them_are_called() -> None:
    graph = added(1.0)
    plain = replace(graph, tensors=tuple(replace(t, dtype="float32", quantization=None) for t in graph.tensors))
    copy = replace(graph, tensors=tuple(replace(t, name=f"{t.name}/int8") for t in graph.tensors))
    feeds = [{0: np.array([1.0, 2.0 + k], np.float32)} for k in range(3)]
    output = layer_quality(plain, {"": copy}, feeds, names=["total"])[""].outputs[0]
    assert (output.tensor, output.name) == ("sum/int8", "total")
    assert layer_quality(plain, {"": copy}, feeds)[""].outputs[0].name == "sum"
