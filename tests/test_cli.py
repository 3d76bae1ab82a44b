"""The command line as a user meets it: what it prints and where, and its exit codes."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeqwt import cli, errors
from edgeqwt.graph import flatbuffer
from tests import reports, small
from tests.small import Command, Small


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small.write(tmp_path_factory.mktemp("small"))


@pytest.fixture
def edgeqwt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return small.command(tmp_path, monkeypatch, capsys)


def strict_json(text: str) -> Any:
    """JSON as its standard has it, without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


# -- commands --------------------------------------------------------------------


def test_build(edgeqwt: Command, files: Small) -> None:
    code, out, err = edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--evaluation", files.labelled)
    assert (code, err) == (0, "")
    assert sorted(os.listdir("out")) == [
        "details.json", "edgeqwt.sha256", "float.tflite", "model.tflite", "model_explorer", "package", "report.html",
        "report.json",
    ]  # fmt: skip
    report = reports.read(Path("out"))
    assert report["bytes"][report["kept"]["name"]] == Path("out/model.tflite").stat().st_size
    assert set(report["scores"]["float"]) == {"top1"}
    assert "out/model.tflite" in out
    assert max(len(line) for line in out.splitlines()) <= 100
    assert "\x1b" not in out
    assert flatbuffer.read(Path("out/model.tflite")).tensors[0].dtype == "int8"


def test_build_options_reach_the_build(edgeqwt: Command, files: Small) -> None:
    options = ["--precision", "w3a8", "--ranges", "minmax", "--no-compensation", "--float-io", "--target", "tflm"]
    code, _, err = edgeqwt("build", files.model, "-c", files.samples, "-o", "out", *options)
    assert (code, err) == (0, "")
    report = reports.read(Path("out"))
    assert report["recipe"]["precision"]["weight_bits"] == 3
    names = [technique["name"] for technique in report["recipe"]["techniques"]]
    assert names[0] == "minmax_ranges"
    assert "cwac" not in names
    assert report["target"]["name"] == "tflm"
    model = flatbuffer.read(Path("out/model.tflite"))
    assert [model.tensors[t].dtype for t in (*model.inputs, *model.outputs)] == ["float32", "float32"]


@pytest.mark.parametrize("lengths", ["64", "32,64"])
def test_lengths_of_a_model_without_sequences(edgeqwt: Command, files: Small, lengths: str) -> None:
    call = ("build", files.model, "-c", files.samples, "-o", "out", "--sequence-length", lengths)
    assert "no input holds sequences" in edgeqwt.refused(2, *call)


@pytest.mark.parametrize("lengths", ["", "0", "-3", "64,", "1e2", "64,64"])
def test_what_is_no_length(edgeqwt: Command, files: Small, lengths: str) -> None:
    call = ("build", files.model, "-c", files.samples, "-o", "out", f"--sequence-length={lengths}")
    assert f"--sequence-length {lengths!r} is no length" in edgeqwt.refused(2, *call)


def test_images_for_calibration_go_with_arrays_for_evaluation(edgeqwt: Command, files: Small) -> None:
    from PIL import Image

    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(f"photos/{i}.png")
    images = [part for key in ("size=8x8", "mean=0.5,0.5,0.5", "layout=NHWC") for part in ("--image", key)]
    code, _, err = edgeqwt("build", files.model, "-c", "photos", *images, "-o", "out", "--evaluation", files.labelled)
    assert (code, err) == (0, "")


def test_compensate_in_place_and_elsewhere_is_the_same(edgeqwt: Command, files: Small) -> None:
    options = ["--precision", "w4a8", "--recipe", "plain", "--accept"]  # poor enough that there is something to repair
    assert edgeqwt("build", files.model, "-c", files.samples, "-o", "out", *options)[0] == 0
    plain = Path("out/model.tflite").read_bytes()
    Path("copy.tflite").write_bytes(plain)
    rest = ["--reference", files.model, "-c", files.samples]
    code, out, err = edgeqwt("compensate", "out/model.tflite", *rest, "-o", "new.tflite")
    assert (code, err) == (0, "")
    assert "new.tflite" in out
    assert edgeqwt("compensate", "copy.tflite", *rest, "-o", "copy.tflite")[0] == 0
    repaired = Path("new.tflite").read_bytes()
    assert Path("copy.tflite").read_bytes() == repaired
    assert Path("out/model.tflite").read_bytes() == plain != repaired
    assert len(repaired) == len(plain)
    assert sorted(os.listdir()) == [
        "copy.report.html", "copy.tflite", "new.report.html", "new.tflite", "out"
    ]  # fmt: skip


