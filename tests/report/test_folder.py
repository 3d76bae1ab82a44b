from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from edgeqwt.disk import noted, whole_file, write_whole, written
from edgeqwt.errors import InputError
from edgeqwt.report import folder as folder_module
from edgeqwt.report.folder import check_file, whole_folder
from edgeqwt.report.manifest import FILES, MANIFEST, MODEL, PACKAGE, REPORT, SCHEMA
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
    assert tree(tmp_path).keys() == {"out", f"out/{MODEL}", f"out/{MANIFEST}"}
    assert (tmp_path / "out" / MODEL).read_text() == "model"


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
    with whole_folder(tmp_path / "out") as work:
        (work / "float.tflite").write_text("only the old build wrote this")
        (work / REPORT).write_text(json.dumps({"schema": SCHEMA}))
    make(tmp_path / "out", "new")
    assert tree(tmp_path).keys() == {"out", f"out/{MODEL}", f"out/{REPORT}", f"out/{MANIFEST}"}
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
    """Where the system cannot exchange them in one step."""
    make(tmp_path / "out", "old")
    before = tree(tmp_path)
    rename, calls = os.rename, iter(range(1, 9))

    def interrupted(*paths: Path) -> None:
        if next(calls) == failing:
            raise KeyboardInterrupt
        rename(*paths)

    monkeypatch.setattr(folder_module, "_exchanged", lambda a, b: False)
    monkeypatch.setattr(folder_module.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", "new")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("exchange", [True, False])
def test_a_signal_while_folders_change_places_comes_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    make(tmp_path / "out", "old")
    exchanged = folder_module._exchanged

    def signalled(a: Path, b: Path) -> bool:
        signal.raise_signal(signal.SIGINT)
        done = exchange and exchanged(a, b)
        signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(folder_module, "_exchanged", signalled)
    start = noted()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", "new")
    assert (tmp_path / "out" / MODEL).read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]
    assert written(start) == [tmp_path / "out"]


@pytest.mark.parametrize("exchange", [True, False])
def test_folders_change_places_in_one_step_where_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """Something looks without end whether there is a whole folder, on the one way and on the other."""
    if not exchange:
        monkeypatch.setattr(folder_module, "_exchanged", lambda a, b: False)
    make(tmp_path / "out", "0")
    stop, seen, absent = threading.Event(), set(), []

    def look() -> None:
        while not stop.is_set():
            try:
                seen.add((tmp_path / "out" / MODEL).read_text())
            except FileNotFoundError:
                absent.append(1)

    watcher = threading.Thread(target=look)
    watcher.start()
    for k in range(20):
        make(tmp_path / "out", str(k))
    stop.set()
    watcher.join()
    assert len(seen) > 1
    if exchange:
        assert not absent


def test_what_a_killed_build_moved_away_is_put_back_by_the_next(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.edgeqwt-old")  # between the two renames
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out" / MODEL).read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_what_killed_builds_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    mine = (".out.edgeqwt-notes", ".out.edgeqwt-0123456", ".other.edgeqwt-01234567", ".out.01234567")
    for name in (*mine, ".out.edgeqwt-01234567", ".out.edgeqwt-89abcdef"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MODEL).write_text("half")
    (tmp_path / ".out.edgeqwt-lock").write_text("1\n")
    make(tmp_path / "out", "new")
    assert sorted(os.listdir(tmp_path)) == sorted([*mine, "out"])


def test_an_edited_output_that_a_killed_build_had_moved_away_is_kept(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / MODEL).write_text("mine")
    (tmp_path / "out").rename(tmp_path / ".out.edgeqwt-01234567")
    make(tmp_path / "out", "new")
    assert (tmp_path / "out.new" / MODEL).read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["out", "out.new"]


def test_a_second_build_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    with whole_folder(tmp_path / "out") as work:
        (work / MODEL).write_text("first")
        for path in (tmp_path / "out", tmp_path / "link"):
            with pytest.raises(
                InputError, match=rf"another build is writing to .* \(process {os.getpid()}\)"
            ) as caught:
                make(path, "second")
        assert "Wait" in caught.value.hint
        make(tmp_path / "elsewhere", "third")
    make(tmp_path / "out", "fourth")
    assert (tmp_path / "out" / MODEL).read_text() == "fourth"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "link", "out"]


