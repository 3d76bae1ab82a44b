from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgeqwt.errors import InputError
from edgeqwt.report import folder as folder_module
from edgeqwt.report.folder import FILES, MODEL, PACKAGE, REPORT, SCHEMA, check_file, copy_file, whole_folder
from tests.small import tree


def make(path: Path, content: str, overwrite: bool = False) -> None:
    """What a build does with its output folder."""
    with whole_folder(path, overwrite) as work:
        (work / MODEL).write_text(content)
        (work / REPORT).write_text(json.dumps({"schema": SCHEMA}))


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as work:
        (work / MODEL).write_text("model")
        assert not (tmp_path / "out").exists()
    assert tree(tmp_path) == {"out": None, f"out/{MODEL}": b"model"}


def test_permissions_are_those_of_any_new_folder(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    make(tmp_path / "out", "model")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", "model")
    assert (tmp_path / "out" / MODEL).read_text() == "model"


def test_a_folder_of_an_earlier_build_is_replaced(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / "float.tflite").write_text("only the old build wrote this")
    make(tmp_path / "out", "new")
    assert sorted(tree(tmp_path)) == ["out", f"out/{MODEL}", f"out/{REPORT}"]
    assert (tmp_path / "out" / MODEL).read_text() == "new"


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path: Path, exists: bool) -> None:
    if exists:
        make(tmp_path / "out", "old")
    before = tree(tmp_path)

    def interrupted() -> None:
        with whole_folder(tmp_path / "out") as work:
            (work / MODEL).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_while_folders_change_places_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    make(tmp_path / "out", "old")
    before = tree(tmp_path)
    rename, calls = os.rename, iter(range(1, 9))

    def interrupted(*paths: Path) -> None:
        if next(calls) == failing:
            raise KeyboardInterrupt
        rename(*paths)

    monkeypatch.setattr(folder_module.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", "new")
    assert tree(tmp_path) == before


def test_a_signal_right_after_the_exchange_leaves_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "out", "old")
    rename, calls = os.rename, iter(range(1, 9))

    def interrupted(*paths: Path) -> None:
        rename(*paths)
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(folder_module.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", "new")
    assert (tmp_path / "out" / MODEL).read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_where_the_path_is_a_link_the_link_stays(tmp_path: Path) -> None:
    make(tmp_path / "real", "old")
    (tmp_path / "out").symlink_to("real")
    make(tmp_path / "out", "new")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real" / MODEL).read_text() == "new"


def test_a_folder_that_no_build_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out holds 'notes\.txt', which no build made") as caught:
        make(tmp_path / "out", "model")
    assert "--overwrite" in caught.value.hint
    make(tmp_path / "out", "model", overwrite=True)
    assert sorted(os.listdir(tmp_path / "out")) == [MODEL, REPORT]


@pytest.mark.parametrize("report", ["{", "[]", '{"schema": "other"}', b"\xff"])
def test_a_report_of_somebody_else_does_not_make_it_ours(tmp_path: Path, report: str | bytes) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / REPORT).write_bytes(report.encode() if isinstance(report, str) else report)
    with pytest.raises(InputError, match="no build made"):
        make(tmp_path / "out", "model")


def test_a_users_file_in_a_folder_of_ours_is_not_lost(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes\.txt'"):
        make(tmp_path / "out", "new")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_files_of_the_package_are_ours_and_others_beside_them_are_not(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    report = tmp_path / "out" / REPORT
    report.write_text(json.dumps({**json.loads(report.read_text()), "package": ["firmware/main.cc"]}))
    (tmp_path / "out" / PACKAGE / "firmware").mkdir(parents=True)
    (tmp_path / "out" / PACKAGE / "firmware" / "main.cc").write_text("ours")
    (tmp_path / "out" / PACKAGE / "build").mkdir()
    (tmp_path / "out" / PACKAGE / "build" / "firmware.elf").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'package/build/firmware\.elf'"):
        make(tmp_path / "out", "new")
    (tmp_path / "out" / PACKAGE / "build" / "firmware.elf").unlink()
    make(tmp_path / "out", "new")


def test_builds_for_several_lengths_are_ours_and_a_file_beside_them_is_not(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with whole_folder(tmp_path / "out") as work:
            for length in (32, 64):
                make(work / f"seq{length}", content)
    assert {(tmp_path / "out" / f"seq{length}" / MODEL).read_text() for length in (32, 64)} == {"new"}
    (tmp_path / "out" / "seq32" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'seq32/notes\.txt'"):
        make(tmp_path / "out", "model")


def test_what_a_build_writes_is_known_as_ours() -> None:
    assert {MODEL, REPORT} < FILES


def test_places_that_cannot_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "in" / "side").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "in" / "side")
    for path, said in [
        (tmp_path / "file", "is a file"),
        (tmp_path / "no" / "out", r"the folder .*no does not exist"),
        (tmp_path / "file" / "out", "the folder .*file does not exist"),
        (Path(), "is the working folder"),
        (tmp_path / "in", "is the working folder, or around it"),
        (Path("/proc"), "is a mount point"),
        (Path("/proc/out"), "cannot be"),  # not even root can write there
        (tmp_path / ("x" * 250), "cannot be made: File name too long"),
    ]:
        with pytest.raises(InputError, match=said):
            make(path, "model", overwrite=True)


def test_places_that_cannot_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        check_file(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        check_file(tmp_path / "no" / "out.tflite")
    check_file(tmp_path / "out.tflite")


def test_copy(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    copy_file(tmp_path / "a", tmp_path / "b")
    copy_file(tmp_path / "a", tmp_path / "a")
    assert tree(tmp_path) == {"a": b"new", "b": b"new"}
    with pytest.raises(InputError, match="cannot be written"):
        copy_file(tmp_path / "missing", tmp_path / "b")
    assert tree(tmp_path) == {"a": b"new", "b": b"new"}