def test_where_nothing_helps_compensate_gives_the_file_as_it_was(
    edgeqwt: Command, files: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--no-compensation")[0] == 0
    # A byte behind the flatbuffer: readers pass over it, and no writer of ours would put it there.
    foreign = Path("out/model.tflite").read_bytes() + b"\0"
    Path("foreign.tflite").write_bytes(foreign)
    Path("never.toml").write_text(
        'techniques = ["mse_ranges", { name = "cwac", gain = false, offset = false, rewrite_scales = false }]'
    )
    command = ("compensate", "foreign.tflite", "--reference", files.model, "-c", files.samples, "-o", "new.tflite")
    code, _, err = edgeqwt(*command, "--recipe", "never.toml")
    assert (code, err) == (0, "")
    assert Path("new.tflite").read_bytes() == foreign


def test_compare(edgeqwt: Command, files: Small) -> None:
    assert edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast")[0] == 0
    code, out, err = edgeqwt("compare", files.model, "out/model.tflite", "-c", files.samples)
    assert (code, err) == (0, "")
    assert "features" in out
    assert "CONV_2D" in out
    assert max(len(line) for line in out.splitlines()) <= 100
    _, out, _ = edgeqwt("compare", files.model, "out/model.tflite", "-c", files.samples, "--json")
    found = strict_json(out)
    assert [row["name"] for row in found["outputs"]] == ["classes"]
    assert found["outputs"][0]["closeness"]["sqnr_db"] > 20  # 8-bit steps are about 1/256 of the values
    assert found["samples"] == 16


@pytest.mark.parametrize(("first", "second"), [("float", "float"), ("int8", "int8"), ("int8", "float")])
def test_compare_takes_any_two_files_and_equal_ones_give_valid_json(
    edgeqwt: Command, files: Small, first: str, second: str
) -> None:
    assert edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast")[0] == 0
    paths = {"float": files.model, "int8": Path("out/model.tflite")}
    code, out, err = edgeqwt("compare", paths[first], paths[second], "-c", files.samples, "--json")
    assert (code, err) == (0, "")
    closeness = [row["closeness"] for row in (*strict_json(out)["tensors"], *strict_json(out)["outputs"])]
    assert all((c["max_abs"] == 0) == (first == second) for c in closeness)


def test_inspect(edgeqwt: Command, files: Small) -> None:
    code, out, err = edgeqwt("inspect", files.model)
    assert (code, err) == (0, "")
    assert "CONV_2D" in out
    assert max(len(line) for line in out.splitlines()) <= 100
    _, out, _ = edgeqwt("inspect", files.model, "--json")
    assert [op["kind"] for op in strict_json(out)["ops"]] == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]


def test_targets(edgeqwt: Command) -> None:
    code, out, err = edgeqwt("targets")
    assert (code, err) == (0, "")
    assert {"tflite", "tflm"} <= {line.split(":")[0] for line in out.splitlines()}
    verified = [line for line in out.splitlines() if "the NPU computes cannot be run here" in line]
    assert len(verified) == 2  # once for all neighbours of one family
    assert max(len(line) for line in out.splitlines()) <= 100


# -- devices ---------------------------------------------------------------------


def test_check_tells_findings_and_ends_with_7_where_the_target_refuses(edgeqwt: Command, files: Small) -> None:
    code, out, err = edgeqwt("check", files.model, "--target", "tflm-cortex-m4")
    assert (code, err, out) == (0, "", "tflm-cortex-m4: nothing stands in the way.\n")
    code, out, err = edgeqwt("check", files.model, "--target", "tflm-cortex-m4", "--ram", "0.1KiB")
    assert (code, err) == (7, "")
    assert "error" in out
    assert out.splitlines()[-1] == "tflm-cortex-m4: 1 error, 0 warnings."
    code, out, err = edgeqwt("check", files.model, "--target", "edgetpu", "--json")
    assert (code, err) == (7, "")
    (finding,) = strict_json(out)["findings"]
    assert (finding["rule"], finding["fix"]) == ("per_tensor_dense", "per-tensor")


