"""The whole way of the data on real models: what every build must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import edgeqwt
from edgeqwt import pipeline
from edgeqwt.errors import InvariantError, UnsupportedError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Graph
from edgeqwt.graph.linear import multiplications
from edgeqwt.judgement import COMPENSATED, PLAIN, UNCOMPENSATED
from edgeqwt.pipeline import BuildResult, check_free, proof_count, proof_threads, require_runtimes
from edgeqwt.runtime.boundary import graph_feed, to_real
from edgeqwt.runtime.parallel import THREADS, ordered
from edgeqwt.runtime.runners import Runner, xnnpack
from tests.chain import Chain
from tests.compensation.nets import conv

Array = npt.NDArray[Any]

CALIBRATION, TEST = 128, 400


def outputs(graph: Graph, images: Array) -> Array:
    """The graph's output for every image, as real values."""

    def run(runner: Runner, image: Array) -> Array:
        found = runner.run(graph_feed(graph, {graph.inputs[0]: image[None]}))
        return to_real(graph, graph.outputs[0], found[graph.outputs[0]])

    return np.concatenate(list(ordered([xnnpack(graph) for _ in range(THREADS)], run, images)))


def sqnr(found: Array, wanted: Array) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


@pytest.fixture(scope="module")
def images(cifar10: Mapping[str, Array]) -> tuple[Array, Array]:
    """Calibration and test images as MLPerf Tiny's image classification takes them."""
    return (
        cifar10["calibration_images"][:CALIBRATION].astype(np.float32),
        cifar10["test_images"][:TEST].astype(np.float32),
    )


@pytest.fixture(scope="module")
def float_file(mlperf_tiny: Path) -> Path:
    return mlperf_tiny / "image_classification_float32.tflite"


@pytest.fixture(scope="module", params=["w8a8", "w4a8"])
def built(request: pytest.FixtureRequest, float_file: Path, images: tuple[Array, Array]) -> BuildResult:
    graph = flatbuffer.read(float_file)
    samples = {graph.tensors[graph.inputs[0]].name: images[0]}
    return edgeqwt.build(float_file, calibration=samples, precision=request.param)


def test_compensation_is_free(built: BuildResult) -> None:
    assert built.outcome is not None
    plain, compensated = (built.variants[name] for name in (UNCOMPENSATED, COMPENSATED))
    assert [(o.kind, o.version) for o in plain.ops] == [(o.kind, o.version) for o in compensated.ops]
    assert len(flatbuffer.to_bytes(plain)) == len(flatbuffer.to_bytes(compensated))
    assert built.sizes[UNCOMPENSATED] == built.sizes[COMPENSATED]


def test_only_scales_zero_points_biases_and_signs_differ(built: BuildResult) -> None:
    assert built.outcome is not None
    for a, b in zip(built.uncompensated.tensors, built.variants[COMPENSATED].tensors, strict=True):
        assert (a.name, a.shape, a.dtype) == (b.name, b.shape, b.dtype)
        if a.data is not None and b.data is not None and a.dtype in ("int8", "int4"):
            np.testing.assert_array_equal(np.abs(a.data.astype(np.int16)), np.abs(b.data.astype(np.int16)))


def test_test_images_confirm_what_held_out_samples_chose(built: BuildResult, images: tuple[Array, Array]) -> None:
    wanted = outputs(built.prepared.graph, images[1])
    plain, kept = (sqnr(outputs(graph, images[1]), wanted) for graph in (built.variants[PLAIN], built.graph))
    assert built.choice.name != PLAIN
    assert kept > plain + 1


def test_all_tensors_are_integers(built: BuildResult) -> None:
    assert {t.dtype for t in built.graph.tensors} <= {"int8", "int4", "int32", "bool"}


def test_runtimes_agree(built: BuildResult) -> None:
    assert built.runtimes.ok
    # TFLite Micro lacks int4 FULLY_CONNECTED with a scale per channel, which LiteRT has.
    dense = [i for i, op in enumerate(built.graph.ops) if op.kind == "FULLY_CONNECTED"
             and built.graph.tensors[op.inputs[1]].dtype == "int4"]  # fmt: skip
    assert [lack.op for lack in built.runtimes.lacking] == dense
    assert built.runtimes.ops == len(built.graph.ops) - len(dense)


