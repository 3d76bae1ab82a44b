"""The Python API on a small model."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeqwt
from edgeqwt.errors import EdgeqwtError, InputError, RecipeError, TargetError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array
from edgeqwt.pipeline import BuildResult
from edgeqwt.profile import Budget
from edgeqwt.recipe.recipe import load
from edgeqwt.report.document import document
from edgeqwt.widths.precision import Mixed
from tests import reports, small
from tests.chain import NONE, Chain, noise
from tests.small import ROOT, Small, images


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small.write(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def built(files: Small) -> BuildResult:
    return edgeqwt.build(files.model, calibration=files.samples)


def content(result: BuildResult) -> bytes:
    """The file that was kept."""
    return flatbuffer.to_bytes(result.graph)


# -- build -----------------------------------------------------------------------


def test_a_result_is_a_few_lines_and_a_file(built: BuildResult, tmp_path: Path) -> None:
    shown = repr(built)
    assert len(shown) < 1000
    assert "dB of what varies" in shown
    assert f"kept: {built.choice.name}" in shown
    built.save(tmp_path / "model.tflite")
    assert (tmp_path / "model.tflite").read_bytes() == built.to_bytes() == content(built)


def dicts(count: int = 16) -> list[dict[str, Array]]:
    """The samples of `small.write`, one by one."""
    return [{"image": image[None]} for image in images(count)]


def generator() -> Iterator[dict[str, Array]]:
    yield from dicts()


def function() -> Iterator[Array]:
    """Without names: the model has one input."""
    return (image[None] for image in images(16))


@pytest.mark.parametrize(
    "calibration",
    [{"image": images(16)}, images(16), images(16).astype(np.float64), dicts(), generator, function],
    ids=["mapping", "array", "float64", "list", "generator function", "function"],
)
def test_every_kind_of_samples_gives_the_same_bytes(files: Small, built: BuildResult, calibration: Any) -> None:
    assert content(edgeqwt.build(files.model, calibration=calibration)) == content(built)


def test_a_second_build_gives_the_same_bytes_and_the_same_report(files: Small, built: BuildResult) -> None:
    again = edgeqwt.build(files.model, calibration=files.samples)
    assert content(again) == content(built)
    first, second = document(built), document(again)
    for measured in ("seconds", "peak_mib", "layer_costs"):
        assert first.pop(measured).keys() == second.pop(measured).keys()
    assert first == second


def test_one_thread_gives_the_same_bytes(files: Small, built: BuildResult) -> None:
    code = (
        "import hashlib, os, edgeqwt; from edgeqwt.graph import flatbuffer; from edgeqwt.runtime import parallel;"
        f"r = edgeqwt.build({str(files.model)!r}, calibration={str(files.samples)!r});"
        "print(parallel.THREADS, hashlib.sha256(flatbuffer.to_bytes(r.graph)).hexdigest())"
    )
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert done.stdout.split() == ["1", hashlib.sha256(content(built)).hexdigest()]


def test_the_output_folder_holds_what_the_result_holds(files: Small, built: BuildResult, tmp_path: Path) -> None:
    result = edgeqwt.build(files.model, calibration=files.samples, output=tmp_path / "out", work=tmp_path / "work")
    assert (tmp_path / "out" / "model.tflite").read_bytes() == content(built)
    assert (tmp_path / "out" / "float.tflite").read_bytes() == flatbuffer.to_bytes(built.prepared.graph)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(document(result)))
    assert (tmp_path / "work").is_dir()


def test_four_bits(files: Small) -> None:
    result = edgeqwt.build(files.model, calibration=files.samples, precision="w4a8")
    weights = [t.data for t in result.graph.tensors if t.data is not None and t.dtype in ("int4", "int8")]
    assert len(weights) == 2
    assert max(np.abs(w.astype(int)).max() for w in weights) == 7


def test_without_compensation(files: Small, built: BuildResult) -> None:
    result = edgeqwt.build(files.model, calibration=files.samples, compensation=False)
    assert result.outcome is None
    assert "compensated" not in result.variants
    assert flatbuffer.to_bytes(result.uncompensated) == flatbuffer.to_bytes(built.uncompensated)
    assert content(result) == flatbuffer.to_bytes(result.variants[result.choice.name])


def test_float_borders(files: Small, built: BuildResult) -> None:
    result = edgeqwt.build(files.model, calibration=files.samples, float_io=True)
    kinds = [op.kind for op in result.graph.ops]
    assert (kinds[0], kinds[-1]) == ("QUANTIZE", "DEQUANTIZE")
    assert kinds[1:-1] == [op.kind for op in built.graph.ops]
    assert {result.graph.tensors[t].dtype for t in (*result.graph.inputs, *result.graph.outputs)} == {"float32"}


def test_sequences_are_cut_and_padded_in_calibration_and_evaluation(tmp_path: Path) -> None:
    chain = Chain()
    words, axes = chain.constant(noise(50, 8, seed=1), "words"), chain.constant(np.array([1]), "axes")
    x = chain.op("GATHER", words, chain.input((1, 12), "ids", "int32"), axis=0, batchDims=0)
    x = chain.op("MEAN", x, axes, keepDims=False)
    weights = chain.constant(noise(4, 8, seed=2), "weights")
    flatbuffer.write(
        chain.graph(chain.op("FULLY_CONNECTED", x, weights, -1, keepNumDims=False, **NONE)), tmp_path / "m.tflite"
    )
    rng = np.random.default_rng(0)
    short, long = rng.integers(1, 50, (16, 10), np.int32), rng.integers(1, 50, (8, 14), np.int32)
    padded, cut, labels = np.pad(short, ((0, 0), (0, 2))), long[:, :12], np.arange(8) % 4
    by_hand, found = (
        edgeqwt.build(
            tmp_path / "m.tflite", calibration=fit, evaluation={"ids": judged, "labels": labels}, sequence_length=length
        )
        for fit, judged, length in (({"ids": padded}, cut, None), (short, long, 12))
    )
    assert content(found) == content(by_hand)
    assert found.scores == by_hand.scores
    assert (*found.model.notes, *by_hand.model.notes) == (
        "sequences are 12 long: longer ones were cut, shorter ones padded with 0, in 'ids' (axis 1)",
    )


def test_metric_as_a_function(files: Small) -> None:
    def spread(outputs: dict[str, Array], extras: dict[str, Array]) -> dict[str, float]:
        assert extras["labels"].shape == (8,)
        return {"spread": float(np.ptp(outputs["classes"]))}

    result = edgeqwt.build(files.model, calibration=files.samples, metric=spread, evaluation=files.labelled)
    assert set(result.scores) == {"float", "plain", "uncompensated", "compensated"}
    assert result.scores["float"]["spread"] == pytest.approx(result.scores["uncompensated"]["spread"], abs=0.05)


def test_fewer_samples(files: Small) -> None:
    fewer = edgeqwt.build(files.model, calibration=files.samples, samples=6)
    assert fewer.samples == 6
    assert content(fewer) == content(edgeqwt.build(files.model, calibration={"image": images(6)}))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"precision": "w9a8"}, RecipeError, "w9a8"),
        ({"precision": "w8a4"}, RecipeError, "w8a4"),
        ({"ranges": "guess"}, RecipeError, "no range rule 'guess'"),
        ({"recipe": "secret"}, RecipeError, "no recipe 'secret'"),
        ({"samples": 0}, InputError, "0 samples"),
        ({"metric": "top1"}, InputError, "needs evaluation data"),
        ({"target": "toaster"}, InputError, "no target 'toaster'"),
        ({"calibration": 3}, InputError, "cannot come from an object of type int"),
        ({"calibration": []}, InputError, "no samples"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_that_do_not_fit(files: Small, options: dict[str, Any], kind: type[EdgeqwtError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        edgeqwt.build(files.model, **{"calibration": files.samples, **options})
    assert caught.value.hint


def test_a_recipe_made_in_python_is_checked_too(files: Small) -> None:
    recipe = load("balanced")
    wrong = replace(recipe, verify=replace(recipe.verify, runtime_samples=0))
    with pytest.raises(RecipeError, match="runtime_samples = 0"):
        edgeqwt.build(files.model, calibration=files.samples, recipe=wrong)


def test_a_recipe_file_with_an_unknown_key_is_named(files: Small, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[verify]\nweights = 8\n")
    with pytest.raises(RecipeError, match=r"mine\.toml \[verify\]: unknown key 'weights'") as caught:
        edgeqwt.build(files.model, calibration=files.samples, recipe=str(tmp_path / "mine.toml"))
    assert "runtime_samples" in caught.value.hint


@pytest.mark.requires("torch", "onnx2tf")
def test_a_torch_module_with_arrays(tmp_path: Path) -> None:
    from tests.models import SmallCnn, seeded

    samples = {"image": np.random.default_rng(0).standard_normal((12, 3, 16, 16)).astype(np.float32)}
    result = edgeqwt.build(seeded(SmallCnn), calibration=samples, target="tflite", output=tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "conversion.log",
        "details.json",
        "edgeqwt.sha256",
        "float.tflite",
        "model.tflite",
        "model_explorer",
        "package",
        *(["plain.tflite"] if result.choice.name != "plain" else []),
        "report.html",
        "report.json",
    ]
    assert all(output.sqnr_db > 25 for output in (end.closeness for end in result.quality["uncompensated"].outputs))
    assert any("NHWC" in note for note in result.model.notes)


# -- other functions -------------------------------------------------------------


def test_a_target_that_does_not_take_a_model_stops_the_build(files: Small, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="over its budget on tflm") as caught:
        edgeqwt.build(
            files.model, calibration=files.samples, recipe="fast", target="tflm", output=tmp_path / "out",
            budget=Budget(flash=100),
        )  # fmt: skip
    assert "CONV_2D" in caught.value.message
    assert not (tmp_path / "out").exists()


def test_check_and_bench_a_built_file(files: Small, tmp_path: Path) -> None:
    edgeqwt.build(files.model, calibration=files.samples, recipe="fast", output=tmp_path / "out")
    findings, done = edgeqwt.check(tmp_path / "out" / "model.tflite", "tflite")
    assert {finding.severity for finding in findings} <= {"warning"}
    assert done == ()
    results = edgeqwt.bench([tmp_path / "out" / "model.tflite"] * 2, "tflm")
    assert [result.ok for result in results] == [True, True]
    assert results[0].figures == results[1].figures


def test_mixed_precision_holds_its_limit(files: Small) -> None:
    sizes = {name: len(flatbuffer.to_bytes(edgeqwt.build(
        files.model, calibration=files.samples, recipe="fast", precision=name
    ).graph)) for name in ("w4a8", "w8a8")}  # fmt: skip
    limit = (sizes["w4a8"] + sizes["w8a8"]) // 2
    result = edgeqwt.build(
        files.model, calibration=files.samples, recipe="fast", precision="mixed", mixed=Mixed(max_size=limit)
    )
    assert len(flatbuffer.to_bytes(result.graph)) <= limit
    assert result.assignment is not None
    assert result.assignment.bytes <= limit
    assert reports.problems(document(result)) == []


@pytest.mark.parametrize("arguments", [{"precision": "mixed"}, {"mixed": Mixed(max_size=9)}])
def test_mixed_precision_and_its_limit_go_together(files: Small, arguments: dict[str, Any]) -> None:
    with pytest.raises((RecipeError, InputError), match="limit"):
        edgeqwt.build(files.model, calibration=files.samples, **arguments)


def test_targets() -> None:
    names = [profile.name for profile in edgeqwt.targets()]
    assert names == sorted(names)
    assert {"tflite", "tflm", "tflm-cortex-m55", "ethos-u55-128", "ethos-u85-512", "edgetpu"} < set(names)


def test_inspect(files: Small) -> None:
    description = edgeqwt.inspect(files.model)
    assert description.size_bytes == files.model.stat().st_size
    assert [op.kind for op in description.ops] == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]


def test_compare(files: Small, built: BuildResult, tmp_path: Path) -> None:
    flatbuffer.write(built.graph, tmp_path / "int8.tflite")
    found = edgeqwt.compare(files.model, tmp_path / "int8.tflite", calibration=files.samples, samples=4)
    assert found.samples == 4
    (output,) = found.outputs
    assert 20 < output.closeness.sqnr_db < np.inf


def test_compensate(files: Small, tmp_path: Path) -> None:
    plain = edgeqwt.build(files.model, calibration=files.samples, recipe="plain", precision="w4a8", accept=True)
    flatbuffer.write(plain.graph, tmp_path / "int8.tflite")
    result = edgeqwt.compensate(tmp_path / "int8.tflite", files.model, calibration=files.samples)
    before, after = (result.quality[name].outputs[0].closeness.sqnr_db for name in ("uncompensated", "compensated"))
    assert after > before + 1
    assert [op.kind for op in result.graph.ops] == [op.kind for op in plain.graph.ops]
    assert os.listdir(tmp_path) == ["int8.tflite"]