def test_check_fixes_a_built_file(edgeqwt: Command, files: Small) -> None:
    edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast")
    assert edgeqwt("check", "out/model.tflite", "--target", "edgetpu")[0] == 7
    code, out, err = edgeqwt("check", "out/model.tflite", "--target", "edgetpu", "--fix", "-o", "fixed.tflite")
    assert (code, err) == (0, "")
    assert "fixed         FULLY_CONNECTED's weights have one scale: 'logits'." in out
    assert edgeqwt("check", "fixed.tflite", "--target", "edgetpu")[0] == 0
    for half in (["--fix"], ["--output", "other.tflite"]):
        assert "--fix --output" in edgeqwt.refused(2, "check", "out/model.tflite", "--target", "edgetpu", *half)


def test_bench_prints_and_writes_the_same(edgeqwt: Command, files: Small) -> None:
    edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast")
    model = "out/model.tflite"
    code, out, err = edgeqwt("bench", model, "--on", "tflm-cortex-m4", "--compare", model, "--output", "bench.json")
    assert (code, err) == (0, "")
    message = strict_json((edgeqwt.folder / "bench.json").read_text("utf-8"))
    assert {ratio["ratio"] for ratio in message["compared"]["ratios"]} == {1.0}
    (arena,) = [figure["value"] for figure in message["figures"] if figure["name"] == "arena"]
    assert f"{arena:,.0f} B" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--on", "edgetpu"], "nothing can be benchmarked on 'edgetpu'"),
        (["--on", "mars"], "nothing can be benchmarked on 'mars'"),
        (["--on", "tflm", "--output", "."], "is a folder"),
        (["--on", "android"], "needs LiteRT's benchmark_model"),
        (["--on", "qemu"], "is no ELF program"),
    ],
)
def test_bench_that_cannot_be(edgeqwt: Command, files: Small, arguments: list[str], said: str) -> None:
    assert said in edgeqwt.refused(2, "bench", files.model, *arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--ram", "0"], 2, "more than nothing"),
        (["--ram", "1TiB"], 2, "'1TiB'; write it as"),
        (["--target", "tflm-cortex-m4", "--max-cycles", "5"], 2, "nothing here can tell the cycles"),
        (["--target", "tflm-cortex-m4", "--ram", "100"], 7, "the activations alone are over the budget"),
        (["--target", "tflm-cortex-m4", "--ram", "1KiB"], 7, "RAM: "),
        (["--target", "tflm-cortex-m4", "--flash", "1kB"], 7, "Flash: "),
    ],
)
def test_budgets_that_cannot_be_kept(
    edgeqwt: Command, files: Small, arguments: list[str], code: int, said: str
) -> None:
    call = ("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast")
    assert said in edgeqwt.refused(code, *call, *arguments)


@pytest.mark.requires("ethosu")
def test_a_package_for_an_npu_and_what_vela_made_of_the_model(edgeqwt: Command, files: Small) -> None:
    call = ("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast", "--target", "ethos-u55-128")
    code, out, err = edgeqwt(*call, "--max-cycles", "1000000")
    assert (code, err) == (0, "")
    assert "ops run on the NPU." in out
    assert "not verified on hardware" in " ".join(out.split())
    for arguments in (("check", "--target", "tflm"), ("bench", "--on", "host"), ("bench", "--on", "ethos-u55-128")):
        command, *options = arguments
        message = edgeqwt.refused(2, command, "out/package/model_vela.tflite", *options)
        assert "was compiled by Vela for an Ethos-U" in message
    assert "Cycles: " in edgeqwt.refused(7, *call, "--max-cycles", "1")


# -- errors ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/x"),
            2,
            "No space left on device (/tmp/x)\n  hint: Free space",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "Permission denied (x)\n  hint: Choose"),
        (MemoryError(), 1, "memory ran out"),
        (errors.ToolError("onnx2tf", 1, "its\nlog", "Look."), 5, "its\nlog\nedgeqwt: error: onnx2tf failed"),
        (errors.InputError("two\nlines", "and\nmore"), 2, "edgeqwt: error: two lines\n  hint: and more\n"),
        (ZeroDivisionError("oops"), 70, "ZeroDivisionError: oops (EDGEQWT_DEBUG=1 shows where)\n  hint: This is a bug"),
        (KeyboardInterrupt(), 130, "edgeqwt: interrupted; nothing was written\n"),
        (cli.Stopped(signal.SIGTERM), 143, "edgeqwt: interrupted; nothing was written\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_line_and_code(
    edgeqwt: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("edgeqwt.api_targets.targets", fail)
    found, out, err = edgeqwt("targets")
    assert (found, out) == (code, "")
    assert said in err


def test_a_bug_shows_where_on_request(edgeqwt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeqwt.api_targets.targets", lambda: 1 // 0)
    monkeypatch.setenv("EDGEQWT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        edgeqwt("targets")