def test_four_bit_weights_stay_within_seven(float_file: Path, images: tuple[Array, Array]) -> None:
    graph = flatbuffer.read(float_file)
    samples = {graph.tensors[graph.inputs[0]].name: images[0][:16]}
    built = edgeqwt.build(float_file, calibration=samples, precision="w4a8", compensation=False)
    weights = [built.graph.tensors[op.inputs[1]].data for op in built.graph.ops if op.kind == "CONV_2D"]
    assert max(int(np.abs(w).max()) for w in weights if w is not None) == 7
    assert built.outcome is None
    assert built.choice.name == UNCOMPENSATED


def test_compensating_mlperfs_own_file_helps(mlperf_tiny: Path, float_file: Path, images: tuple[Array, Array]) -> None:
    graph = flatbuffer.read(float_file)
    samples = {graph.tensors[graph.inputs[0]].name: images[0]}
    official = mlperf_tiny / "image_classification_int8.tflite"
    result = edgeqwt.compensate(official, float_file, calibration=samples)
    wanted = outputs(graph, images[1])
    assert sqnr(outputs(result.graph, images[1]), wanted) > sqnr(outputs(result.original, images[1]), wanted)
    assert result.sizes[COMPENSATED] <= result.sizes[UNCOMPENSATED]


def test_a_larger_compensated_file_is_our_bug(built: BuildResult) -> None:
    variants = {UNCOMPENSATED: built.uncompensated, COMPENSATED: built.graph}
    with pytest.raises(InvariantError, match="another size"):
        check_free(variants, {UNCOMPENSATED: 1, COMPENSATED: 2})


def test_a_target_that_needs_tflite_micro_refuses_what_it_cannot_run(built: BuildResult) -> None:
    (profile,) = (p for p in edgeqwt.targets() if p.name == "tflm")
    if not built.runtimes.lacking:  # built for tflite: int4 there need not run in TFLite Micro
        require_runtimes(profile, built.runtimes)
    with pytest.raises(UnsupportedError, match="lacks GELU"):
        require_runtimes(profile, replace(built.runtimes, unavailable="lacks GELU"))


@pytest.mark.requires("torch", "onnx2tf")
def test_resnet20_from_pytorch(shared: Path, cifar10: Mapping[str, Array]) -> None:
    from benchmarks.models.resnet20_cifar10 import MEAN, STD, create

    def normalized(pixels: Array) -> Array:
        scaled = (pixels.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    calibration, test = (normalized(cifar10[f"{k}_images"][:n]) for k, n in (("calibration", 96), ("test", TEST)))
    built = edgeqwt.build(create(), calibration={"x": calibration})
    assert built.parity.outputs[0].max_abs <= 1e-4
    assert "NCHW became (1, 32, 32, 3) NHWC" in " ".join(built.model.notes)
    nhwc = np.ascontiguousarray(test.transpose(0, 2, 3, 1))
    wanted, found = outputs(built.prepared.graph, nhwc), outputs(built.graph, nhwc)
    assert (wanted.argmax(1) == found.argmax(1)).mean() >= 0.97
    assert built.runtimes.ok


def test_networks_that_take_seconds_for_a_sample_are_proved_on_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain()
    graph = chain.graph(conv(chain, chain.input((1, 6, 6, 4)), 4, 1))
    work = sum(multiplications(graph, op) for op in graph.ops)
    assert work > 0
    assert proof_count(graph, 32) == 32
    monkeypatch.setattr(pipeline, "PROOF_WORK", 5 * work)
    assert [proof_count(graph, wanted) for wanted in (1, 4, 32)] == [1, 4, 5]
    monkeypatch.setattr(pipeline, "PROOF_WORK", work - 1)
    assert proof_count(graph, 32) == 1


def test_little_work_is_proved_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain()
    graph = chain.graph(conv(chain, chain.input((1, 6, 6, 4)), 4, 1))
    monkeypatch.setattr(pipeline, "SHARED_WORK", 5 * sum(multiplications(graph, op) for op in graph.ops))
    assert [proof_threads(graph, count) for count in (1, 4, 5)] == [1, 1, min(5, THREADS)]
    monkeypatch.setattr(pipeline, "SHARED_WORK", 1)
    assert proof_threads(graph, 1) == 1


def test_stages_have_seconds_and_memory(built: BuildResult) -> None:
    assert built.peaks.keys() == built.seconds.keys()
    peaks = [*built.peaks.values()]
    assert peaks[0] > 50  # an interpreter with numpy has more
    assert built.peaks["judge"] >= built.peaks["prepare"]