@pytest.mark.parametrize("name", [MODEL, REPORT])
def test_an_edited_file_is_not_lost(tmp_path: Path, name: str) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(InputError, match=rf"holds '{name}', which was edited since its build") as caught:
        make(tmp_path / "out", "new")
    assert "--overwrite" in caught.value.hint
    assert (tmp_path / "out" / name).read_text() == "mine"
    make(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / MODEL).read_text() == "new"


def test_a_file_that_was_taken_away_is_no_loss(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / MODEL).unlink()
    make(tmp_path / "out", "new")
    assert (tmp_path / "out" / MODEL).read_text() == "new"


@pytest.mark.parametrize("exchange", [True, False])
def test_what_comes_while_a_build_runs_stays_and_the_build_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(folder_module, "_exchanged", lambda a, b: False)
    make(tmp_path / "out", "old")

    def build() -> None:
        with whole_folder(tmp_path / "out") as work:
            (work / MODEL).write_text("new")
            (tmp_path / "out" / "notes.txt").write_text("mine")

    with pytest.raises(InputError, match=r"holds 'notes\.txt'.*the new build is in .*out\.new"):
        build()
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out.new" / MODEL).read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["out", "out.new"]


def test_the_manifest_is_one_that_sha256sum_reads(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as work:
        (work / PACKAGE / "a b").mkdir(parents=True)
        (work / MODEL).write_text("model")
        (work / PACKAGE / "a b" / "c").write_text("")
    done = subprocess.run(["sha256sum", "--check", MANIFEST], cwd=tmp_path / "out", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{MODEL}: OK\n{PACKAGE}/a b/c: OK\n")


def test_links_in_a_folder_of_ours_are_somebodys(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / "results").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(InputError, match="holds 'results', which no build made"):
        make(tmp_path / "out", "new")


def test_a_folder_from_before_there_were_manifests_is_replaced(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / MANIFEST).unlink()
    make(tmp_path / "out", "new")
    (tmp_path / "out" / MANIFEST).write_text("somebody else's")
    with pytest.raises(InputError, match=rf"holds '{MANIFEST}', which no build made"):
        make(tmp_path / "out", "new")


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
    assert sorted(os.listdir(tmp_path / "out")) == [MANIFEST, MODEL, REPORT]


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


@pytest.mark.parametrize("manifest", [True, False])
def test_files_of_the_package_are_ours_and_others_beside_them_are_not(tmp_path: Path, manifest: bool) -> None:
    def build() -> None:
        with whole_folder(tmp_path / "out") as work:
            (work / PACKAGE / "firmware").mkdir(parents=True)
            (work / PACKAGE / "firmware" / "main.cc").write_text("ours")
            (work / REPORT).write_text(json.dumps({"schema": SCHEMA, "package": ["firmware/main.cc"]}))

    build()
    if not manifest:
        (tmp_path / "out" / MANIFEST).unlink()
    (tmp_path / "out" / PACKAGE / "build").mkdir()
    (tmp_path / "out" / PACKAGE / "build" / "firmware.elf").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'package/build/firmware\.elf'"):
        make(tmp_path / "out", "new")
    (tmp_path / "out" / PACKAGE / "build" / "firmware.elf").unlink()
    build()


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
        (tmp_path / "file" / "out", "file is a file, not a folder"),
        (tmp_path / "file" / "a" / "out", "file is a file, not a folder"),
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
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, not a folder"):
        check_file(tmp_path / "file" / "out.tflite")
    check_file(tmp_path / "out.tflite")
    check_file(tmp_path / "no" / "such" / "out.tflite")


def test_folders_that_output_is_to_lie_in_are_made_and_go_where_it_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "a" / "b" / "out"):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a" / "b" / "out.txt"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    make(tmp_path / "a" / "b" / "out", "model")
    write_whole(tmp_path / "a" / "c" / "out.txt", b"x")
    assert (tmp_path / "a" / "b" / "out" / MODEL).read_text() == "model"
    assert [path.name for path in (tmp_path / "a").rglob("*.txt")] == ["out.txt"]
