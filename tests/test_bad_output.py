"""Output that cannot be written, and files that do not belong together: reported in one line, nothing written."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeqwt as edgeqwt_
from edgeqwt.errors import InputError
from edgeqwt.graph import flatbuffer
from edgeqwt.graph.graph import Array
from tests import small
from tests.small import Command, Small


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small.write(tmp_path_factory.mktemp("small"))


@pytest.fixture
def edgeqwt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return small.command(tmp_path, monkeypatch, capsys)


# -- output ----------------------------------------------------------------------


def test_output_that_cannot_be(edgeqwt: Command, files: Small) -> None:
    (edgeqwt.folder / "file").write_text("")
    (edgeqwt.folder / "mine").mkdir()
    (edgeqwt.folder / "mine" / "notes.txt").write_text("notes")
    for output, said in [
        ("file", "file is a file"),
        ("mine", "mine holds 'notes.txt', which no build made"),
        ("file/out", "file"),  # parents are made, but not of a file
        (".", "is the working folder"),
        ("y/" * 1500, "File name too long"),  # Python's own recursion ended it
        ("/proc/out", "cannot be"),  # not even root can write there
    ]:
        assert said in edgeqwt.refused(2, "build", files.model, "-c", files.samples, "-o", output)


def test_an_error_leaves_the_previous_build(edgeqwt: Command, files: Small) -> None:
    assert edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast")[0] == 0
    np.savez("bad.npz", image=np.full((4, 8, 8, 3), np.nan, np.float32))
    edgeqwt.refused(2, "build", files.model, "-c", "bad.npz", "-o", "out")


# A limit on the size of files stands for a full disk: it stops a write in the middle, needs no rights, and
# is reported as EFBIG instead of ENOSPC.
@pytest.mark.parametrize("stopped", ["temporary file", "smallest file", "middle file", "largest file"])
def test_a_disk_that_fills_up(tmp_path: Path, files: Small, stopped: str) -> None:
    import resource

    earlier = small.process(["build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast"], tmp_path)
    assert earlier.communicate()[1] == ""
    smallest, middle, *_, largest = sorted(p.stat().st_size for p in (tmp_path / "out").iterdir() if p.is_file())
    limits = {
        "temporary file": 10,
        "smallest file": smallest - 1,
        "middle file": middle - 1,
        "largest file": largest - largest // 100,  # the report holds seconds, whose digits vary
    }
    limit = limits[stopped]
    before = small.tree(tmp_path)
    full = small.process(
        ["build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast"],
        tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    out, err = full.communicate()
    assert (full.returncode, out) == (2, ""), err
    message, hint = err.splitlines()
    assert message.startswith("edgeqwt: error: ")
    assert "File too large" in message
    assert "  hint: " in hint
    assert small.tree(tmp_path) == before


# -- other commands --------------------------------------------------------------


def test_compensate_with_files_that_do_not_fit(edgeqwt: Command, files: Small) -> None:
    assert edgeqwt("build", files.model, "-c", files.samples, "-o", "out", "--recipe", "fast")[0] == 0
    int8 = "out/model.tflite"
    wide = small.graph()
    flatbuffer.write(replace(wide, outputs=(wide.ops[0].outputs[0],)), edgeqwt.folder / "other.tflite")

    def other_weights(constants: dict[str, Array]) -> None:
        for array in constants.values():
            array[...] = np.random.default_rng(9).normal(size=array.shape)

    flatbuffer.write(small.graph(other_weights), edgeqwt.folder / "stranger.tflite")
    for reference, model, output, said in [
        ("stranger.tflite", int8, "new.tflite", "no op with these weights in the reference"),
        ("other.tflite", int8, "new.tflite", "the models' outputs differ"),
        (int8, int8, "new.tflite", "is an integer file"),
        ("missing.tflite", int8, "new.tflite", "missing.tflite does not exist"),
        (files.model, files.model, "new.tflite", "is a float file"),
        (files.model, "missing.tflite", "new.tflite", "missing.tflite does not exist"),
        (files.model, int8, f"{files.model}/new.tflite", "is a file, not a folder"),
        (files.model, int8, "out", "out is a folder"),
        (files.model, int8, files.model, "is read, too"),
        (files.model, int8, files.samples, "is read, too"),
    ]:
        command = ("compensate", model, "--reference", reference, "-c", files.samples, "-o", output)
        assert said in edgeqwt.refused(2, *command)


def test_a_repaired_file_and_its_report_are_written_both_or_none(tmp_path: Path, files: Small) -> None:
    import resource

    def repaired(output: str, **limits: object) -> tuple[int, str]:
        command = ["compensate", "out/model.tflite", "--reference", files.model, "-c", files.samples, "-o", output]
        process = small.process(command, tmp_path, **limits)
        said = process.communicate()[1]
        return process.returncode, said

    build = ["build", files.model, "-c", files.samples, "-o", "out", "--recipe", "plain"]
    assert small.process(build, tmp_path).communicate()[1] == ""
    assert repaired("whole.tflite") == (0, "")
    before = small.tree(tmp_path)
    page = (tmp_path / "whole.report.html").read_bytes()
    assert hashlib.sha256((tmp_path / "whole.tflite").read_bytes()).hexdigest().encode() in page
    limit = len(page) - len(page) // 50  # it says how long things took
    status, said = repaired(
        "new/cut.tflite", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert (status, "cut.report.html cannot be written" in said) == (2, True), said
    assert small.tree(tmp_path) == before


def test_no_command_writes_over_what_it_reads(edgeqwt: Command, files: Small) -> None:
    before = [(edgeqwt.folder / name).read_bytes() for name in (files.model, files.samples)]
    link = edgeqwt.folder / "link.npz"
    link.symlink_to(edgeqwt.folder / files.samples)
    for command in [
        ("build", files.model, "-c", files.samples, "-o", files.samples, "--overwrite"),
        ("compare", files.model, files.model, "-c", files.samples, "--report", "link.npz"),
        ("export", files.model, "-o", files.model),
    ]:
        assert "is read, too: it would be lost" in edgeqwt.refused(2, *command)
    assert before == [(edgeqwt.folder / name).read_bytes() for name in (files.model, files.samples)]
    with pytest.raises(InputError, match="is read, too"):
        edgeqwt_.export(edgeqwt.folder / files.model, edgeqwt.folder / files.model)


def test_compare_with_files_that_do_not_fit(edgeqwt: Command, files: Small) -> None:
    wide = small.graph()
    flatbuffer.write(replace(wide, outputs=(wide.ops[0].outputs[0],)), edgeqwt.folder / "other.tflite")
    for second, said in [("other.tflite", "the models' outputs differ"), ("missing.tflite", "does not exist")]:
        assert said in edgeqwt.refused(2, "compare", files.model, second, "-c", files.samples)
