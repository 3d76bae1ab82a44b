"""The backends that need nothing but Python: the host, TFLite Micro, Vela."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeqwt.benchmark.bench import Options, bench
from edgeqwt.benchmark.host import HostSettings
from edgeqwt.benchmark.inputs import random_inputs
from edgeqwt.benchmark.result import BenchResult, compare, document
from edgeqwt.errors import InputError, InvariantError, ToolError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array, Graph, Op, Quantization, Tensor
from edgeqwt.profile import Npu
from edgeqwt.runtime.child import in_child
from edgeqwt.runtime.runners import InterpreterError
from tests.benchmark.test_result import valid
from tests.chain import Chain

U55 = Npu("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")
QUICK = Options(host=HostSettings(runs=7, profile=False))
NAMES = ("keyword_spotting", "visual_wake_words", "image_classification")


def adding(kind: str = "ADD", size: int = 64) -> Graph:
    """One elementwise op on int8."""
    q = Quantization.per_tensor(0.5, 0)
    tensors = tuple(Tensor(name, (1, size), "int8", quantization=q) for name in "abc")
    options = {"fusedActivationFunction": "NONE"} if kind == "ADD" else {}
    return Graph(tensors, (Op(kind, (0, 1), (2,), options),), (0, 1), (2,))


def written(graph: Graph, folder: Path, name: str = "model.tflite") -> Path:
    flatbuffer.write(graph, folder / name)
    return folder / name


def one(path: Path, where: str, npu: Npu | None = None, options: Options = QUICK) -> BenchResult:
    """A result that the schema takes."""
    (result,) = bench([path], where, npu, options)
    valid(document(result))
    return result


# -- host --------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_host_tells_latency_load_time_and_memory_of_both_families(tmp_path: Path, threads: int) -> None:
    options = Options(host=HostSettings(runs=7, threads=threads, profile=False))
    result = one(written(adding(), tmp_path), "host", options=options)
    for kernels in ("xnnpack", "reference"):
        assert 0 < result.value("latency_min", kernels) <= result.value("latency_median", kernels)
        assert result.value("latency_median", kernels) <= result.value("latency_p90", kernels)
        assert 0 < result.value("load_min", kernels) <= result.value("load_first", kernels)
        assert result.value("runs", kernels) == 7
    assert result.settings["threads"] == str(threads)
    assert (result.bytes, result.ops) == ((tmp_path / "model.tflite").stat().st_size, {"ADD": 1})


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak memory")
def test_the_peak_is_the_models_own(tmp_path: Path) -> None:
    """Three tensors of 8 MiB, next to the same with hardly anything, while this process holds 128 MiB."""
    size = 8 << 20
    held = np.ones(128 << 20, np.uint8)
    small, large = (written(adding(size=n), tmp_path, f"{n}.tflite") for n in (64, size))
    options = Options(host=HostSettings(runs=5, profile=False, kernels=("reference",)))
    found = [r.value("memory_model_peak", "reference") for r in bench([small, large], "host", None, options)]
    assert held.all()
    # Code pages that are touched first are in both, some MiB; tensors lie in one arena, and the inputs that
    # were copied in are in the process too, before the peak is forgotten.
    assert found[0] < 16 << 20
    assert 3 * size <= found[1] - found[0] + (4 << 20)
    assert found[1] < 6 * size


def test_a_slow_model_runs_fewer_times_but_five_at_least(tmp_path: Path) -> None:
    options = Options(host=HostSettings(runs=1000, seconds=0, profile=False, kernels=("xnnpack",)))
    assert one(written(adding(), tmp_path), "host", options=options).value("runs", "xnnpack") == 5


def test_what_the_reference_kernels_lack_is_a_note(tmp_path: Path) -> None:
    chain = Chain()
    x = chain.input((1, 8))
    result = one(written(chain.graph(chain.op("ELU", x)), tmp_path), "host")
    assert {figure.kernels for figure in result.figures} == {"xnnpack"}
    assert any("Not measured with reference kernels" in note and "ELU" in note for note in result.notes)


def test_time_per_op_of_a_real_model(mlperf_tiny: Path) -> None:
    path = mlperf_tiny / "image_classification_int8.tflite"
    result = one(path, "host", options=Options(host=HostSettings(runs=20, kernels=("xnnpack",))))
    assert sum(cost.kind.startswith("Convolution") for cost in result.op_costs) == 9, result.notes
    assert {cost.where for cost in result.op_costs} == {"XNNPACK", "CPU"}
    # Rounded down to microseconds each; a machine that is busy now and idle then makes the rest.
    whole = result.value("latency_median", "xnnpack")
    assert 0 < sum(cost.value for cost in result.op_costs) < 20 * whole


def test_time_per_op_of_rows_of_a_table(tmp_path: Path) -> None:
    """GATHER ends the run at a row that is not there, so that inputs must not be what memory had before."""
    chain = Chain()
    rows = chain.op("GATHER", chain.constant(np.ones((3, 8))), chain.input((1, 64), dtype="int32"), shape=(1, 64, 8))
    path = written(chain.graph(rows), tmp_path)
    for _ in range(3):
        result = one(path, "host", options=Options(host=HostSettings(runs=5, kernels=("xnnpack",))))
        assert [cost.kind for cost in result.op_costs] == ["GATHER"], result.notes


def test_a_models_latency_next_to_its_own_is_the_same(mlperf_tiny: Path) -> None:
    path = mlperf_tiny / "visual_wake_words_int8.tflite"
    found = bench([path, path], "host", None, Options(host=HostSettings(runs=100, profile=False)))
    ratios = {(r.name, r.kernels): r.ratio for r in compare(*found)}
    # Minima of 100 turns; a machine with other load has been seen to disturb them by 10 %.
    assert ratios["latency_min", "xnnpack"] == pytest.approx(1, abs=0.25)
    assert ratios["file", ""] == 1


# -- TFLite Micro ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_mlperf_tiny_gives_the_reference_kernels_bytes(mlperf_tiny: Path, name: str) -> None:
    result = one(mlperf_tiny / f"{name}_int8.tflite", "tflm")
    assert result.ok, result.checks
    assert {d.kind for d in result.differences} <= {"FULLY_CONNECTED"}  # what facts are known of
    assert all(d.known and d.largest == 1 for d in result.differences)
    for d in result.differences:
        assert f"{d.kind} #{d.op}" in result.checks[0].detail
    assert result.value("arena_32_bit", "tflm") < result.value("arena", "tflm")


def test_given_samples_are_the_ones_that_are_compared(tmp_path: Path) -> None:
    seen = []

    def samples(graph: Graph) -> Iterator[Mapping[int, Array]]:
        for k in range(3):
            seen.append(k)
            yield {t: np.full(graph.tensors[t].shape, k, np.int8) for t in graph.inputs}

    result = one(written(adding(), tmp_path), "tflm", options=replace(QUICK, samples=samples))
    assert seen == [0, 1, 2]
    assert result.settings == {"samples": "3", "inputs": "given"}
    assert result.ok


def test_an_op_that_tflite_micro_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="POW"):
        bench([written(adding("POW"), tmp_path)], "tflm")


# -- Ethos-U -----------------------------------------------------------------------------


@pytest.mark.requires("ethosu")
def test_velas_estimate_says_that_it_is_one(mlperf_tiny: Path) -> None:
    result = one(mlperf_tiny / "keyword_spotting_int8.tflite", "ethos-u55-128", U55)
    assert result.evidence == "estimated"
    assert result.value("cycles_total") == pytest.approx(89_900, rel=0.02)
    assert result.value("latency") == pytest.approx(result.value("cycles_total") / 500e6)
    assert any("not verified on hardware" in note for note in result.notes)
    assert result.ok
    assert {cost.where for cost in result.op_costs} == {"NPU"}


@pytest.mark.requires("ethosu")
def test_ops_on_the_cpu_fail_the_check(mlperf_tiny: Path) -> None:
    result = one(mlperf_tiny / "image_classification_float32.tflite", "ethos-u55-128", U55)
    assert not result.ok
    assert "0 of 16 ops on the NPU; on the CPU: Conv2D" in result.checks[0].detail


# -- what cannot be ----------------------------------------------------------------------


def test_places_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing can be benchmarked on 'edgetpu'"):
        bench([written(adding(), tmp_path)], "edgetpu")


@pytest.mark.parametrize("where", ["host", "tflm", "ethos-u55-128"])
@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_files_that_are_no_models(tmp_path: Path, where: str, content: bytes | None) -> None:
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError):
        bench([path], where, U55)


# -- the process that measures -----------------------------------------------------------


def raising(text: str) -> None:
    raise RuntimeError(text)


def bug() -> None:
    raise KeyError("x")


def test_a_child_answers_fails_or_dies() -> None:
    assert in_child(os.path.basename, "a/b") == "b"
    with pytest.raises(InterpreterError, match="because"):
        in_child(raising, "because")
    with pytest.raises(InterpreterError, match="status 3"):
        in_child(os._exit, 3)
    with pytest.raises(InvariantError, match="KeyError"):
        in_child(bug)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "float32", "bool"])
def test_random_inputs_are_seeded_and_valid(dtype: str) -> None:
    q = Quantization.per_tensor(1.0, 0) if dtype == "int8" else None
    tensors = (Tensor("x", (1, 4096), dtype, quantization=q), Tensor("y", (4096,), dtype, quantization=q))
    shape = Tensor("s", (1,), "int32", data=np.array([4096], np.int32))
    graph = Graph((*tensors, shape), (Op("RESHAPE", (0, 2), (1,)),), (0,), (1,))
    (first,), (again,), (other,) = (list(random_inputs(graph, 1, seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
    if dtype in ("int8", "uint8"):
        assert np.unique(first[0]).size == 256
    if dtype in ("int32", "int64"):
        assert set(np.unique(first[0])) == {0, 1}  # they may be indices
